from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from lus_lightning.labels import MASK_CLASSES
from lus_lightning.simulator.profile import facts, profile
from lus_lightning.simulator.render import render_beam, render_clip

BIT = {name: 1 << i for i, name in enumerate(MASK_CLASSES)}


def _healthy(scene, a_lines):
    none = np.zeros(0)
    level = {"tilt": 0.0, "flatness": 0.0, "ripples": np.zeros((0, 3)), "indents": np.zeros((0, 3)), "breaks": np.zeros((0, 2))}
    b_lines = replace(scene.b_lines, x_mm=none, width_mm=none, level_db=none, decay_mm=none, phase=none, threshold=none)
    pleura = replace(scene.pleura, depth_mm=0.2 * scene.geometry.depth_mm, **level)
    return replace(scene, pleura=pleura, b_lines=b_lines, ribs=np.zeros((0, 3)), distractors=np.zeros((0, 4)), effusion_mm=0.0,
                   a_lines=a_lines, haze_db=-60, clutter_db=-70)  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_lines_lie_one_pleural_depth_apart_within_one_sample(draw, clean, seed):
    scene, settings = draw(seed, illness=0.0, scanners=("sim-cart", "sim-handheld"))
    scene = _healthy(scene, a_lines=-4.0)
    beam = render_beam(scene, clean(settings), np.zeros(1))[0][0]
    line = gaussian_filter1d(beam.astype(float).mean(axis=0), 1)
    depth = profile(scene, np.zeros(1)).wall_mm.mean() / scene.geometry.sample_mm
    found = []
    for k in range(1, 5):
        around = round(k * depth - 0.5)
        if around + 6 < len(line):
            peak = around - 6 + int(np.argmax(line[around - 6 : around + 7]))
            before, at, after = line[peak - 1 : peak + 2]
            found.append(peak + 0.5 * (before - after) / (before - 2 * at + after))
    assert len(found) >= 3
    assert np.abs(np.diff(found) - depth).max() <= 1


def test_b_line_masks_are_brighter_than_what_lies_beside_them(draw, clean):
    brighter = []
    for seed in range(40):
        scene, settings = draw(seed, illness=0.4, scanners=("sim-cart", "sim-handheld", "sim-chip"))
        beam, mask = render_beam(scene, clean(settings), np.zeros(1))
        depths, line = scene.geometry.sample_depths_mm(), profile(scene, np.zeros(1))
        near = (depths > line.pleura_mm[0][:, None] + 4) & (depths < line.pleura_mm[0][:, None] + 30)
        inside = near & ((mask[0] & BIT["b_line"]) > 0)
        beside = near & (mask[0] & ~np.uint8(BIT["a_line"]) == 0)
        if inside.sum() > 100 and beside.sum() > 100:
            brighter.append(beam[0][inside].mean() - beam[0][beside].mean())
    assert len(brighter) > 15
    assert np.mean(np.array(brighter) > 0) > 0.95
    assert np.median(brighter) > 10


@pytest.mark.parametrize("seed", range(20))
def test_b_lines_lie_below_the_pleura_and_reach_the_bottom(draw, seed):
    scene, settings = draw(seed, illness=0.6)
    mask = render_beam(scene, settings, np.arange(3) / 5)[1]
    b = (mask & BIT["b_line"]) > 0
    lines = profile(scene, np.arange(3) / 5)
    first = np.where(b.any(axis=2), b.argmax(axis=2), 256) + 0.5
    assert (first * scene.geometry.sample_mm > lines.pleura_mm).all()
    last = scene.geometry.sample_depths_mm()[-1]
    np.testing.assert_array_equal(b[..., -1], lines.b_line & lines.visible & (lines.pleura_mm + lines.consolidation_mm < last))


@pytest.mark.parametrize("seed", range(60))
def test_the_affected_share_of_the_masks_is_the_scenes(draw, seed):
    scene, settings = draw(seed)
    scene = replace(scene, consolidations=replace(scene.consolidations, depth_mm=np.zeros_like(scene.consolidations.depth_mm)))
    seconds = np.arange(5) / 2
    mask = render_beam(scene, settings, seconds)[1]
    visible = ~((mask & BIT["rib_shadow"]) > 0).any(axis=2)
    measured = (((mask & BIT["b_line"]) > 0).any(axis=2) & visible).sum(axis=1) / np.maximum(visible.sum(axis=1), 1)
    shift = scene.motion.slide_mm * np.sin(scene.motion.angle(seconds)) + scene.motion.drift_mm_per_s * seconds
    ends = scene.half_view_mm
    x = np.linspace(-ends, ends, 128)
    for t in range(len(seconds)):
        shaded = np.zeros(128, bool)
        for centre, half, _ in scene.ribs:
            shaded |= np.abs(x - centre - scene.motion.drift_mm_per_s * seconds[t]) <= half
        hit = np.zeros(128, bool)
        b = scene.b_lines
        for n in range(len(b.x_mm)):
            if np.sin(scene.motion.angle(seconds[t]) + b.phase[n]) > b.threshold[n]:
                hit |= np.abs(x - shift[t] - b.x_mm[n]) <= b.width_mm[n] / 2
        assert measured[t] == pytest.approx((hit & ~shaded).sum() / max((~shaded).sum(), 1), abs=1e-9)
    edges = len(scene.b_lines.x_mm) + len(scene.ribs)
    assert np.abs(measured - facts(scene, seconds).b_share).max() <= 2 / 128 * edges / max(visible.mean(), 0.2) + 1e-9


def test_a_scene_renders_to_the_same_bytes_and_its_inputs_stay_as_they_were(draw):
    scene, settings = draw(3, illness=0.7)
    ribs = scene.ribs.copy()
    first, second = (render_clip(scene, settings, np.arange(11) / 10) for _ in range(2))
    for name in ("beam", "beam_mask", "frames", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(ribs, scene.ribs)
    assert first.frames.shape == (11, 224, 224)
    assert first.frames.std() > 5


def test_rib_shadows_are_darker_and_only_in_longitudinal_views(draw, clean):
    differences = []
    for seed in range(30):
        scene, settings = draw(seed, illness=0.5, scanners=("sim-cart", "sim-handheld"))
        beam, mask = render_beam(scene, clean(settings), np.zeros(1))
        shaded = (mask[0] & BIT["rib_shadow"]) > 0
        assert shaded.any() == (len(scene.ribs) > 0 and scene.orientation == "longitudinal")
        if shaded.any():
            depths, line = scene.geometry.sample_depths_mm(), profile(scene, np.zeros(1))
            under = depths > line.wall_mm[0][:, None] + 3
            differences.append(beam[0][under & ~shaded].mean() - beam[0][under & shaded].mean())
    assert np.mean(np.array(differences) > 0) > 0.9


def test_the_lung_slides_while_the_ribs_stay(draw):
    scene, _ = draw(5, illness=0.5)
    scene = replace(scene, motion=replace(scene.motion, drift_mm_per_s=0.0, slide_mm=6.0))
    seconds = np.arange(20) / 5
    lines = profile(scene, seconds)
    assert np.ptp(lines.lung_x_mm[:, 64]) > 6
    assert (lines.visible == lines.visible[0]).all()
