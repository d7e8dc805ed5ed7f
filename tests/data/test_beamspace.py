"""Beam space: where the scan lines of a clip lie, estimated or told, and the way there and back."""

import json
import time
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from clip_files import edit_index, state, write_index, write_video

from lus_lightning.cli import main
from lus_lightning.data import beamspace
from lus_lightning.data.adapters import choose
from lus_lightning.data.beamspace import (
    clip_estimates,
    clip_geometries,
    clip_geometry,
    estimate_geometry,
    geometry_from_row,
    scan_convert,
    to_beam,
)
from lus_lightning.data.geometry import LINES, SAMPLES, Geometry, scan_maps
from lus_lightning.data.index import build_index
from lus_lightning.data.lit import SIDES, Outline, lit_region
from lus_lightning.data.ray import longest_ray
from lus_lightning.data.readers import read_clip
from lus_lightning.data.shared import CLIPS, agreed
from lus_lightning.data.store import keep_text
from lus_lightning.simulator.render import render_clip
from lus_lightning.simulator.scanner import SCANNERS

SEEDS = range(40, 52)
TEXTS = ("Lung  MI 0.7", "L 12cm  Exam 4", "SIM  45 %")


@pytest.fixture(scope="module")
def rendered(draw):
    """Simulated clips of each scanner with text burned in: geometry and frames."""

    def clips(scanner):
        for seed in SEEDS:
            scene, settings = draw(seed, scanners=(scanner,))
            written = replace(settings, text=TEXTS[seed % 3])
            yield scene.geometry, render_clip(scene, written, np.arange(12) / 8).frames

    return {scanner: list(clips(scanner)) for scanner in SCANNERS}


def _inside(geometry):
    return scan_maps(geometry)[0] > -1e3


def _errors(true, found, seen):
    """Apex (pixels), half angle (degrees) and outer radius (pixels; 0 where it is not seen); linear: edges in the picture (pixels)."""
    (column, row), (found_column, found_row) = true.apex_px(), found.apex_px()
    mm = true.mm_per_px
    if true.probe == "linear":
        low, high = -0.5, true.width - 0.5
        sides = [np.clip(column + s * true.aperture / mm, low, high) - (found_column + s * found.aperture) for s in (-1, 1)]
        bottom = min(row + true.depth_mm / mm, high) - (found_row + found.depth_mm)
        return max(abs(max(row, low) - found_row), *map(abs, sides)), 0.0, abs(bottom) if "outer" in seen else 0.0
    radius = found.radius_mm + found.depth_mm - (true.radius_mm + true.depth_mm) / mm
    angle = np.degrees(found.aperture - true.aperture)
    return np.hypot(column - found_column, row - found_row), abs(angle), abs(radius) if "outer" in seen else 0.0


@pytest.mark.parametrize("scanner", SCANNERS)
def test_apex_angle_and_radius_are_found_beside_burned_in_text(rendered, scanner):
    good = refused = 0
    for true, frames in rendered[scanner]:
        found = estimate_geometry(frames, true.probe)
        if found.geometry is None:
            assert found.reason
            refused += 1
        else:
            apex, angle, radius = _errors(true, found.geometry, found.seen)
            good += apex <= 2 and angle <= 1 and radius <= 2
    assert refused <= 2
    assert good >= len(SEEDS) - refused - 1


def test_estimates_are_quick_and_the_same_again(rendered):
    frames = rendered["sim-cart"][0][1]
    start = time.process_time()
    first = estimate_geometry(frames)
    assert time.process_time() - start < 1
    assert estimate_geometry(frames) == first


def test_a_picture_four_times_as_large_has_the_same_sector_four_times_as_large(rendered):
    _, frames = rendered["sim-chip"][3]
    small = estimate_geometry(frames).geometry
    large = estimate_geometry(np.stack([cv2.resize(f, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST) for f in frames])).geometry
    np.testing.assert_allclose((np.array(large.apex_px()) + 0.5) / 4 - 0.5, small.apex_px(), atol=1)
    assert abs(np.degrees(large.aperture - small.aperture)) < 0.5


@pytest.mark.parametrize("level", [12, 60])
def test_a_grey_background_is_no_light(rendered, level):
    for true, frames in rendered["sim-chip"][:3]:
        grey = np.where(_inside(true), frames, level).astype(np.uint8)
        apex, angle, radius = _errors(true, (found := estimate_geometry(grey)).geometry, found.seen)
        assert apex < 3
        assert angle < 1
        assert radius < 3


def test_what_shows_no_edges_is_refused_with_a_reason():
    rng = np.random.default_rng(1)
    noise = rng.integers(20, 200, (8, 160, 160)).astype(np.uint8)
    clouds = noise * (cv2.GaussianBlur(rng.standard_normal((160, 160)), (0, 0), 12) > 0)
    for frames, told in ((noise * 0, "nothing lights up"), (noise, "lit from border to border"), (clouds.astype(np.uint8), "")):
        found = estimate_geometry(frames, "convex")
        assert found.geometry is None
        assert told in found.reason
        assert found.reason
        assert found.confidence < 0.5


@pytest.mark.parametrize("axes", [(0.4, 0.4), (0.2, 0.4), (0.5, 0.5), (0.6, 0.6), (0.55, 0.45)])
@pytest.mark.parametrize("probe", [None, "convex"])
def test_a_disc_or_an_ellipse_of_light_is_refused(axes, probe):
    light = np.zeros((224, 224), np.uint8)
    cv2.ellipse(light, (112, 112), (int(axes[0] * 224), int(axes[1] * 224)), 0, 0, 360, 1, -1)
    found = estimate_geometry(np.random.default_rng(0).integers(30, 200, (8, 224, 224)).astype(np.uint8) * light, probe)
    assert found.geometry is None
    assert found.reason


@pytest.fixture(scope="module")
def one_ray():
    """Where a sector lies of which the picture's border leaves the left ray alone, and pictures with bright scan lines and without."""
    geometry = Geometry("convex", 0.6, 90.0, 300.0, 224, 224, 1.0, 100.0, -45.0, scaled=False)
    rng = np.random.default_rng(3)
    speckle = rng.integers(60, 120, (6, LINES, SAMPLES))
    lines = np.repeat(rng.integers(60, 255, 16), 8)[:, None] / 255
    return geometry, {name: scan_convert((speckle * gain).astype(np.uint8), geometry) for name, gain in (("lines", lines), ("even", 1.0))}


def test_a_sector_of_one_ray_has_its_apex_where_the_lines_within_meet(one_ray):
    true, pictures = one_ray
    found = estimate_geometry(pictures["lines"])
    assert {"left", "lines"} <= set(found.seen)
    assert "right" not in found.seen
    apex, angle, _ = _errors(true, found.geometry, ())
    assert apex < 2
    assert angle < 0.5
    mirrored = estimate_geometry(pictures["lines"][:, :, ::-1]).geometry
    np.testing.assert_allclose(mirrored.apex_px(), (223 - found.geometry.apex_px()[0], found.geometry.apex_px()[1]), atol=1)


def test_a_sector_of_one_ray_without_lines_is_refused(one_ray):
    found = estimate_geometry(one_ray[1]["even"])
    assert found.geometry is None
    assert found.reason


def test_the_outer_arc_is_where_faint_noise_ends_and_not_what_is_bright(rendered):
    for true, frames in rendered["sim-cart"][:3]:
        sample, line = scan_maps(true)
        faint = np.random.default_rng(0).integers(4, 8, frames.shape) * _inside(true)
        ragged = sample > (0.7 + 0.1 * np.sin(line / 5)) * SAMPLES
        found = estimate_geometry(np.where(ragged, faint, np.maximum(frames, faint)).astype(np.uint8))
        assert "outer" in found.seen
        assert _errors(true, found.geometry, found.seen)[2] < 2


@pytest.fixture(scope="module")
def one_probe(draw, tmp_path_factory):
    """Ten clips of one sector, then one lit along its left ray only, one dark, one lit from border to border, one of half the angle."""
    root = tmp_path_factory.mktemp("one_probe")
    geometry = Geometry("convex", 0.6, 90.0, 170.0, 224, 224, 1.0, 85.0, 2.0, scaled=False)
    sample, line = scan_maps(geometry)
    noise = np.random.default_rng(4).integers(60, 200, (CLIPS + 4, 6, 224, 224)).astype(np.uint8)
    dark = {"ray": (line > 25) | (sample > 140), "nothing": sample > -1e4, "zoomed": np.zeros((224, 224), bool)}
    rows = []
    for n, name in enumerate([*map(str, range(CLIPS)), *dark, "narrow"]):
        frames = noise[n] * (sample > -1e3)
        if name == "zoomed":
            frames = noise[n]
        elif name == "narrow":
            frames = noise[n] * (scan_maps(replace(geometry, aperture=0.35))[0] > -1e3)
        elif name in dark:
            frames = frames * ~dark[name]
        path = write_video(root / f"{name}.mp4", frames.astype(np.uint8))
        rows.append({"clip": name, "path": str(path), "probe": "convex", "scanner": "one", "height": 224, "width": 224})
    return geometry, pd.DataFrame(rows)


def test_a_clip_that_shows_one_ray_takes_the_sector_that_the_others_of_its_probe_show(one_probe, tmp_path):
    true, clips = one_probe
    alone = clip_estimates(clips[clips["clip"] == "ray"], tmp_path / "alone", 1)
    assert alone[0].geometry is None
    found = dict(zip(clips["clip"], clip_estimates(clips, tmp_path / "cache", 1), strict=True))
    assert found["ray"].shared == "sector"
    assert "right" not in found["ray"].seen
    apex, angle, radius = _errors(true, found["ray"].geometry, ("outer",))
    assert apex < 2
    assert angle < 0.5
    assert radius < 3  # of noise in a video, whose ripples light up beyond the arc
    assert [name for name in ("nothing", "zoomed", "narrow") if found[name].geometry or not found[name].reason] == []
    assert "half its opening seems to be 20 degrees, not 34 degrees as in the probe's other clips" in found["narrow"].reason
    assert {found[str(n)].shared for n in range(CLIPS)} == {""}


def test_a_dark_clip_takes_the_sector_of_its_own_zoomed_exam_if_one_of_its_rays_lies_on_that(one_probe, tmp_path):
    usual, clips = one_probe
    zoomed = Geometry("convex", usual.aperture, 126.0, 238.0, 224, 224, 1.0, 119.0, -20.0, scaled=False)
    sample, line = scan_maps(zoomed)
    noise = np.random.default_rng(6).integers(60, 200, (6, 224, 224)).astype(np.uint8)
    parts = {
        "whole": sample > -1e3,
        "strip": (sample > -1e3) & (line < 22) & (sample < 60),
        "middle": (np.abs(line - 50) < 9) & (sample > 0),
    }
    paths = {name: str(write_video(tmp_path / f"{name}.mp4", (noise * lit).astype(np.uint8))) for name, lit in parts.items()}
    more = pd.DataFrame([{"clip": name, "path": path} for name, path in paths.items()])
    table = pd.concat([clips, more.assign(probe="convex", scanner="one", height=224, width=224)], ignore_index=True)
    names = list(table["clip"])

    def found(exam):
        exams = np.where(table["clip"].isin([*parts, "narrow"]), exam, table["clip"])
        return dict(zip(names, clip_estimates(table.assign(exam=exams), tmp_path / "cache", 1), strict=True))

    alone = found(table["clip"])
    assert [name for name in names if alone[name].geometry is None] == ["nothing", "zoomed", "narrow", "strip", "middle"]
    together = found("zoomed exam")
    assert [name for name in names if together[name].geometry is None] == ["nothing", "zoomed", "narrow", "middle"]
    assert {name: together[name].reason for name in ("narrow", "middle")} == {name: alone[name].reason for name in ("narrow", "middle")}
    assert together["strip"].shared == "exam"
    assert together["strip"].confidence <= together["whole"].confidence
    strip, whole = (together[name].geometry for name in ("strip", "whole"))
    assert (*strip.apex_px(), strip.aperture) == pytest.approx((*whole.apex_px(), whole.aperture))
    assert _errors(zoomed, strip, ())[0] < 7  # as far as the clip that told it is off


def test_what_is_shared_does_not_depend_on_workers_and_is_remembered(one_probe, tmp_path, monkeypatch):
    _, clips = one_probe
    first = clip_estimates(clips, tmp_path / "one", 1)
    assert clip_estimates(clips[::-1], tmp_path / "two", 2)[::-1] == first
    monkeypatch.setattr(beamspace, "frames_of", lambda path: pytest.fail("decoded again"))
    assert clip_estimates(clips, tmp_path / "one", 1) == first
    known, reasons = clip_geometries(clips, tmp_path / "one", 1)
    assert known == {row: e.geometry for row, e in enumerate(first) if e.geometry}
    assert reasons == {name: e.reason for name, e in zip(clips["clip"], first, strict=True) if not e.geometry}


def test_too_few_clips_or_too_many_angles_share_nothing():
    sector = Geometry("convex", 0.6, 90.0, 170.0, 224, 224, 1.0, 85.0, scaled=False)
    assert agreed([sector] * (CLIPS - 1)) is None
    assert agreed([sector] * CLIPS).sectors == ((111.5, -85.0, 0.6, 260.0, 90.0),)
    assert agreed([sector] * CLIPS + [replace(sector, aperture=0.5)] * 2).angle == 0.6
    assert agreed([sector] * CLIPS + [replace(sector, aperture=0.5)] * 3) is None


def test_a_picture_full_of_light_is_linear_only_if_the_probe_is_said_to_be():
    noise = np.random.default_rng(1).integers(20, 200, (8, 100, 140)).astype(np.uint8)
    assert estimate_geometry(noise).geometry is None
    found = estimate_geometry(noise, "linear")
    assert _inside(found.geometry).all()
    assert found.seen == ()


def test_a_picture_full_of_light_is_linear_if_its_lines_run_side_by_side_and_not_if_they_meet(one_ray):
    rng = np.random.default_rng(2)
    speckle, gains = rng.integers(60, 120, (6, 100, 140)), rng.integers(60, 255, 14).repeat(10) / 255
    found = estimate_geometry((speckle * gains).astype(np.uint8))
    assert found.geometry.probe == "linear"
    assert _inside(found.geometry).all()
    assert found.seen == ("lines",)
    middle = one_ray[1]["lines"][:, 60:, 90:200]
    assert (middle.max(axis=0) > 0).all()
    assert estimate_geometry(middle).geometry is None


def test_a_rectangle_ends_where_few_rows_do_if_nothing_goes_on_beyond(rendered):
    true, frames = next((g, f) for g, f in rendered["sim-linear"] if _free_left(g) > 10)
    left = round(_free_left(true))
    shadow = frames.copy()
    shadow[:, 60:, : left + 30] = 0
    found = estimate_geometry(shadow).geometry
    assert found.probe == "linear"
    assert abs(found.apex_px()[0] - found.aperture - _free_left(true)) < 1.5


def _free_left(true):
    return true.apex_px()[0] - true.aperture / true.mm_per_px


@pytest.mark.parametrize("across", [0, 60])
def test_writing_goes_on_in_its_line_whatever_it_is_written_over(across):
    noise = np.random.default_rng(5).integers(20, 120, (8, 120, 200)).astype(np.uint8)
    noise[:, :, :across] = 0
    text = np.zeros((120, 200), np.uint8)
    cv2.putText(text, "L 12cm Exam 4 2D", (3, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 190, 1)
    written = lit_region(np.where(text > 0, text, noise), 8).written
    ends_on = np.flatnonzero(written.any(axis=0)).max(initial=0)
    last = np.flatnonzero(text.any(axis=0)).max()
    if across:  # begins on plain ground
        assert ends_on >= last
        assert written[text > 0].mean() > 0.95
        assert not written[:85].any()
    else:
        assert not written.any()


def test_a_ray_has_the_known_angle_or_is_none():
    rows = np.arange(10.0, 60)
    none = np.zeros((0, 2)), np.zeros(0, bool)

    def ray(angle):
        points = dict.fromkeys(SIDES, none[0]) | {"left": np.stack([90 - np.tan(angle) * rows, rows], axis=1)}
        firm = dict.fromkeys(SIDES, none[1]) | {"left": np.ones(len(rows), bool)}
        return longest_ray(Outline(points, firm, (0, 0, 223, 223), {}), "left", 224, 0.6)

    assert ray(0.6).angle == ray(0.62).angle == 0.6
    assert abs(ray(0.62).point @ [1, np.tan(0.62)] - 90) < 0.5
    assert ray(0.75) is None


@pytest.mark.parametrize("scanner", SCANNERS)
def test_there_and_back_differs_by_less_than_two_grey_levels(rendered, scanner):
    for true, frames in rendered[scanner]:
        again = scan_convert(to_beam(frames, true), true)
        differs = np.abs(again.astype(int) - frames)[:, _inside(true)]
        assert differs.mean() < 2


def test_masks_go_there_by_nearest_neighbour_so_that_no_bit_is_mixed(draw):
    scene, settings = draw(3, illness=0.7, scanners=("sim-cart",))
    clip = render_clip(scene, settings, np.zeros(1))
    beam = to_beam(clip.mask, scene.geometry, nearest=True)
    assert set(np.unique(beam)) <= set(np.unique(clip.mask))
    assert ((beam > 0) == (clip.beam_mask > 0)).mean() > 0.97


def test_a_row_of_a_simulated_index_tells_the_geometry_it_was_rendered_with(tiny_study):
    table = build_index(tiny_study).table
    for row in table.head(4).to_dict("records"):
        geometry = geometry_from_row(row)
        np.testing.assert_allclose(geometry.apex_px(), (row["geometry_apex_column"], row["geometry_apex_row"]), atol=1e-3)
        assert geometry.scaled
        lit = read_clip(tiny_study / row["path"]).frames.max(axis=0) > 40
        assert (lit & ~cv2.dilate(_inside(geometry).astype(np.uint8), np.ones((5, 5))).astype(bool)).mean() < 0.02


def test_a_row_without_geometry_tells_none_and_one_without_scale_is_in_pixels():
    row = {"probe": "convex", "height": 100, "width": 120, "mm_per_px": np.nan}
    assert geometry_from_row(row) is None
    given = {"geometry_aperture": 0.5, "geometry_radius_mm": 50.0, "geometry_depth_mm": 90.0, "geometry_top_mm": 40.0}
    assert geometry_from_row(row | given) == Geometry("convex", 0.5, 50, 90, 100, 120, 1.0, 40, 0.0, scaled=False)
    assert geometry_from_row(row | given | {"mm_per_px": 0.5}).scaled


def test_the_geometry_of_a_clip_is_estimated_once_and_a_damaged_memory_made_again(rendered, tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", rendered["sim-cart"][2][1])
    first = clip_geometry(path, {"probe": None}, tmp_path / "cache")
    assert first.geometry is not None
    with monkeypatch.context() as patched:
        patched.setattr(beamspace, "frames_of", lambda path: pytest.fail("decoded again"))
        assert clip_geometry(path, {"probe": None}, tmp_path / "cache") == first
    (known,) = (tmp_path / "cache" / "geometries").iterdir()
    known.write_bytes(known.read_bytes()[:40])
    assert clip_geometry(path, {"probe": None}, tmp_path / "cache") == first
    for other in ({"geometry": {"probe": "convex"}}, {"reason": "of another version"}):
        keep_text(known, json.dumps(other))
        assert clip_geometry(path, {"probe": None}, tmp_path / "cache") == first


PROBLEMS = {
    "an aperture in degrees": ("geometry_aperture", 34.0, "column `geometry_aperture` is 34; it is half the opening angle in radians"),
    "no depth": ("geometry_depth_mm", 0.0, "column `geometry_depth_mm` is 0; give a positive number"),
    "a word": ("geometry_top_mm", "top", "column `geometry_top_mm` is 'top'; give a finite number"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_wrong_geometry_in_the_table_is_one_sentence(study, capsys, problem):
    column, value, sentence = PROBLEMS[problem]
    table = pd.read_csv(study / "index.csv")
    write_index(study, table.assign(**{column: pd.Series([0.5] * len(table), dtype=object)}))
    edit_index(study, 2, column, value)
    with pytest.raises(SystemExit):
        main(["index", str(study)])
    assert sentence in capsys.readouterr().err


def test_the_command_writes_a_table_and_a_sheet_and_tells_what_is_refused(rendered, tmp_path, capsys):
    root = tmp_path / "clips"
    root.mkdir()
    for n, (_, frames) in enumerate([*rendered["sim-cart"][:2], *rendered["sim-linear"][:1]]):
        write_video(root / f"c{n}.mp4", frames)
    write_video(root / "dots.mp4", np.random.default_rng(0).integers(0, 255, (6, 64, 64)).astype(np.uint8))
    names = ["c0", "c1", "c2", "dots"]
    write_index(root, pd.DataFrame({"clip": names, "path": [f"{n}.mp4" for n in names], "patient": names}))
    before = state(root)
    main(["beams", str(root), "--out", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out" / "beams.csv")
    told = capsys.readouterr().out
    assert table["estimated"].tolist() == [True, True, True, False]
    assert table["probe"].tolist()[:3] == ["convex", "convex", "linear"]
    assert "3 of 4 clips estimated, 1 refused" in told
    assert f"refused, 1: {table['reason'][3]}\n    dots\n" in told
    sheet = cv2.imread(str(tmp_path / "out" / "beams.png")).astype(int)
    assert [(tile[..., 2] - tile[..., 1] > 200).sum() > 50 for tile in np.split(sheet, 10, axis=1)[:4]] == [True, True, True, False]
    assert state(root) == before


def test_the_command_never_writes_into_the_data(tiny_study, capsys):
    with pytest.raises(SystemExit):
        main(["beams", str(tiny_study), "--out", str(tiny_study / "out")])
    assert "lies in the data folder, which is never written to" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "share"), [("covid_blues", 0.95), ("pocus", 0.9)])
def test_most_real_clips_are_estimated_and_the_others_say_why(request, name, share, tmp_path):
    root = request.getfixturevalue(name)
    rows = choose(root, None).read(root)[0].iloc[::12].to_dict("records")
    found = [clip_geometry(root / row["path"], row, tmp_path) for row in rows]
    estimated = [e for e in found if e.geometry]
    assert len(estimated) >= share * len(found) - 1
    assert np.median([e.overlap for e in estimated]) >= 0.95
    assert all(e.reason for e in found if not e.geometry)
