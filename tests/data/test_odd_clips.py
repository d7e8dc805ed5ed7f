"""Clips that are no single grey B-mode: what lies beside the picture is left out, or the clip is refused for the right reason."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from clip_files import write_index

from lus_lightning.cli import main
from lus_lightning.data.estimate import estimate_geometry
from lus_lightning.data.geometry import Geometry, scan_maps
from lus_lightning.data.layout import LEANING, STEERED, STRIP, TWO_PICTURES, UPSIDE_DOWN
from lus_lightning.data.pixels import Told
from lus_lightning.data.readers import frames_of
from lus_lightning.data.shown import Colours

FAN = Geometry("convex", 0.55, 60.0, 150.0, 180, 260, 1.0, 45.0, scaled=False)


def _noise(height, width):
    return np.random.default_rng(1).integers(60, 200, (8, height, width)).astype(np.uint8)


@pytest.fixture(scope="module")
def fan():
    return _noise(180, 260) * (scan_maps(FAN)[0] > -1e3)


def _beside(frames, other, gap=8):
    """Two clips of one height beside each other on a dark screen."""
    return np.concatenate([frames, np.zeros((len(frames), frames.shape[1], gap), np.uint8), other], axis=2)


@pytest.mark.parametrize("gap", [3, 20])
@pytest.mark.parametrize("right", [False, True])
def test_a_still_bar_of_greys_beside_the_picture_is_no_part_of_it(fan, gap, right):
    bar = np.zeros((8, 180, 12), np.uint8)
    bar[:, 20:160] = np.linspace(255, 0, 140).astype(np.uint8)[:, None]
    screen, moved = (_beside(fan, bar, gap), 0) if right else (_beside(bar, fan, gap), 12 + gap)
    found = estimate_geometry(screen).geometry
    (column, row), (found_column, found_row) = FAN.apex_px(), found.apex_px()
    assert np.hypot(column + moved - found_column, row - found_row) < 2
    assert abs(np.degrees(found.aperture - FAN.aperture)) < 1
    assert abs(found.radius_mm + found.depth_mm - 210) < 2


def test_a_clip_in_which_nothing_moves_keeps_its_light(fan):
    still = np.repeat(fan[:1], 8, axis=0)
    assert estimate_geometry(still).geometry == estimate_geometry(fan[:1]).geometry is not None


@pytest.mark.parametrize("gap", [2, 24])
@pytest.mark.parametrize("frozen", [False, True])
def test_two_pictures_side_by_side_are_refused_also_if_one_is_frozen(fan, gap, frozen):
    other = np.repeat(fan[3:4], 8, axis=0) if frozen else fan[::-1]
    found = estimate_geometry(_beside(fan, other, gap))
    assert found.geometry is None
    assert found.reason == TWO_PICTURES


def test_two_linear_pictures_with_a_gap_of_three_pixels_are_refused_though_they_are_looked_at_made_smaller():
    assert estimate_geometry(_beside(_noise(260, 300), _noise(260, 300), 3)).reason == TWO_PICTURES


def test_a_picture_with_a_dark_column_that_has_light_above_is_one_picture(fan):
    dark = fan.copy()
    dark[:, 40:, 125:135] = 0
    assert estimate_geometry(dark).geometry is not None


def test_a_strip_below_or_beside_the_picture_is_refused(fan):
    below = np.concatenate([fan, np.zeros((8, 4, 260), np.uint8), _noise(80, 260)], axis=1)
    assert estimate_geometry(below).reason == STRIP
    assert estimate_geometry(_beside(fan, _noise(180, 150), 3)).reason == TWO_PICTURES


def test_a_picture_that_widens_upwards_is_refused_as_upside_down(fan):
    found = estimate_geometry(fan[:, ::-1])
    assert found.geometry is None
    assert found.reason == UPSIDE_DOWN


@pytest.mark.parametrize("degrees", [-18, 10])
def test_a_steered_linear_picture_is_refused_and_an_upright_one_is_not(degrees):
    lean, frames = np.tan(np.radians(degrees)), _noise(200, 120)
    move = np.array([[1.0, lean, 40 + max(0, -lean * 200)], [0, 1, 10]])
    upright = np.array([[1.0, 0, 40], [0, 1, 10]])
    steered, straight = (np.stack([cv2.warpAffine(f, m, (260, 230)) for f in frames]) for m in (move, upright))
    assert estimate_geometry(steered).reason == STEERED
    assert estimate_geometry(straight).geometry.probe == "linear"


def test_a_zoomed_sector_is_no_rectangle_though_it_fills_most_of_one():
    zoomed = Geometry("convex", 0.5, 90.0, 300.0, 200, 200, 1.0, 130.0, scaled=False)
    shown = _noise(200, 200) * (scan_maps(zoomed)[0] > -1e3)
    for probe in (None, "linear"):
        found = estimate_geometry(np.pad(shown, ((0, 0), (20, 20), (20, 20))), probe)
        assert found.geometry is None or found.geometry.probe != "linear"
    assert found.reason == LEANING


def _write(path, frames):
    """(T, H, W, 3) uint8 as a colour video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(8))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def _coloured(fan):
    """The fan with patches of red and blue that move, with a sepia grey map, and with a red mark that stands still."""
    grey = fan[..., None].repeat(3, axis=3)
    flow, marked = grey.copy(), grey.copy()
    for t, frame in enumerate(flow):
        frame[70:86, 100 + 4 * t : 120 + 4 * t] = (220, 40, 0)
        frame[90:100, 150 - 4 * t : 160 - 4 * t] = (0, 60, 220)
    marked[:, 5:25, 5:25] = (230, 20, 20)
    return {"flow": flow, "sepia": grey * np.array([1, 0.7, 0.3]), "marked": marked, "grey": grey}


def test_colours_that_move_are_told_and_counted_and_a_tint_or_a_still_mark_is_none(fan, tmp_path, capsys):
    for name, frames in _coloured(fan).items():
        _write(tmp_path / f"{name}.mp4", frames)
    _write(tmp_path / "flow2.mp4", _coloured(fan[::-1])["flow"])
    names = [path.stem for path in sorted(tmp_path.glob("*.mp4"))]
    write_index(tmp_path, pd.DataFrame({"clip": names, "path": [f"{n}.mp4" for n in names], "patient": names}))
    for command in (["index", str(tmp_path)], ["beams", str(tmp_path), "--out", str(tmp_path.parent / "out")]):
        main(command)
        notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
        assert notes == ["note: flow, flow2 (2 clips): shows colours that move, as Doppler does, and is read as grey"]


def test_colours_are_told_of_stills_too(fan, tmp_path):
    for name, frames in _coloured(fan).items():
        (tmp_path / name).mkdir()
        for t, frame in enumerate(frames.astype(np.uint8)):
            cv2.imwrite(str(tmp_path / name / f"{t}.png"), frame[..., ::-1])
        for _ in frames_of(tmp_path / name, told := Told(colours=Colours())):
            pass
        assert bool(told.notes) == (name == "flow")
