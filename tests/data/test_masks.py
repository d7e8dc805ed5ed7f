"""Masks of every kind that people have: read where they have one meaning, else named with a remedy."""

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clip_files import smooth_frames, write_index, write_stills, write_video
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lus_lightning.data.datamodules import ClipDataModule, FrameMaskDataModule
from lus_lightning.data.index import build_index
from lus_lightning.data.masks import mask_frames, mask_places, read_mask
from lus_lightning.data.splits import Split
from lus_lightning.errors import UserError

MASKS = np.zeros((3, 48, 64), np.uint8)
MASKS[0, 5:9, 10:30], MASKS[1, 20:40, 12:15], MASKS[2, 7:9, 10:14] = 1, 4, 5
BINARY = np.where(MASKS, np.uint8(255), np.uint8(0))


def _save(file, array):
    np.save(file, array)
    return file


def _pictures(folder, arrays, mode=None):
    folder.mkdir()
    for t, array in enumerate(arrays):
        image = Image.fromarray(array)
        (image if mode is None else image.convert(mode)).save(folder / f"{t}.png")
    return folder


def _palette(folder):
    folder.mkdir()
    for t, mask in enumerate(MASKS):
        image = Image.fromarray(mask, mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 1, 2, 3, 255, 255, 255, 9, 9, 9])
        image.save(folder / f"{t}.png")
    return folder


def _stack(file):
    first, *others = map(Image.fromarray, MASKS)
    first.save(file, save_all=True, append_images=others)
    return file


def labelme(path, shapes, name="h_0002.png", width=64, height=48):
    """A LabelMe file: shapes of (label, type, points)."""
    shapes = [{"label": label, "shape_type": kind, "points": points, "flags": {}} for label, kind, points in shapes]
    path.write_text(json.dumps({"version": "5.4.1", "shapes": shapes, "imagePath": name, "imageHeight": height, "imageWidth": width}))
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda p: _save(p / "m.npy", MASKS),
        lambda p: _save(p / "m.npy", MASKS.astype(np.int64)),
        lambda p: _pictures(p / "m", MASKS),
        lambda p: _pictures(p / "m", MASKS.astype(np.uint16)),
        lambda p: _pictures(p / "m", MASKS, "RGB"),
        lambda p: _palette(p / "m"),
        lambda p: _stack(p / "m.tif"),
    ],
    ids=["npy", "npy of int64", "grey", "grey of 16 bits", "grey stored as colours", "palette", "TIFF stack"],
)
def test_what_has_one_meaning_is_read(make, tmp_path):
    found = read_mask(make(tmp_path))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, MASKS)


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_one_picture_or_one_plane_is_the_mask_of_a_still(suffix, tmp_path):
    file = tmp_path / f"m{suffix}"
    Image.fromarray(MASKS[1]).save(file) if suffix == ".png" else np.save(file, MASKS[1])
    np.testing.assert_array_equal(read_mask(file), MASKS[1:2])


@pytest.mark.parametrize(
    "make",
    [
        lambda p: _pictures(p / "m", BINARY),
        lambda p: _pictures(p / "m", BINARY, "1"),
        lambda p: _pictures(p / "m", BINARY, "RGBA"),
        lambda p: _save(p / "m.npy", BINARY),
        lambda p: _save(p / "m.npy", BINARY > 0),
    ],
    ids=["grey", "1 bit", "colours", "npy", "bool"],
)
def test_two_values_are_the_class_that_is_named_and_without_a_name_the_remedy_works(make, tmp_path):
    file = make(tmp_path)
    with pytest.raises(UserError, match=f"name it behind #, as {file.name}#pleural_line in the column `mask`"):
        read_mask(file)
    np.testing.assert_array_equal(read_mask(Path(f"{file}#b_line")), np.where(MASKS, np.uint8(4), np.uint8(0)))


def test_a_named_class_has_one_value(tmp_path):
    with pytest.raises(UserError, match=r"has the values 0, 1, 4, 5; masks of one class \(effusion\) have 0 and one other"):
        read_mask(Path(f"{_save(tmp_path / 'm.npy', MASKS)}#effusion"))


def test_a_labelme_file_holds_the_shapes_of_one_frame(tmp_path):
    square = [[10, 10], [30, 10], [30, 20], [10, 20]]
    shapes = [("pleura", "polygon", square), ("B-line", "rectangle", [[30, 40], [20, 30]]), ("a_line", "linestrip", [[40, 5], [60, 5]])]
    file = labelme(tmp_path / "h.json", shapes)
    mask = read_mask(file)
    assert mask.shape == (1, 48, 64)
    assert [(mask[0] == bit).sum() for bit in (1, 4)] == [200, 100]
    assert (mask[0] == 2).sum() > 40
    assert mask_frames(file, 5, 48, 64) == [2]
    assert mask_frames(file, 1, 48, 64) is None


def _words(read):
    with pytest.raises(UserError) as error:
        read()
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m.nii.gz", "(NIfTI) are not read; in Python, numpy.save('masks.npy', numpy.asarray(nibabel.load("),
        ("m.nrrd", "(NRRD) are not read; in Python, numpy.save('masks.npy', nrrd.read("),
        ("m.MHA", "(MetaImage) are not read; write uint8 (frames, height, width) with numpy.save"),
        ("m.jpg", "(JPEG or WebP, which change values) are not read; write PNG"),
        ("m.docx", "(.docx) are not read; write"),
        ("m", "(no suffix) are not read; write"),
    ],
)
def test_a_kind_that_is_not_read_is_named_with_what_to_do(name, words, tmp_path):
    (tmp_path / name).write_bytes(b"not looked at")
    assert words in _words(lambda: read_mask(tmp_path / name))


def test_the_remedy_for_volumes_gives_the_frames_back(tmp_path):
    volume = MASKS.transpose(2, 1, 0)  # as NIfTI and NRRD have it: columns, rows, slices
    np.save(tmp_path / "masks.npy", volume.astype("uint8").transpose(2, 1, 0))
    np.testing.assert_array_equal(read_mask(tmp_path / "masks.npy"), MASKS)


def _coloured(folder):
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[5:9, 5:9] = 255, 0, 0
    return _pictures(folder, [colours])


def _bomb(file):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = (12000).to_bytes(4, "big")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side * 2 + b"\x08\0\0\0\0") + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return file


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: _coloured(p / "m"), "0.png has colours or transparency, and which class a colour means is not known; write grey PNG"),
        (lambda p: _pictures(p / "m", [MASKS[0], MASKS[0, :24, :32]]), "its masks differ in size (32 x 24, 64 x 48)"),
        (lambda p: _bomb(p / "m.png"), "claims frames of 12000 x 12000 pixels"),
        (lambda p: _save(p / "m.npy", np.array([{"a": 1}])), "the mask cannot be read"),
        (lambda p: _save(p / "m.npy", MASKS - 1.0), "it needs uint8 (frames, height, width)"),
        (lambda p: _save(p / "m.npy", MASKS.astype(int) - 1), "has the value -1; the classes are bits"),
        (lambda p: labelme(p / "m.json", [("pleura", "circle", [[1, 1], [2, 2]])]), "has a shape 'circle'; polygons"),
        (lambda p: labelme(p / "m.json", [("lung", "polygon", [[1, 1], [2, 2], [3, 1]])]), "'lung' are no class"),
        (lambda p: (p / "m").mkdir() or (labelme(p / "m" / "1.json", []) and p / "m"), "has no pictures (it has .json)"),
    ],
)
def test_what_has_no_one_meaning_is_a_sentence(make, words, tmp_path):
    file = make(tmp_path)
    said = _words(lambda: read_mask(file))
    assert said.startswith(str(tmp_path / "m"))
    assert words in said


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".npy", ".npz", ".png", ".tif", ".bmp", ".json", ".xml", ".nrrd"]), st.booleans())
def test_no_bytes_are_a_traceback(tmp_path_factory, data, suffix, magic):
    starts = {".npy": b"\x93NUMPY\x01\0", ".npz": b"PK\x03\x04", ".png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ".tif": b"II*\0", ".bmp": b"BM"}
    file = tmp_path_factory.mktemp("bytes") / f"m{suffix}"
    file.write_bytes(starts.get(suffix, b"{") * magic + data)
    assert str(file) in _words(lambda: read_mask(file))


@pytest.mark.parametrize(
    ("names", "frames", "numbers"),
    [
        (["c_0003.png", "c_0010.png"], 12, [3, 10]),
        (["frame 3.png", "frame 10 mask.png"], 12, [3, 10]),
        (["1.png", "2.png", "3.png"], 3, None),  # all of them, from whatever number they count
    ],
)
def test_masks_of_some_frames_are_those_of_the_numbers_in_their_names(names, frames, numbers, tmp_path):
    for name in names:
        Image.fromarray(MASKS[0]).save(tmp_path / name)
    assert mask_frames(tmp_path, frames, 48, 64) == numbers


@pytest.mark.parametrize(
    "names",
    [["a.png", "b.png"], ["1_5.png", "2_5.png"], ["3.png", "12.png"], ["a_5.png", "b_3.png"]],
    ids=["none", "twice", "beyond", "order"],
)
def test_names_that_number_no_frames_are_told(names, tmp_path):
    for name in names:
        Image.fromarray(MASKS[0]).save(tmp_path / name)
    said = _words(lambda: mask_frames(tmp_path, 12, 48, 64))
    assert "has masks of 2 of the clip's 12 frames" in said
    assert "end each name in its frame's number, 0 to 11" in said


@pytest.fixture
def partly(tmp_path):
    """Four patients with a clip of 5 frames; c0 and c1 have masks of frames 1 and 3, the others of all."""
    root = tmp_path / "study"
    root.mkdir()
    for i in range(4):
        write_video(root / f"c{i}.mp4", smooth_frames(5) + np.uint8(10 * i))
        frames = (1, 3) if i < 2 else range(5)
        (root / f"m{i}").mkdir()
        for t in frames:
            Image.fromarray(np.full((48, 64), 255 * (t > 0), np.uint8)).save(root / f"m{i}" / f"{t:04d}.png")
    columns = {"clip": "c{}", "path": "c{}.mp4", "patient": "p{}", "mask": "m{}#b_line"}
    table = {c: [v.format(i) for i in range(4)] for c, v in columns.items()}
    write_index(root, pd.DataFrame(table | {"score": [1, 1, 1, 0], "standard": "soldati"}))
    return root


def test_the_index_says_which_frames_have_masks(partly, tmp_path):
    index = build_index(partly, cache_dir=tmp_path / "cache")
    assert index.table["mask_frames"].tolist() == ["1 3", "1 3", None, None]
    (note,) = index.notes
    assert note.startswith("c0, c1 (2 clips): its masks are those of frames 1 3 ")
    assert list(mask_places(index.table, 0, range(5))) == [-1, 0, -1, 1, -1]
    assert list(mask_places(index.table, 2, range(5))) == [0, 1, 2, 3, 4]
    again = build_index(partly, cache_dir=tmp_path / "cache")
    assert again.fingerprint == index.fingerprint
    assert again.table["mask_frames"].tolist() == index.table["mask_frames"].tolist()


def test_frames_without_a_mask_are_tested_but_neither_trained_on_nor_validated(partly, tmp_path):
    how = {"size": 64, "batch_size": 2, "study": "tiny", "root": str(partly), "num_workers": 0, "cache_dir": str(tmp_path / "cache")}
    data = FrameMaskDataModule(**how, split=Split(test_share=0.25, val_share=0.25, test_patients=["p0"]))
    data.prepare_data()
    for part in ("train", "val"):
        items = data.part(part)
        expected = [(c, t) for c, frames in (("c1", (1, 3)), ("c2", range(5)), ("c3", range(5))) for t in frames if c in set(items["clip"])]
        assert list(zip(items["clip"], items["frame"], strict=True)) == expected
        for item, sample in zip(items.itertuples(), data.dataset(items, part), strict=True):
            assert int(sample["frame"]) == item.frame
            assert set(np.unique(sample["mask"])) <= {0, 4}
            assert bool(sample["mask"].any()) == (item.frame > 0)
    tested = data.part("test")
    assert tested["frame"].tolist() == [0, 1, 2, 3, 4]
    assert "mask" not in data.dataset(tested, "test")[0]
    assert list(data.places(tested)) == [-1, 0, -1, 1, -1]
    assert "mask" in data.dataset(tested[tested["frame"].isin([1, 3])].reset_index(drop=True), "test")[0]


def test_of_a_clip_with_masks_of_some_frames_the_attention_has_no_true_masks(partly, tmp_path):
    how = {"size": 64, "batch_size": 2, "study": "tiny", "root": str(partly), "num_workers": 0, "cache_dir": str(tmp_path / "cache")}
    data = ClipDataModule(**how)
    data.prepare_data()
    assert [data.true_masks(row, "b_line") is None for row in range(4)] == [True, True, False, False]
    assert data.true_masks(2, "b_line").any(axis=(1, 2)).tolist() == [False, True, True, True, True]


def test_a_mask_of_any_bad_kind_leaves_its_clip_out_and_the_rest_stays(tmp_path):
    root = tmp_path / "study"
    root.mkdir()
    names = ["good.npy", "m.nii.gz", "m.npz", "m.json", "m.npy", "m.png", "m.txt"]
    for i, name in enumerate(names):
        write_stills(root / f"c{i}", smooth_frames(3) + np.uint8(i))
        (root / name).write_bytes(b"\x93NUMPY nothing of it is true")
    np.save(root / "good.npy", MASKS)
    columns = {"clip": [f"c{i}" for i in range(7)], "path": [f"c{i}" for i in range(7)], "patient": list("abcdefg"), "mask": names}
    write_index(root, pd.DataFrame(columns))
    index = build_index(root, cache_dir=tmp_path / "cache")
    assert index.table["clip"].tolist() == ["c0"]
    reasons = index.left_out["reason"].tolist()
    assert len(reasons) == 6
    assert all(";" in reason and name in reason for name, reason in zip(names[1:], reasons, strict=True))
