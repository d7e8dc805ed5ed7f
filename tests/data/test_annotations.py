import json
import os
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from clip_files import smooth_frames, write_index, write_video
from PIL import Image, ImageDraw

from lus_lightning.data.annotations import POLYLINE_PX, annotation_file, read_annotations
from lus_lightning.data.cache import cached_mask
from lus_lightning.data.datamodules import FrameMaskDataModule
from lus_lightning.data.index import build_index
from lus_lightning.data.masks import read_mask
from lus_lightning.data.splits import Split
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES
from lus_lightning.simulator.clips import study_scene
from lus_lightning.simulator.layers import beam_masks
from lus_lightning.simulator.profile import profile
from lus_lightning.simulator.render import scan_convert
from lus_lightning.simulator.studies import find_study

PLEURA, B_LINE = np.uint8(1), np.uint8(4)
TRIANGLE = [(8.0, 6.0), (50.5, 14.25), (20.0, 40.0)]
STAR = [(30 + r * np.cos(a), 24 + r * np.sin(a)) for r, a in zip([20, 7] * 5, np.arange(10) * np.pi / 5, strict=True)]
ACROSS = [(-20, 10), (90, 12), (90, 20.6), (-20, 30)]  # reaches out of the picture
UPRIGHT = [(10, 10), (12.6, 10), (12.6, 40), (10, 40)]


def _points(points):
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _shape(kind, label, points, **more):
    """A CVAT shape as XML text; `points` may be ready attributes, an empty label is none."""
    given = ({"label": label} if label else {}) | ({"points": _points(points)} if isinstance(points, list) else points) | more
    return f"<{kind} " + " ".join(f'{k}="{v}"' for k, v in given.items()) + f"></{kind}>"


def cvat_images(path, frames, width=64, height=48, names=None):
    """A CVAT for images file: for each frame the XML of its shapes."""
    names = names or [f"frame_{t:06d}" for t in range(len(frames))]
    images = "".join(
        f'<image id="{t}" name="{name}" width="{width}" height="{height}">{"".join(shapes)}<tag label="good"/></image>'
        for t, (name, shapes) in enumerate(zip(names, frames, strict=True))
    )
    path.write_text(f"<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version><meta></meta>{images}</annotations>")
    return path


def cvat_video(path, tracks, size=4, width=64, height=48):
    """A CVAT for video file: tracks of (label, XML of the shapes)."""
    meta = f"<meta><task><size>{size}</size><original_size><width>{width}</width><height>{height}</height></original_size></task></meta>"
    drawn = "".join(f'<track id="{i}" label="{label}">{"".join(shapes)}</track>' for i, (label, shapes) in enumerate(tracks))
    path.write_text(f"<annotations><version>1.1</version>{meta}{drawn}</annotations>")
    return path


def coco(path, frames, width=64, height=48, names=None, categories=("b_line", "pleural_line")):
    """A COCO file: for each frame its annotations (category's place, segmentation)."""
    names = names or [f"{t}.png" for t in range(len(frames))]
    images = [{"id": 100 + t, "file_name": name, "width": width, "height": height} for t, name in enumerate(names)]
    drawn = [
        {"id": 1000 * t + i, "image_id": 100 + t, "category_id": 7 + category, "segmentation": outline, "iscrowd": 0}
        for t, shapes in enumerate(frames)
        for i, (category, outline) in enumerate(shapes)
    ]
    content = {"images": images, "categories": [{"id": 7 + i, "name": n} for i, n in enumerate(categories)], "annotations": drawn}
    path.write_text(json.dumps(content))
    return path


def _flat(points):
    return [round(float(v), 2) for point in points for v in point]


def pillow_polygon(points, width=64, height=48, fine=31):
    """(H, W) bool by Pillow, drawn `fine` times larger and looked at in the middle of each pixel."""
    canvas = Image.new("1", (width * fine, height * fine))
    ImageDraw.Draw(canvas).polygon([(x * fine - 0.5, y * fine - 0.5) for x, y in points], fill=1)
    return np.asarray(canvas)[fine // 2 :: fine, fine // 2 :: fine]


def _outline(mask):
    """The pixels that have another value beside them."""
    grown, shrunk = (op(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) for op in (cv2.dilate, cv2.erode))
    return grown != shrunk


@pytest.mark.parametrize("points", [TRIANGLE, STAR, ACROSS, UPRIGHT])
@pytest.mark.parametrize("kind", ["images", "video", "coco"])
def test_a_drawn_polygon_is_the_mask_that_pillow_draws(points, kind, tmp_path):
    if kind == "images":
        file = cvat_images(tmp_path / "a.xml", [[_shape("polygon", "b_line", points)]])
    elif kind == "video":
        file = cvat_video(tmp_path / "a.xml", [("b_line", [_shape("polygon", "", points, frame=0, outside=0, keyframe=1)])], size=1)
    else:
        file = coco(tmp_path / "a.json", [[(0, [_flat(points)])]])
    found, expected = read_mask(file)[0], pillow_polygon(points)
    assert expected.sum() > 50
    assert set(np.unique(found)) == {0, B_LINE}
    wrong = (found > 0) != expected
    assert not wrong[~_outline(expected)].any()
    assert wrong.mean() < 0.001


def test_a_rectangle_covers_exactly_its_pixels(tmp_path):
    file = cvat_images(tmp_path / "a.xml", [[_shape("polygon", "pleura", [(3, 5), (10, 5), (10, 8), (3, 8)])]])
    expected = np.zeros((48, 64), np.uint8)
    expected[5:8, 3:10] = PLEURA
    np.testing.assert_array_equal(read_mask(file)[0], expected)


def test_overlapping_classes_keep_both_bits_and_empty_frames_stay(tmp_path):
    square = [(10, 10), (20, 10), (20, 20), (10, 20)]
    file = cvat_images(tmp_path / "a.xml", [[], [_shape("polygon", "pleural line", square), _shape("polygon", "B-lines", square)], []])
    masks = read_mask(file)
    assert masks.shape == (3, 48, 64)
    assert [m.max() for m in masks] == [0, PLEURA | B_LINE, 0]
    assert (masks[1] == 5).sum() == 100


def test_an_open_line_is_a_few_pixels_wide_along_its_whole_length(tmp_path):
    file = cvat_images(tmp_path / "a.xml", [[_shape("polyline", "Pleura", [(5.5, 20.5), (40.5, 20.5), (60.5, 40.5)])]])
    mask = read_mask(file)[0]
    assert (mask[:, 20] > 0).sum() == POLYLINE_PX
    assert mask[20, 5:41].all()
    assert mask[np.arange(20, 41), np.arange(40, 61)].all()
    assert not mask[:10].any()


def test_run_length_masks_of_both_formats_are_exact(tmp_path):
    drawn = pillow_polygon(STAR)
    rows, columns = (np.flatnonzero(drawn.any(axis=a)) for a in (1, 0))
    box = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def runs(bits):
        edges = np.flatnonzero(np.diff(bits.astype(int), prepend=0))
        return np.diff(np.r_[0, edges, len(bits)]).tolist()

    given = {"rle": str(runs(box.ravel()))[1:-1], "left": columns[0], "top": rows[0], "width": box.shape[1], "height": box.shape[0]}
    of_cvat = cvat_images(tmp_path / "a.xml", [[_shape("mask", "effusion", given)]])
    of_coco = coco(tmp_path / "a.json", [[(0, {"counts": runs(drawn.ravel(order="F")), "size": [48, 64]})]])
    np.testing.assert_array_equal(read_mask(of_cvat)[0] > 0, drawn)
    np.testing.assert_array_equal(read_mask(of_coco)[0] > 0, drawn)


def test_a_track_is_drawn_in_the_frames_it_is_listed_in_until_it_is_outside(tmp_path):
    def at(frame, outside=0):
        x = 5 + 10 * frame
        return _shape("polygon", "", [(x, 5), (x + 4, 5), (x + 4, 9), (x, 9)], frame=frame, outside=outside)

    masks = read_mask(cvat_video(tmp_path / "a.xml", [("b-line", [at(0), at(1), at(2, outside=1)])], size=4))
    assert [np.flatnonzero(m.any(axis=0)).tolist() for m in masks] == [[5, 6, 7, 8], [15, 16, 17, 18], [], []]


@pytest.mark.parametrize(
    ("label", "name"),
    [("B-line", "b_line"), ("b_line", "b_line"), ("B lines", "b_line"), ("BLine", "b_line"), ("vertical artefacts", "b_line"),
     ("Pleura", "pleural_line"), ("pleural-line", "pleural_line"), ("A-Lines", "a_line"), ("Consolidations", "consolidation"),
     ("subpleural consolidation", "consolidation"), ("Pleural Effusion", "effusion"), ("rib shadow", "rib_shadow"),
     ("RIB_SHADOWS", "rib_shadow"), *((name, name) for name in MASK_CLASSES)],
)  # fmt: skip
def test_common_spellings_name_a_class(label, name, tmp_path):
    mask = read_mask(cvat_images(tmp_path / "a.xml", [[_shape("polygon", label, TRIANGLE)]]))
    assert mask.max() == 1 << MASK_CLASSES.index(name)


def _bar(column):
    return [(0, [_flat([(column, 0), (column + 1, 0), (column + 1, 48), (column, 48)])])]


def _bars(masks):
    return [int(np.flatnonzero(m.any(axis=0))[0]) for m in masks]


def test_frames_come_in_natural_order_of_their_names_whatever_the_files(tmp_path):
    names = [f"frame_{n}.png" for n in (10, 9, 2, 1)]
    assert _bars(read_mask(coco(tmp_path / "a.json", [_bar(n) for n in (10, 9, 2, 1)], names=names))) == [1, 2, 9, 10]


@pytest.mark.parametrize(
    "names",
    [["c1/1.png", "c11/1.png", "c1/2.png", "c2/1.png"], ["x/c1/frames/0.png", "x/c11/frames/0.png", "x/c1/frames/1.png", "c2/0.png"],
     ["c1_0001.png", "c11_0001.png", "c1_frame_0002.png", "c1x_1.png"], ["a\\c1\\1.png", "a\\c11\\1.png", "a\\c1\\2.png", "a\\c2\\1.png"]],
)  # fmt: skip
def test_of_a_file_of_several_clips_the_named_ones_images_are_taken(names, tmp_path):
    file = coco(tmp_path / "all.json", [_bar(n) for n in range(4)], names=names)
    assert _bars(read_mask(Path(f"{file}#c1"))) == [0, 2]
    with pytest.raises(UserError, match="no image of 'c3'"):
        read_mask(Path(f"{file}#c3"))


def test_a_fragment_is_only_one_behind_an_annotation_file():
    assert annotation_file(Path("a/b.json#c/d")) == (Path("a/b.json"), "c/d")
    assert annotation_file(Path("a/b#c.npz")) == (Path("a/b#c.npz"), "")
    assert annotation_file(Path("a#1/b.XML")) == (Path("a#1/b.XML"), "")


def _outlines(mask):
    """Polygons around a class (H, W) that run a quarter pixel inside its pixels' edges."""
    fine = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    return [(c[:, 0] + 0.5) / 2 for c in cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]]


@pytest.mark.parametrize("kind", ["cvat", "coco"])
def test_simulated_masks_drawn_as_polygons_and_read_again_are_the_same(kind, tmp_path):
    study = find_study("tiny", patients=16, size=224, mix="signs")
    masks = []
    for number in range(study.patients):
        scene = study_scene(study, number, number % 6, 0)[0]
        masks.append(scan_convert(beam_masks(scene, profile(scene, np.array([0.3]))), scene.geometry, nearest=True)[0])
    masks = np.stack(masks)
    shapes = [[(i, p) for i in range(len(MASK_CLASSES)) for p in _outlines((m >> i) & 1)] for m in masks]
    height, width = masks.shape[1:]
    if kind == "cvat":
        drawn = [[_shape("polygon", MASK_CLASSES[i], p.tolist()) for i, p in frame] for frame in shapes]
        file = cvat_images(tmp_path / "a.xml", drawn, width, height)
    else:
        drawn = [[(i, [_flat(p)]) for i, p in frame] for frame in shapes]
        file = coco(tmp_path / "a.json", drawn, width, height, categories=MASK_CLASSES)
    found = read_mask(file)
    for i, name in enumerate(MASK_CLASSES):
        one, other = (masks >> i) & 1 > 0, (found >> i) & 1 > 0
        assert one.any(), name
        assert (one & other).sum() / (one | other).sum() > 0.95, name


@pytest.fixture
def annotated(tmp_path):
    """A data folder of four patients with a clip each, two outlined in an own XML file, two in one COCO file."""
    root = tmp_path / "study"
    (root / "clips").mkdir(parents=True)
    for i in range(4):
        write_video(root / "clips" / f"c{i}.mp4", smooth_frames(5) + np.uint8(10 * i))  # nobody has another's file
    square = [(10, 10), (30, 10), (30, 20), (10, 20)]
    for i in (0, 1):
        cvat_images(root / f"c{i}.xml", [[], [_shape("polygon", "pleura", square)], [], [_shape("polygon", "B-line", square)], []])
    frames = [[(0, [_flat(square)])] if n % 5 == 2 else [] for n in range(10)]
    coco(root / "all.json", frames, names=[f"c{i}/{t}.png" for i in (2, 3) for t in range(5)])
    table = {"clip": [f"c{i}" for i in range(4)], "path": [f"clips/c{i}.mp4" for i in range(4)], "patient": [f"p{i}" for i in range(4)]}
    masks = ["c0.xml", "c1.xml", "all.json#c2", "all.json#c3"]
    write_index(root, pd.DataFrame(table | {"score": [1, 1, 1, 0], "standard": "soldati", "mask": masks}))
    return root


def test_the_data_module_trains_on_outlines_rasterised_once(annotated, tmp_path, monkeypatch):
    given = {"size": 64, "batch_size": 2, "study": "tiny", "root": str(annotated), "num_workers": 0}
    data = FrameMaskDataModule(**given, split=Split(test_share=0.25, val_share=0.25), cache_dir=str(tmp_path / "cache"))
    data.prepare_data()
    seen = {}
    for part in ("train", "val", "test"):
        for sample in data.dataset(data.part(part), part):
            assert sample["mask"].dtype == torch.uint8
            seen[data.sources.clips["clip"][int(sample["row"])], int(sample["frame"])] = sample["mask"][0]
    assert len(seen) == 20
    for place, mask in seen.items():
        bit = {("c0", 1): 1, ("c1", 1): 1, ("c0", 3): 4, ("c1", 3): 4, ("c2", 2): 4, ("c3", 2): 4}.get(place, 0)
        assert int(mask.max()) == bit
        assert int((mask > 0).sum()) == (200 if bit else 0)  # 64 x 48 pixels keep their scale in a box of 64
    monkeypatch.setattr("lus_lightning.data.masks.read_annotations", lambda path: pytest.fail("rasterised again"))
    os.utime(annotated / "c0.xml")  # another time, the same content
    assert cached_mask(annotated / "c0.xml", 64, tmp_path / "cache")[1].max() == 1
    assert cached_mask(annotated / "all.json#c3", 64, tmp_path / "cache")[2].max() == 4


def test_a_changed_outline_is_read_anew(annotated, tmp_path):
    assert cached_mask(annotated / "c0.xml", None, tmp_path / "cache")[1].max() == 1
    cvat_images(annotated / "c0.xml", [[_shape("polygon", "effusion", TRIANGLE)] for _ in range(5)])
    assert cached_mask(annotated / "c0.xml", None, tmp_path / "cache")[1].max() == 16


def test_outlines_that_do_not_fit_their_clip_are_left_out_with_the_reason(annotated, tmp_path):
    cvat_images(annotated / "c0.xml", [[]] * 6)
    (annotated / "c1.xml").unlink()
    index = build_index(annotated, cache_dir=tmp_path / "cache")
    assert index.table["clip"].tolist() == ["c2", "c3"]
    reasons = dict(zip(index.left_out["path"], index.left_out["reason"], strict=True))
    assert "the mask has 6 frames of 64 x 48 pixels, its clip 5 frames of 64 x 48" in reasons["clips/c0.mp4"]
    assert "there is no such file" in reasons["clips/c1.mp4"]


GOOD = _shape("polygon", "b_line", TRIANGLE)
BOX = '<box label="b_line" xtl="1" ytl="1" xbr="5" ybr="5"/>'


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: cvat_images(p, [[_shape("polygon", "diaphragm", TRIANGLE), _shape("polygon", "heart", TRIANGLE), GOOD]]),
         "'diaphragm', 'heart' are no class; rename them to pleural_line"),
        (lambda p: cvat_images(p, [[BOX]]), "has a <box>; only polygons"),
        (lambda p: cvat_images(p, []), "has no <image>"),
        (lambda p: cvat_images(p, [[GOOD], []], names=["a/1.png", "b/1.png"]), r"2 folders \(a, b\); name one"),
        (lambda p: cvat_images(p, [[GOOD], []], names=["1.png", "1.png"]), "names an image twice"),
        (lambda p: cvat_images(p, [[_shape("polygon", "b_line", {"points": "1,2;3"})]]), "no readable file of CVAT"),
        (lambda p: cvat_images(p, [[_shape("polygon", "b_line", {"points": "1,2;3,4;nan,1"})]]), "two finite numbers"),
        (lambda p: cvat_images(p, [[GOOD.replace("points", "pints")]]), "lacks or refers to a missing 'points'"),
        (lambda p: cvat_images(p, [[_shape("mask", "b_line", {"rle": "3, 4", "left": 0, "top": 0, "width": 3, "height": 3})]]),
         "does not fit its runs"),
        (lambda p: cvat_images(p, [[_shape("mask", "b_line", {"rle": "1, 8", "left": 63, "top": 0, "width": 3, "height": 3})]]),
         "its image of 64 x 48"),
        (lambda p: cvat_video(p, [("b_line", [GOOD.replace("<polygon", '<polygon frame="9"')])]), "shape in frame 9, but the clip 4"),
        (lambda p: p.write_text("<annotations><image"), "no readable file of CVAT"),
        (lambda p: p.write_text("<?xml version='1.0' encoding='utf-9'?><annotations/>"), "unknown encoding"),
        (lambda p: p.write_text("<svg/>"), "outermost element is <svg>"),
        (lambda p: p.write_text(""), "no readable file of CVAT"),
    ],
)  # fmt: skip
def test_a_bad_cvat_file_is_a_sentence(make, sentence, tmp_path):
    make(tmp_path / "bad.xml")
    with pytest.raises(UserError, match=sentence) as error:
        read_mask(tmp_path / "bad.xml")
    assert str(tmp_path / "bad.xml") in str(error.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: coco(p, [[(0, [])]]), "annotation 0 has no outline"),
        (lambda p: coco(p, [[(0, {"counts": "PXa3", "size": [48, 64]})]]), "a compressed mask; export polygons"),
        (lambda p: coco(p, [[(5, [_flat(TRIANGLE)])]]), "refers to a missing 12"),
        (lambda p: coco(p, [[(0, [[1, 2, 3]])]]), "no readable file of CVAT"),
        (lambda p: coco(p, [[(0, {"counts": [10, 10], "size": [48, 64]})]]), "does not fit its runs"),
        (lambda p: coco(p, []), "has no image"),
        (lambda p: coco(p, [[(0, [_flat(TRIANGLE)])]], categories=("lung",)), "'lung' are no class"),
        (lambda p: p.write_text("[1, 2]"), "no readable file of CVAT"),
        (lambda p: p.write_text("{}"), "neither COCO's `images` nor LabelMe's"),
        (lambda p: p.write_bytes(b"\xff\xfe{"), "no readable file of CVAT"),
    ],
)  # fmt: skip
def test_a_bad_coco_file_is_a_sentence(make, sentence, tmp_path):
    make(tmp_path / "bad.json")
    with pytest.raises(UserError, match=sentence):
        read_mask(tmp_path / "bad.json")


def test_images_of_different_sizes_are_a_sentence(tmp_path):
    file = cvat_images(tmp_path / "a.xml", [[GOOD], []])
    tree = ElementTree.parse(file)
    tree.getroot().findall("image")[1].set("width", "32")
    tree.write(file)
    with pytest.raises(UserError, match="32 x 48, 64 x 48 pixels; the frames of a clip have one size"):
        read_annotations(file)


def test_outlines_hold_no_beam_space(tmp_path):
    with pytest.raises(UserError, match="has no array 'beam_mask'"):
        read_mask(cvat_images(tmp_path / "a.xml", [[GOOD]]), key="beam_mask")
