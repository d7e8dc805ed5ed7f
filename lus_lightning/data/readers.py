"""Pictures from files: videos through PyAV, stills through Pillow, folders of stills, arrays. Everything comes out as uint8 luma."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from lus_lightning.errors import UserError

READER_VERSION: Final = 1
"""Part of every cache key: raise it whenever the same file would be read differently."""

VIDEO_SUFFIXES: Final = frozenset({".mp4", ".m4v", ".mov", ".avi", ".gif", ".mpeg", ".mpg", ".mkv", ".webm", ".wmv"})
IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
ARRAY_SUFFIX: Final = ".npy"

BLACK_BELOW: Final = 16
"""A frame whose brightest pixel is darker is black. The black frames that open real clips hold nothing but 0; the dimmest picture, 130."""

REPLACE: Final = "export the clip again from the scanner, or take its row out of the table"


@dataclass(frozen=True)
class Clip:
    """The frames of one file, in the order in which they are shown.

    Args:
        frames: (T, H, W) uint8 luma, full range 0-255. Black leading frames are kept: `first_picture` counts them.
        fps: frames per second as the container says, or none for stills and arrays.
    """

    frames: np.ndarray
    fps: float | None


def read_clip(path: Path) -> Clip:
    """Read a video, a GIF, a still, a `.npy` array or a folder of stills (in natural order: frame 2 before frame 10).

    An array is (T, H, W) or (H, W), uint8, or floating point in 0-255.

    Raises:
        UserError: the file is missing, empty, truncated, of an unknown type or codec, without frames, holds NaN or infinite pixels,
            or its frames differ in size.
    """
    try:
        return _read(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MemoryError:
        raise UserError(f"{path}: does not fit in memory; cut the clip, or take its row out of the table") from None
    except (av.FFmpegError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); {REPLACE}") from None


def first_picture(frames: np.ndarray) -> int:
    """Index of the first frame of (T, H, W) that is not black; T if all are."""
    return next((t for t, frame in enumerate(frames) if frame.max() >= BLACK_BELOW), len(frames))


def still_files(folder: Path) -> list[Path]:
    """The stills of a folder in natural order, files of other kinds and hidden ones aside."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> list[int | str]:
    """What to sort names by so that frame 2 comes before frame 10."""
    return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", name)]


def read_still(path: Path) -> np.ndarray:
    """A still as (H, W) uint8 luma; 16 bits are scaled to 8.

    Raises:
        UserError, OSError: as `read_clip`.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path.name} is empty (0 bytes); {REPLACE}")
    with Image.open(path) as image:
        if image.mode.startswith("I"):  # 16 bits, whichever byte order
            return (np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)
        return _as_uint8(np.asarray(image), path.name) if image.mode == "F" else np.asarray(image.convert("L"))


def _read(path: Path) -> Clip:
    suffix = path.suffix.lower()
    if path.is_dir():
        stills = [read_still(p) for p in still_files(path)]
        if not stills:
            raise UserError(f"the folder has no frames; it needs stills ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return Clip(_stack(stills), None)
    if not path.is_file():
        raise UserError("there is no such file; correct the path in the table, or take its row out")
    if path.stat().st_size == 0:
        raise UserError(f"is empty (0 bytes); {REPLACE}")
    if suffix in IMAGE_SUFFIXES:
        return Clip(read_still(path)[None], None)
    if suffix == ARRAY_SUFFIX:
        return Clip(_read_array(path), None)
    if suffix not in VIDEO_SUFFIXES:
        known = ", ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES | {ARRAY_SUFFIX}))
        raise UserError(f"is of a kind that is not read ({suffix or 'no suffix'}); convert it to one of {known}")
    return _read_video(path)


def _read_video(path: Path) -> Clip:
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UserError(f"holds no video stream: it is no video, or its end is missing; {REPLACE}")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise UserError("is of a codec that FFmpeg does not know; convert it, for example to H.264 in MP4")
        declared, rate = stream.frames, stream.average_rate
        frames = _stack(list(_decoded(container, stream)))
    if len(frames) < declared:
        raise UserError(f"is truncated: {len(frames)} of {declared} frames are there; {REPLACE}")
    if path.suffix.lower() == ".gif" and not path.read_bytes().rstrip(b"\0").endswith(b";"):
        raise UserError(f"is truncated: the end of the GIF is missing; {REPLACE}")
    return Clip(frames, float(rate) if rate else None)


def _decoded(container: "av.container.InputContainer", stream: "av.VideoStream") -> Iterator[np.ndarray]:
    count = 0
    grey = VideoReformatter()  # one for all frames: setting it up costs as much as decoding a frame
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise UserError(f"is truncated or damaged: frame {count} is corrupt; {REPLACE}")
            yield grey.reformat(frame, format="gray").to_ndarray()
            count += 1
    except av.FFmpegError:
        if count == 0:
            raise
        raise UserError(f"is truncated or damaged behind frame {count - 1}; {REPLACE}") from None


def _read_array(path: Path) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise UserError(f"holds an array of shape {array.shape}; it needs (frames, height, width)")
    return _as_uint8(array, "the array")


def _as_uint8(pixels: np.ndarray, name: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if not np.isfinite(pixels).all():
        raise UserError(f"{name} has {np.count_nonzero(~np.isfinite(pixels))} NaN or infinite pixels; write finite numbers in 0-255")
    if pixels.min() < 0 or pixels.max() > 255:
        raise UserError(f"{name} has pixels from {pixels.min():g} to {pixels.max():g}; scale them to 0-255")
    return pixels.round().astype(np.uint8)


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    if not frames:
        raise UserError(f"has no frames; {REPLACE}")
    if len(sizes := {f.shape for f in frames}) > 1:
        listed = ", ".join(f"{w} x {h}" for h, w in sorted(sizes))
        raise UserError(f"its frames differ in size ({listed}); make one clip of each size")
    return np.stack(frames)
