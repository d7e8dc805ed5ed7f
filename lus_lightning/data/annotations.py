"""Outlines that people drew, as masks: "CVAT for images 1.1", "CVAT for video 1.1" (https://docs.cvat.ai/docs/other/xml_format),
COCO (https://cocodataset.org/#format-data) and LabelMe (https://github.com/wkentaro/labelme), whose files hold one image each.

Coordinates are pixels, (0, 0) the upper left corner of the first one. A pixel belongs to a polygon that holds its centre, so that an
outline does not widen a thin line. Frames are the file's images in natural order of their names, annotated or not.
"""  # fmt: skip

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np

from lus_lightning.data.readers import natural_key
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES

POLYLINE_PX: Final = 3
"""Width of a class drawn as an open line; ours: formats give none."""

_SPELLINGS: Final = {
    "pleura": "pleural_line",
    "pleuraline": "pleural_line",
    "verticalartefact": "b_line",
    "verticalartifact": "b_line",
    "subpleuralconsolidation": "consolidation",
    "pleuraleffusion": "effusion",
    "acousticshadow": "rib_shadow",
    "shadow": "rib_shadow",
} | {name.replace("_", ""): name for name in MASK_CLASSES}
"""Class by its name in lower case, without anything but letters and without a plural's s."""

Drawing = Callable[[int, int], np.ndarray]
"""Given height and width, (H, W) bool."""


@dataclass(frozen=True)
class Picture:
    """One image of an annotation file: its name, size in pixels, and what is drawn on it, each with its label.

    A `numbered` image is named by a person or a program, so that its name may say which frame it is.
    """

    name: str
    height: int
    width: int
    shapes: list[tuple[str, Drawing]] = field(default_factory=list)
    numbered: bool = True


def annotation_file(path: Path) -> tuple[Path, str]:
    """The file, and what stands behind `#`: of a file of several clips the clip (`coco.json#clip`), of other masks their only class
    (`masks#b_line`). Any other path is itself, with nothing.
    """  # fmt: skip
    found = re.fullmatch(rf"(.+\.(?:xml|json))#(.+)|(.+)#({'|'.join(MASK_CLASSES)})", str(path), re.IGNORECASE | re.DOTALL)
    return (Path(found[1] or found[3]), found[2] or found[4].lower()) if found else (path, "")


def is_annotation(path: Path) -> bool:
    """Whether the path names a CVAT, COCO or LabelMe file, by its suffix."""
    return annotation_file(path)[0].suffix.lower() in (".xml", ".json")


def read_annotations(path: Path) -> tuple[np.ndarray, list[str]]:
    """Masks of a clip, (T, H, W) uint8, bit i set where `labels.MASK_CLASSES[i]` is drawn, and the names (T) of the images.

    Polygons, polylines, rectangles of LabelMe and run-length masks are read. Of a file of several clips, `file#clip` takes the images in a
    folder of that name, or named as the clip and a number. Where the file itself counts the frames (CVAT for video) no names are given.

    Raises:
        UserError: the file is damaged or of another kind, holds boxes or other shapes, labels that are no class, no image of the clip,
            images of several folders with none chosen, or images of different sizes.
        OSError: it cannot be opened.
    """
    file, clip = annotation_file(path)
    stat = file.stat()
    try:
        pictures = _of_clip(_pictures(str(file), (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)), clip)
        return _rasterised(pictures), [p.name for p in pictures if p.numbered]
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except KeyError as error:
        raise UserError(f"{path}: an entry lacks or refers to a missing {error}; export the annotations again") from None
    except (ElementTree.ParseError, LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path}: is no readable file of CVAT (XML), COCO or LabelMe (JSON) ({error}); export the annotations again as one of these"
        ) from None


# A file of many clips is asked for each of them; the stamp stands here so that a changed file is read anew.
@lru_cache(maxsize=1)
def _pictures(file: str, stamp: tuple[int, int, int]) -> list[Picture]:
    if file.lower().endswith(".json"):
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        if isinstance(content, dict) and not {"shapes", "images"} & set(content):
            raise UserError("is JSON with neither COCO's `images` nor LabelMe's `shapes`; outlines of CVAT, COCO and LabelMe are read")
        return [_labelme(content)] if "shapes" in content else _coco(content)
    root = ElementTree.parse(file).getroot()
    if root.tag != "annotations":
        raise UserError(f"its outermost element is <{root.tag}>, not CVAT's <annotations>; export as CVAT for images or for video")
    return _cvat_video(root) if root.find("image") is None else [_cvat_image(image) for image in root.iter("image")]


def _of_clip(pictures: list[Picture], clip: str) -> list[Picture]:
    """The clip's pictures in natural order."""
    names = [p.name.replace("\\", "/") for p in pictures]
    if clip:
        frame = re.compile(rf"(.*/)?{re.escape(clip)}([_\-. ]+(frame[_\-. ]*)?\d+)?(\.\w+)?", re.IGNORECASE)
        chosen = [i for i, name in enumerate(names) if f"/{clip}/" in f"/{name}" or frame.fullmatch(name)]
    else:
        chosen = list(range(len(names)))
        if len(folders := sorted({name.rpartition("/")[0] for name in names})) > 1:
            raise UserError(
                f"holds images of {len(folders)} folders ({', '.join(folders[:5])}); name one in the column `mask`, as file#folder"
            )
    if not chosen:
        raise UserError(f"has no image{f' of {clip!r} (it has {names[:3]})' if clip and names else ''}; correct the column `mask`")
    if len({names[i] for i in chosen}) < len(chosen):
        raise UserError("names an image twice; export the annotations again")
    return [pictures[i] for i in sorted(chosen, key=lambda i: natural_key(names[i]))]


def _rasterised(pictures: list[Picture]) -> np.ndarray:
    sizes = sorted({(p.width, p.height) for p in pictures})
    if len(sizes) > 1 or min(sizes[0]) < 1:
        raise UserError(f"its images are {', '.join(f'{w} x {h}' for w, h in sizes)} pixels; the frames of a clip have one size")
    labels = {label for p in pictures for label, _ in p.shapes}
    classes = {label: _SPELLINGS.get(re.sub("[^a-z]", "", label.lower()).removesuffix("s")) for label in labels}
    if unknown := sorted(label for label, name in classes.items() if name is None):
        raise UserError(
            f"its label(s) {', '.join(map(repr, unknown))} are no class; rename them to {', '.join(MASK_CLASSES)}, or delete them"
        )
    masks = np.zeros((len(pictures), sizes[0][1], sizes[0][0]), np.uint8)
    for mask, picture in zip(masks, pictures, strict=True):
        for label, draw in picture.shapes:
            mask[draw(*mask.shape)] |= 1 << MASK_CLASSES.index(str(classes[label]))
    return masks


def _cvat_image(image: ElementTree.Element) -> Picture:
    a = image.attrib
    shapes = [(shape.attrib["label"], _cvat_shape(shape)) for shape in image if shape.tag != "tag"]
    return Picture(a["name"], int(a["height"]), int(a["width"]), shapes)


def _cvat_video(root: ElementTree.Element) -> list[Picture]:
    """CVAT lists a track's shape in every frame it is in, those between key frames too, and ends it with one that is `outside`."""
    size, width, height = (root.findtext(f".//{name}") for name in ("size", "original_size/width", "original_size/height"))
    if size is None or width is None or height is None:
        raise UserError("has no <image>, and its <meta> no <size> or <original_size>; export as CVAT for images or for video")
    pictures = [Picture(f"{t:06d}", int(height), int(width), numbered=False) for t in range(int(size))]
    for track in root.iter("track"):
        for shape in track:
            if shape.attrib.get("outside") == "1":
                continue
            if not 0 <= (frame := int(shape.attrib["frame"])) < len(pictures):
                raise UserError(f"a track has a shape in frame {frame}, but the clip {size} frames; export the annotations again")
            pictures[frame].shapes.append((track.attrib["label"], _cvat_shape(shape)))
    return pictures


def _cvat_shape(shape: ElementTree.Element) -> Drawing:
    a = shape.attrib
    if shape.tag == "mask":
        box = (int(a["left"]), int(a["top"]), int(a["width"]), int(a["height"]))
        return partial(_runs, [int(n) for n in a["rle"].split(",")], box, "C")
    if shape.tag not in ("polygon", "polyline"):
        raise UserError(f"has a <{shape.tag}>; only polygons, polylines and masks are read: draw it as one, or delete it")
    points = np.array([point.split(",") for point in a["points"].split(";")], float)
    return partial(_polygon if shape.tag == "polygon" else _polyline, points)


def _coco(content: dict[str, Any]) -> list[Picture]:
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    pictures = {i["id"]: Picture(str(i["file_name"]), int(i["height"]), int(i["width"])) for i in content["images"]}
    for annotation in content["annotations"]:
        picture, label = pictures[annotation["image_id"]], names[annotation["category_id"]]
        outline = annotation.get("segmentation")
        if not outline or (isinstance(outline, dict) and isinstance(outline["counts"], str)):
            kind = "a compressed mask" if outline else "no outline (a box alone)"
            raise UserError(f"annotation {annotation.get('id')} has {kind}; export polygons, or masks with uncompressed counts")
        if isinstance(outline, dict):
            height, width = outline["size"]
            picture.shapes.append((label, partial(_runs, outline["counts"], (0, 0, width, height), "F")))
        else:
            picture.shapes.extend((label, partial(_polygon, np.array(part, float).reshape(-1, 2))) for part in outline)
    return list(pictures.values())


def _labelme(content: dict[str, Any]) -> Picture:
    name = str(content["imagePath"]).replace("\\", "/").rpartition("/")[2]
    picture = Picture(name, int(content["imageHeight"]), int(content["imageWidth"]))
    for shape in content["shapes"]:
        points, kind = np.array(shape["points"], float), shape.get("shape_type", "polygon")
        if kind == "rectangle":
            (x0, y0), (x1, y1) = points
            points, kind = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), "polygon"
        if kind not in ("polygon", "linestrip"):
            raise UserError(f"has a shape {kind!r}; polygons, line strips and rectangles are read: draw it as one, or delete it")
        picture.shapes.append((shape["label"], partial(_polygon if kind == "polygon" else _polyline, points)))
    return picture


def _polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    from matplotlib.path import Path as Outline  # only who has outlines waits for it

    drawn = np.zeros((height, width), bool)
    window, centres = _near(points, 0, height, width)
    drawn[window] = Outline(points).contains_points(centres.reshape(-1, 2)).reshape(centres.shape[:2])
    return drawn


def _polyline(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """All pixels whose centres lie within half the width: OpenCV's thick lines differ between its versions."""
    drawn = np.zeros((height, width), bool)
    for start, end in pairwise(points):
        window, centres = _near(np.stack([start, end]), POLYLINE_PX / 2, height, width)
        way = end - start
        along = np.clip((centres - start) @ way / max(float(way @ way), 1e-9), 0, 1)
        drawn[window] |= np.linalg.norm(centres - start - along[..., None] * way, axis=-1) <= POLYLINE_PX / 2
    return drawn


def _near(points: np.ndarray, margin: float, height: int, width: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of the picture around points (N, 2), and the centres (h, w, 2) of its pixels."""
    if not np.isfinite(points).all() or points.ndim != 2 or points.shape[1] != 2:
        raise ValueError("a point is not two finite numbers")
    size = np.array([width, height])
    left, top = np.clip(np.floor(points.min(axis=0) - margin), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0) + margin), 0, size).astype(int)
    x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    return (slice(top, bottom), slice(left, right)), np.stack([x, y], axis=-1)


def _runs(counts: list[int], box: tuple[int, int, int, int], order: Any, height: int, width: int) -> np.ndarray:
    """Lengths of runs of pixels, first outside and then inside by turns, by row (`C`) or by column (`F`) of a box."""
    left, top, columns, rows = box
    if min(box) < 0 or left + columns > width or top + rows > height or sum(counts) != rows * columns:
        raise UserError(f"a mask of {columns} x {rows} pixels at ({left}, {top}) does not fit its runs, or its image of {width} x {height}")
    drawn = np.zeros((height, width), bool)
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    drawn[top : top + rows, left : left + columns] = inside.reshape((rows, columns), order=order)
    return drawn
