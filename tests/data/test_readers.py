"""Every kind of file gives its frames, or a sentence."""

import numpy as np
import pytest
from clip_files import CONTAINERS, smooth_frames, write_stills, write_video
from container_writers import trimmed, video
from PIL import Image

from lus_lightning.data.readers import read_clip
from lus_lightning.errors import UserError


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("fps", [10, 25, 50])
def test_a_video_gives_all_its_frames_in_order_with_its_rate(tmp_path, suffix, fps):
    if suffix == ".mpeg" and fps == 10:
        pytest.skip("MPEG-2 has no 10 frames per second")
    frames = smooth_frames()
    clip = read_clip(write_video(tmp_path / f"clip{suffix}", frames, fps))
    assert clip.frames.shape == frames.shape
    assert clip.frames.dtype == np.uint8
    nearest = np.abs(clip.frames[:, None].astype(int) - frames[None]).mean((2, 3)).argmin(axis=1)
    assert nearest.tolist() == list(range(len(frames)))
    assert np.abs(clip.frames.astype(int) - frames).mean() < (20 if suffix == ".gif" else 4)  # the GIF's palette is coarse
    assert clip.fps == pytest.approx(fps, rel=0.01)


def test_a_fractional_rate_is_read_as_it_is(tmp_path):
    assert read_clip(write_video(tmp_path / "clip.mp4", smooth_frames(), 30000 / 1001)).fps == pytest.approx(29.97, abs=0.001)


def test_grey_is_the_luma_of_itu_r_601(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "still.png")
    assert np.abs(read_clip(tmp_path / "still.png").frames[0] - rgb @ [0.299, 0.587, 0.114]).max() < 1


def test_a_video_spans_the_full_range_of_grey(tmp_path):
    frames = np.full((3, 48, 64), 255, np.uint8)
    frames[:, :, :32] = 0
    decoded = read_clip(write_video(tmp_path / "clip.mp4", frames)).frames
    assert decoded[:, :, :24].max() <= 3
    assert decoded[:, :, 40:].min() >= 252


def test_a_folder_of_stills_is_read_in_natural_order(tmp_path):
    frames = smooth_frames(12)
    folder = write_stills(tmp_path / "area 1", frames)
    (folder / "notes.txt").write_text("no frame")
    (folder / ".frame_0.png").write_text("no frame either")
    clip = read_clip(folder)
    np.testing.assert_array_equal(clip.frames, frames)
    assert clip.fps is None


def test_sixteen_bits_become_eight(tmp_path):
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "still.png")
    assert read_clip(tmp_path / "still.png").frames.tolist() == [[[0, 1, 255]]]


@pytest.mark.parametrize(("shape", "frames"), [((5, 6), 1), ((3, 5, 6), 3)])
def test_an_array_is_a_clip(tmp_path, shape, frames):
    np.save(tmp_path / "clip.npy", np.full(shape, 99.6, np.float32))
    clip = read_clip(tmp_path / "clip.npy")
    assert clip.frames.shape == (frames, 5, 6)
    assert (clip.frames == 100).all()


def _cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def _cut_between(path):
    data, end = path.read_bytes(), -1
    for _ in range(26):
        end = data.index(b"00dc", end + 1)
    path.write_bytes(data[:end])
    return path


def _noise(count):
    return np.random.default_rng(0).integers(0, 256, (count, 96, 96), dtype=np.uint8)


def _unknown_codec(tmp_path):
    path = write_video(tmp_path / "clip.avi", smooth_frames())
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"QQQ9"))
    return path


def _saved(path, array):
    np.save(path, array)
    return path


def _tiff(path, array):
    Image.fromarray(array).save(path)
    return path


def _written(path, data):
    path.write_bytes(data)
    return path


def _sizes(tmp_path):
    folder = write_stills(tmp_path / "mixed", smooth_frames(3))
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(folder / "frame_9.png")
    return folder


def _depths(tmp_path):
    folder = write_stills(tmp_path / "mixed", smooth_frames(2))
    Image.fromarray(np.full((48, 64), 4000, np.uint16)).save(folder / "frame_0.png")
    return folder


def _sound_only(tmp_path):
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path / "clip.mp4"


BAD_FILES = {
    "missing": (lambda t: t / "nowhere.mp4", "no such file"),
    "empty": (lambda t: _written(t / "clip.mp4", b""), "empty \\(0 bytes\\)"),
    "empty still": (lambda t: _written(t / "still.png", b""), "empty \\(0 bytes\\)"),
    "text": (lambda t: _written(t / "clip.mp4", b"this is a letter, not a clip" * 50), "cannot be read"),
    "text as a picture": (lambda t: _written(t / "still.png", b"this is a letter" * 50), "cannot be read"),
    "mp4 without its end": (lambda t: _cut(write_video(t / "clip.mp4", smooth_frames(50)), 0.7), "its end is missing"),
    "mp4 cut in the pictures": (lambda t: _cut(write_video(t / "clip.mp4", smooth_frames(50), movflags="faststart"), 0.7), "truncated"),
    "avi cut": (lambda t: _cut(write_video(t / "clip.avi", smooth_frames(50)), 0.8), "truncated"),
    "avi cut between two frames": (
        lambda t: _cut_between(write_video(t / "clip.avi", smooth_frames(50))),
        "truncated: 2[0-9] of 50 frames",
    ),
    "mpeg cut": (lambda t: _cut(write_video(t / "clip.mpeg", _noise(50)), 0.6), "frame [0-9]+ is corrupt"),
    "mp4 cut that was trimmed before": (lambda t: _cut(trimmed("clip.mp4", 8, movflags="faststart")(t), 0.7), "truncated"),
    "avi with gaps cut": (lambda t: _cut(video("clip.avi", "ffv1", times=[0, 1, 2, 7, 8, 14])(t), 0.85), "truncated"),
    "array of words": (lambda t: _saved(t / "clip.npy", np.array([[["a", "b"]]])), "values of type <U1"),
    "array of true and false": (lambda t: _saved(t / "clip.npy", np.ones((2, 3, 4), bool)), "from 0 to 1"),
    "depths differ": (_depths, "differ in depth \\(uint16 and uint8\\)"),
    "gif cut": (lambda t: _cut(write_video(t / "clip.gif", smooth_frames(20)), 0.6), "truncated"),
    "jpeg cut": (lambda t: _cut(_tiff(t / "still.jpg", smooth_frames(1)[0]), 0.7), "truncated"),
    "png cut": (lambda t: _cut(_tiff(t / "still.png", smooth_frames(1)[0]), 0.7), "truncated"),
    "unknown codec": (_unknown_codec, "codec"),
    "no picture stream": (_sound_only, "no video stream"),
    "no frames": (lambda t: write_video(t / "clip.avi", smooth_frames(0)), "no frames"),
    "empty folder": (lambda t: write_stills(t / "folder", []), "no frames"),
    "sizes differ": (_sizes, "differ in size \\(9 x 7, 64 x 48\\)"),
    "another kind": (lambda t: _written(t / "clip.txt", b"hello"), "kind that is not read \\(.txt\\)"),
    "not a number": (lambda t: _saved(t / "clip.npy", np.array([[[1.0, np.nan]]])), "1 NaN or infinite"),
    "infinite": (lambda t: _saved(t / "clip.npy", np.array([[[1.0, np.inf, -np.inf]]])), "2 NaN or infinite"),
    "not a number in a still": (lambda t: _tiff(t / "still.tif", np.array([[1, np.nan]], np.float32)), "NaN"),
    "not grey values": (lambda t: _saved(t / "clip.npy", np.array([[[-1.0, 300.0]]])), "-1 to 300"),
    "array of objects": (lambda t: _saved(t / "clip.npy", np.array([{}])), "cannot be read"),
    "array of five dimensions": (lambda t: _saved(t / "clip.npy", np.zeros((1, 1, 1, 1, 1))), "shape"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_gives_a_sentence_with_its_name_and_a_remedy(tmp_path, kind):
    make, reason = BAD_FILES[kind]
    path = make(tmp_path)
    with pytest.raises(UserError, match=reason) as caught:
        read_clip(path)
    assert path.name in str(caught.value)
    assert ";" in str(caught.value), "the remedy follows a semicolon"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Müller ü 1.mp4", "with spaces and (brackets).mp4", "日本.mp4", "quote'd.mp4", "100%.mp4"])
def test_any_file_name_is_read(tmp_path, name):
    write_video(tmp_path / "plain.mp4", smooth_frames())
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    (tmp_path / "link.mp4").symlink_to(tmp_path / name)
    assert len(read_clip(tmp_path / name).frames) == len(read_clip(tmp_path / "link.mp4").frames) == 6
