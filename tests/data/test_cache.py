"""The frame cache decodes once, survives damage and killed writers, and is shared."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_files import smooth_frames, write_stills, write_video

from lus_lightning.data import cache, identity
from lus_lightning.data.cache import cached_frames, cached_mask, fill_cache, letterbox
from lus_lightning.data.identity import content_hash
from lus_lightning.data.readers import read_clip
from lus_lightning.errors import UserError


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_video(tmp_path / "a clip ü.mp4", smooth_frames(9))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache"


def _new_process():
    """Forget what this process has opened, as a new one would."""
    cache._opened.cache_clear()


def _no_decoding(monkeypatch):
    monkeypatch.setattr(cache, "frames_of", lambda path: pytest.fail(f"{path} was decoded again"))


def _files(folder):
    return [p for p in (folder / "frames").rglob("*") if p.is_file()]


def test_a_clip_is_decoded_once_for_all_processes(clip, folder, monkeypatch):
    first = np.array(cached_frames(clip, 32, folder))
    _new_process()
    _no_decoding(monkeypatch)
    np.testing.assert_array_equal(cached_frames(clip, 32, folder), first)
    np.testing.assert_array_equal(first, letterbox(read_clip(clip).frames, 32))


def test_without_a_size_the_frames_are_as_they_are(clip, folder):
    np.testing.assert_array_equal(cached_frames(clip, None, folder), read_clip(clip).frames)


def test_frames_are_a_read_only_memory_map(clip, folder):
    frames = cached_frames(clip, 32, folder)
    assert isinstance(frames.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        frames[0, 0, 0] = 1


def _flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(bytes(data))


DAMAGES = {
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-100]),
    "emptied": lambda f: f.write_bytes(b""),
    "one bit": _flip,
    "longer": lambda f: f.write_bytes(f.read_bytes() + b"x"),
    "overwritten": lambda f: f.write_bytes(os.urandom(f.stat().st_size)),
    "another header": lambda f: f.write_bytes(f.read_bytes()[:8] + b"\xff" * 12 + f.read_bytes()[20:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_noticed_and_made_again(clip, folder, damage):
    good = np.array(cached_frames(clip, 32, folder))
    (file,) = _files(folder)
    DAMAGES[damage](file)
    _new_process()
    np.testing.assert_array_equal(cached_frames(clip, 32, folder), good)
    assert _files(folder) == [file]


@pytest.mark.parametrize("settled_seconds", [0, 2])
def test_a_clip_replaced_by_another_of_the_same_size_and_time_is_read_anew(clip, folder, monkeypatch, settled_seconds):
    monkeypatch.setattr(identity, "_SETTLED_SECONDS", settled_seconds)
    before = np.array(cached_frames(clip, None, folder))
    stat, data = clip.stat(), clip.read_bytes()
    other = write_video(clip.with_name("other.mp4"), smooth_frames(9)[:, ::-1, ::-1].copy() // 2)
    replacement = other.read_bytes()
    size = max(len(data), len(replacement))
    for path, content in ((clip, data), (other, replacement)):
        path.write_bytes(content.ljust(size, b"\0"))
    os.utime(clip, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    np.testing.assert_array_equal(cached_frames(clip, None, folder), before)
    clip.write_bytes(other.read_bytes())
    os.utime(clip, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert np.abs(cached_frames(clip, None, folder).astype(int) - before).mean() > 20


def test_a_touched_or_moved_clip_is_not_decoded_again(clip, folder, monkeypatch):
    cached_frames(clip, 32, folder)
    _no_decoding(monkeypatch)
    os.utime(clip)
    moved = clip.rename(clip.with_name("moved.mp4"))
    assert len(cached_frames(moved, 32, folder)) == 9


def test_content_is_hashed_again_when_a_still_of_a_folder_changes(tmp_path, folder):
    frames = smooth_frames(3)
    stills = write_stills(tmp_path / "area", frames)
    before = content_hash(stills, folder)
    (stills / "frame_1.png").write_bytes((stills / "frame_0.png").read_bytes())
    assert content_hash(stills, folder) != before
    (stills / "frame_1.png").unlink()
    assert len(cached_frames(stills, 16, folder)) == 2


def test_a_still_replaced_in_place_is_seen_by_a_running_process(tmp_path, folder):
    stills = write_stills(tmp_path / "area", smooth_frames(3))
    before = np.array(cached_frames(stills, 16, folder))
    replaced, stat = stills / "frame_1.png", (stills / "frame_1.png").stat()
    replaced.write_bytes((stills / "frame_0.png").read_bytes())
    os.utime(replaced, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    time.sleep(1.1)
    np.testing.assert_array_equal(cached_frames(stills, 16, folder), before[[0, 0, 2]])


def test_a_clip_changed_while_it_is_read_is_not_kept_as_the_old_one(tmp_path, folder, monkeypatch):
    np.save(clip := tmp_path / "clip.npy", smooth_frames(3))

    def changed(path):
        np.save(path, smooth_frames(3) // 2)
        yield from read_clip(path).frames

    monkeypatch.setattr(cache, "frames_of", changed)
    with pytest.raises(UserError, match=r"clip.npy: was changed while it was read"):
        cached_frames(clip, None, folder)
    assert not _files(folder)


def test_a_writer_killed_half_way_leaves_no_file(folder):
    code = (
        "import os, signal, sys; from pathlib import Path; from lus_lightning.data.identity import write_whole\n"
        "def chunks():\n    yield b'x' * 9_000_000\n    os.kill(os.getpid(), signal.SIGKILL)\n    yield b'y'\n"
        "write_whole(Path(sys.argv[1]) / 'whole', chunks())"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == -signal.SIGKILL
    assert not (folder / "whole").exists()


def test_a_full_disk_is_told_and_leaves_no_file(clip, folder):
    code = (
        "import resource, sys; from pathlib import Path; from lus_lightning.data.cache import cached_frames\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "cached_frames(Path(sys.argv[1]), 224, Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(clip), str(folder)], capture_output=True, text=True, check=False)
    assert "UserError" in done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert "LUS_CACHE" in done.stderr
    assert not _files(folder)


def _sum(job):
    clip, folder = job
    return int(np.asarray(cached_frames(clip, 48, folder), np.int64).sum())


def test_processes_that_fill_the_same_cache_at_once_agree(tmp_path, folder):
    clips = [write_video(tmp_path / f"{i}.mp4", smooth_frames(5 + i)) for i in range(3)]
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        sums = list(pool.map(_sum, [(c, folder) for c in clips * 4]))
    assert sums == [_sum((c, folder)) for c in clips] * 4
    assert len(_files(folder)) == 3


def test_filling_goes_on_behind_a_bad_clip_and_names_it(clip, folder, monkeypatch):
    bad = clip.with_name("bad.mp4")
    bad.write_bytes(b"no video")
    gone = clip.with_name("gone.mp4")
    failures = dict(fill_cache([(bad, None), (clip, None), (gone, None)], 32, folder, workers=2))
    assert list(failures) == [bad, gone]
    assert "bad.mp4" in failures[bad]
    _no_decoding(monkeypatch)
    assert len(cached_frames(clip, 32, folder)) == 9


def test_a_folder_that_cannot_be_written_is_a_sentence(clip, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written .*LUS_CACHE"):
        cached_frames(clip, 32, tmp_path / "file")


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (50, 50), (3, 200), (20, 33)])
def test_the_letterbox_keeps_the_aspect_and_is_black_around(height, width):
    boxed = letterbox(np.full((2, height, width), 200, np.uint8), 64)
    rows, columns = (np.flatnonzero(boxed[0].max(axis)) for axis in (1, 0))
    assert boxed.shape == (2, 64, 64)
    assert max(len(rows), len(columns)) == 64
    assert abs(len(rows) - 64 * height / max(height, width)) <= 1
    assert abs(len(columns) - 64 * width / max(height, width)) <= 1
    assert abs((rows[0] + rows[-1]) - 63) <= 1, "centred"
    assert set(np.unique(boxed)) <= {0, 200}


@pytest.mark.parametrize("size", [40, 100, 300])
def test_a_mask_lands_where_its_picture_does(tmp_path, folder, size):
    frames = np.zeros((2, 130, 170), np.uint8)
    frames[0, 20:90, 30:120] = 255
    frames[1, 60:61, :] = 255
    np.savez_compressed(tmp_path / "mask.npz", mask=(frames > 0).astype(np.uint8) * 5)
    np.save(tmp_path / "clip.npy", frames)
    picture, mask = cached_frames(tmp_path / "clip.npy", size, folder)[0], cached_mask(tmp_path / "mask.npz", size, folder)[0]
    assert set(np.unique(mask)) == {0, 5}, "no class is invented"
    overlap = ((picture >= 128) & (mask > 0)).sum() / ((picture >= 128) | (mask > 0)).sum()
    assert overlap > 0.85


def test_resizing_is_opencv_by_area(folder, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (1, 90, 90), dtype=np.uint8)
    np.testing.assert_array_equal(letterbox(frames, 30)[0], cv2.resize(frames[0], (30, 30), interpolation=cv2.INTER_AREA))
    assert abs(int(letterbox(frames, 30)[0, 4, 7]) - frames[0, 12:15, 21:24].mean()) <= 1
