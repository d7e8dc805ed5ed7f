"""Stills, and several of them in one file (TIFF stacks, animated PNG and WebP), through Pillow."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageOps

from lus_lightning.data.pixels import REPLACE, Told, on_black, refuse_large, square
from lus_lightning.data.shown import LOOKED_AT
from lus_lightning.errors import UserError

_WHITE_IS_ZERO: Final = 0
_QUARTER_TURNS: Final = (5, 6, 7, 8)
"""EXIF orientations in which what is stored as a row is shown as a column."""


def picture_frames(path: Path, told: Told) -> Iterator[np.ndarray]:
    """The pictures of a file in order, each (H, W): uint8 luma, or the values as they are where a pixel has more than 8 bits.

    Turned as EXIF says, with square pixels, transparent ground black. Of a JPEG with further pictures (MPO: previews, depth) the first.

    Raises:
        UserError, OSError: the file is empty, damaged, too large, or stores pixels in a way that is not read.
    """
    milliseconds, count = 0.0, 0
    for image in opened_pictures(path, told):
        _refuse(image)
        yield _shown(image, told)
        milliseconds, count = milliseconds + float(image.info.get("duration") or 0), count + 1
    if milliseconds and count > 1:
        told.fps = 1000 * count / milliseconds


def opened_pictures(path: Path, told: Told) -> Iterator[Image.Image]:
    """The pictures of a file in order, each as Pillow has it before it is decoded, valid until the next is taken.

    Raises:
        UserError, OSError: the file is empty, damaged or too large.
    """
    if path.stat().st_size == 0:
        raise UserError(f"is empty (0 bytes); {REPLACE}")
    with _opened(path) as image:
        for number in _numbers(image, told):
            image.seek(number)
            refuse_large(*image.size)
            yield image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is told in a sentence
        with path.open("rb") as file:  # a path would be mapped into memory, where Pillow 13 garbles a TIFF that is turned
            try:
                image = Image.open(file)
            except Image.DecompressionBombError:
                raise UserError("claims a picture of more than 170 million pixels, which is not read; write it smaller") from None
            yield image


def _numbers(image: Image.Image, told: Told) -> range:
    """Which pictures of the file are frames."""
    count = getattr(image, "n_frames", 1)
    if image.format == "MPO":
        told.note(f"of the {count} pictures in it the first is read")
        return range(1)
    stack = re.search(r"\bimages=(\d+)", str(getattr(image, "tag_v2", {}).get(ExifTags.Base.ImageDescription)))
    if stack and int(stack[1]) > count:  # ImageJ's way beyond 4 GB
        raise UserError(f"holds {stack[1]} pictures behind one another that its TIFF directory does not list; save it as a stack of pages")
    # The still that an animated PNG shows where animation is unknown is no frame of it.
    return range(1 if getattr(image, "default_image", False) else 0, count)


def _refuse(image: Image.Image) -> None:
    """Refuse what Pillow would read wrongly without a word; before the pixels are loaded.

    Raises:
        UserError: colours or alpha of 16 bits, of which it keeps the upper 8, 16 bits stored inverted, or a resolution of no known meaning.
    """
    deep = image.mode.startswith("I")
    if ";16" in str(getattr(image, "tile", "")) and not deep:
        raise UserError("has colours or transparency of 16 bits, which are not read; save it as grey of 16 bits, or with 8 bits")
    if deep and getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
        raise UserError("stores 16 bits inverted (its PhotometricInterpretation is WhiteIsZero), which is not read; save it as BlackIsZero")
    # A ratio without a unit: FFmpeg writes width to height here, the formats' own texts mean pixels to the right to pixels downwards.
    x, y = image.info.get("aspect") or (image.info["jfif_density"] if image.info.get("jfif_unit") == 0 else (1, 1))
    if x != y:
        raise UserError(f"has pixels that are not square, and programs differ in what {x} to {y} means here; save it with square pixels")


def _shown(image: Image.Image, told: Told) -> np.ndarray:
    # Read before the pixels: Pillow turns a TIFF as it loads it, and drops the tag.
    quarter = image.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
    x, y = image.info.get("dpi") or image.info.get("resolution") or (1, 1)
    aspect = float(y) / float(x) if x and y else 1.0
    clear = image.info.get("transparency")
    picture = ImageOps.exif_transpose(image)
    if told.colours is not None and picture.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
        small = picture.convert("RGB")
        small.thumbnail((LOOKED_AT, LOOKED_AT))
        told.colours.look(np.asarray(small))
    if picture.mode == "F" or picture.mode.startswith("I"):
        values = np.asarray(picture)
        values = values.astype(values.dtype.newbyteorder("="))
        values = np.where(values == clear, values.dtype.type(0), values) if isinstance(clear, int) else values
    elif picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        values = on_black(np.asarray(rgba.convert("L")), np.asarray(rgba.getchannel("A")))
    else:
        values = np.asarray(picture.convert("L"))
    return square(values, aspect, told) if not quarter else square(values.T, aspect, told).T
