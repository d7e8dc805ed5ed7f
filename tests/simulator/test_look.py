"""What a pocket scanner's pictures show of a lung besides (`scanner.Look`)."""

from dataclasses import fields, replace

import numpy as np
import pytest
import yaml
from command_lines import EXPERIMENTS

from lus_lightning.labels import MASK_CLASSES
from lus_lightning.scoring.pleura import Rule
from lus_lightning.simulator.clips import study_patient, study_scene
from lus_lightning.simulator.layers import facing
from lus_lightning.simulator.profile import profile
from lus_lightning.simulator.render import render_beam
from lus_lightning.simulator.scanner import HIDING_SCANNERS, Look
from lus_lightning.simulator.studies import find_study

NOW = np.zeros(1)
POCKET = Look(
    facing_deg=8, uneven_db=3, stripes_db=-12, haze_db=10, haze_reach=2, clutter_db=10,
    rib_edge_lines=5, rib_level=0.1, b_edge_mm=0.6, looks=4,
)  # fmt: skip
BIT = {name: 1 << i for i, name in enumerate(MASK_CLASSES)}


def _beam(scene, settings, look):
    return render_beam(scene, replace(settings, look=look), NOW)[0][0].astype(float)


def _bare(scene, tilt=0.0):
    """Nothing but a level or tilted pleura over an aerated lung."""
    none = np.zeros(0)
    b_lines = replace(scene.b_lines, x_mm=none, width_mm=none, level_db=none, decay_mm=none, phase=none, threshold=none)
    spots = replace(scene.consolidations, x_mm=none, width_mm=none, depth_mm=none, air=none)
    flat = {"flatness": 0.0, "ripples": np.zeros((0, 3)), "indents": np.zeros((0, 3)), "breaks": np.zeros((0, 2))}
    pleura = replace(scene.pleura, depth_mm=0.2 * scene.geometry.depth_mm, tilt=tilt, **flat)
    return replace(scene, pleura=pleura, b_lines=b_lines, consolidations=spots, ribs=np.zeros((0, 3)), distractors=np.zeros((0, 4)),
                   effusion_mm=0.0)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_a_look_in_which_all_is_seen_changes_pictures_and_no_mask(draw, seed):
    scene, settings = draw(seed, scanners=("sim-handheld",))
    plain, shown = (render_beam(scene, replace(settings, look=look), NOW) for look in (Look(), POCKET))
    np.testing.assert_array_equal(plain[1], shown[1])
    assert np.abs(plain[0].astype(float) - shown[0]).mean() > 2


@pytest.mark.parametrize("seed", range(6))
def test_stripes_lie_below_the_pleura_of_aerated_lung_alone(draw, clean, seed):
    scene, settings = draw(seed, illness=0.6, scanners=("sim-handheld",))
    scene = replace(scene, effusion_mm=0.0)
    settings = clean(settings)
    more = _beam(scene, settings, Look(stripes_db=-6)) - _beam(scene, settings, Look())
    lines, depths = profile(scene, NOW), scene.geometry.sample_depths_mm()
    below = depths[None] > lines.pleura_mm[0][:, None] + 3
    sick = (lines.b_line | lines.broken | ~lines.visible)[0]
    deep_inside = np.convolve(sick, np.ones(9), "same") == 9
    aerated = np.convolve(sick, np.ones(9), "same") == 0
    assert np.abs(more[depths[None] < lines.pleura_mm[0][:, None] - 3]).max() == 0
    if aerated.any():
        assert more[below & aerated[:, None]].mean() > 5
    if deep_inside.any():
        assert np.abs(more[below & deep_inside[:, None]]).mean() < 1


def test_a_pleura_is_seen_where_the_beam_meets_it_squarely(draw, clean):
    scene, settings = draw(3, scanners=("sim-handheld",))
    level, tilted = _bare(scene), _bare(scene, tilt=0.2)
    np.testing.assert_allclose(facing(profile(level, NOW), POCKET), 1, atol=1e-3)
    slope_deg = np.degrees(np.arctan(0.2))
    np.testing.assert_allclose(facing(profile(tilted, NOW), POCKET)[0, 8:-8], np.exp(-0.5 * (slope_deg / 8) ** 2), rtol=0.02)
    assert (facing(profile(tilted, NOW), Look()) == 1).all()

    def line(scene):
        beam, mask = render_beam(scene, replace(clean(settings), look=replace(POCKET, stripes_db=-np.inf, haze_db=0)), NOW)
        return beam[0][(mask[0] & BIT["pleural_line"]) > 0].mean()

    assert line(level) > line(tilted) + 10


@pytest.mark.parametrize("seed", range(12))
def test_what_no_annotator_sees_is_in_no_mask_and_the_rest_stays(draw, seed):
    scene, settings = draw(seed, illness=0.7, scanners=("sim-handheld",))
    whole, part = (render_beam(scene, replace(settings, look=replace(POCKET, unseen_db=db)), NOW)[1][0] for db in (-np.inf, -6.0))
    lung = BIT["pleural_line"] | BIT["a_line"] | BIT["b_line"]
    np.testing.assert_array_equal(whole & ~np.uint8(lung), part & ~np.uint8(lung))
    gone = (whole != part).any(axis=1)
    assert (part[gone] & lung == 0).all()
    oblique = facing(profile(scene, NOW), POCKET)[0] < 10 ** (-12 / 20)
    assert (part[oblique] & lung == 0).all()


def test_compounding_four_looks_halves_the_contrast_of_speckle(draw, clean):
    scene, settings = draw(1, scanners=("sim-handheld",))
    settings = replace(clean(settings), persistence=0.0, dynamic_range_db=120, gain_db=-30)
    spread = []
    for looks in (1, 4):
        level_db = _beam(_bare(scene), settings, Look(looks=looks))[:, 100:250] * 120 / 255
        power = 10 ** (level_db / 10)
        spread.append(np.median(power.std(axis=0) / power.mean(axis=0)))
    assert spread[1] / spread[0] == pytest.approx(0.5, abs=0.12)


def test_every_part_of_a_pocket_scanners_look_is_drawn_within_its_range():
    study = find_study("munoz-handheld", scanners=("sim-pocket",))
    ranges = HIDING_SCANNERS["sim-pocket"].look
    assert set(ranges) == {f.name for f in fields(Look)}
    looks = [study_patient(study, n)[1].look for n in range(30)]
    for name, (low, high) in ranges.items():
        drawn = [getattr(look, name) for look in looks]
        assert len(set(drawn)) > 1
        assert low <= min(drawn) <= max(drawn) <= high


def test_the_handheld_study_shows_both_views_and_machines_and_other_studies_keep_a_plain_look():
    study = find_study("munoz-handheld")
    seen = {(study_patient(study, n)[1].scanner, study_scene(study, n, 0, 0)[0].orientation) for n in range(40)}
    assert seen == {(s, v) for s in study.scanners for v in study.orientations}
    for name in ("munoz", "xing", "four-signs"):
        assert study_patient(find_study(name), 0)[1].look == Look()


def test_the_handheld_overlays_name_the_study_and_numbers_of_the_rule():
    data, model = (yaml.safe_load((EXPERIMENTS / f"with/{name}.yaml").read_text()) for name in ("handheld-munoz", "handheld-rule-munoz"))
    assert find_study(data["data"]["init_args"]["study"]).masks
    Rule(**model["model"]["init_args"]["rule"])
