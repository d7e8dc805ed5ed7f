"""Which frames of a clip are no samples: black ones and repeated ones, wherever they stand and however they are coded."""

import numpy as np
import pytest
from clip_files import smooth_frames
from container_writers import video
from hypothesis import given
from hypothesis import strategies as st

from lus_lightning.data.readers import frames_of
from lus_lightning.data.shown import BLACK_BELOW, Watch, numbers_of, ranges


def _watched(frames):
    watch = Watch()
    for frame in frames:
        watch.look(frame)
    return watch


def _speckle(count, height=120, width=160):
    """A bright picture whose speckle moves, as in a live clip: (T, H, W) uint8."""
    rng = np.random.default_rng(0)
    still = rng.gamma(2, 30, (height, width + 2 * count))
    return np.stack([still[:, 2 * t : 2 * t + width] for t in range(count)]).clip(20, 255).astype(np.uint8)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "ffv1", "libvpx-vp9"])
@pytest.mark.parametrize("every", [12, 250])
def test_a_picture_that_stood_still_is_told_though_its_codec_changes_it(tmp_path, codec, every):
    live = _speckle(24)
    frames = np.concatenate([live[:8], live[7:8].repeat(20, 0), live[8:]])
    options = {"g": str(every)} | ({"x265-params": f"log-level=none:keyint={every}"} if codec == "libx265" else {})
    options |= {"b": "8000000"} if codec in ("mpeg4", "libvpx-vp9") else {}
    watch = _watched(frames_of(video("clip.mkv", codec, frames=frames, options=options)(tmp_path)))
    assert watch.black == []
    assert set(watch.frozen) <= set(range(8, 28))
    assert len(watch.frozen) >= 18


def test_a_slow_move_is_thinned_out_and_never_taken_for_one_picture():
    frames = np.stack([np.linspace(50, 200, 160)[None].repeat(120, 0) + 0.25 * t for t in range(60)]).round().astype(np.uint8)
    shown = sorted(set(range(60)) - set(_watched(frames).frozen))
    assert 6 <= len(shown) <= 40
    assert np.diff(shown).max() <= 10


def test_what_moves_at_one_place_only_is_seen():
    assert _watched(smooth_frames(20, 96, 128)).frozen == []


def test_the_same_picture_behind_black_frames_is_still_the_same():
    frames = smooth_frames(2)[[0, 0, 1, 1]]
    frames[1] = BLACK_BELOW - 1
    watch = _watched(frames[[0, 1, 0, 2, 1, 3]])
    assert (watch.black, watch.frozen) == ([1, 4], [2, 5])
    assert (watch.count, watch.shape) == (6, (48, 64))


def test_frames_of_any_size_are_looked_at():
    assert _watched(np.array([[[200]], [[200]], [[100]]], np.uint8)).frozen == [1]


@given(st.sets(st.integers(0, 200)))
def test_frame_numbers_are_written_and_read(numbers):
    assert numbers_of(ranges(sorted(numbers))).tolist() == sorted(numbers)


def test_runs_of_frames_are_written_as_their_ends():
    assert ranges([0, 1, 2, 13, 20, 21]) == "0-2 13 20-21"
    assert ranges([]) is None
