"""Clips from files, frame by frame and as uint8 luma: videos (`videos.py`), stills and stacks (`stills.py`), folders of stills, arrays."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np

from lus_lightning.data.pixels import REPLACE, Told, eight_bits, refuse_large
from lus_lightning.data.stills import picture_frames
from lus_lightning.data.videos import video_frames
from lus_lightning.errors import UserError

READER_VERSION: Final = 3
"""Part of every cache key: raise it whenever the same file would be read differently."""

VIDEO_SUFFIXES: Final = frozenset({".mp4", ".m4v", ".mov", ".avi", ".gif", ".mpeg", ".mpg", ".mkv", ".webm", ".wmv"})
IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
ARRAY_SUFFIX: Final = ".npy"
CLIP_SUFFIXES: Final = VIDEO_SUFFIXES | IMAGE_SUFFIXES | {ARRAY_SUFFIX}


@dataclass(frozen=True)
class Clip:
    """The frames of one file, in the order in which they are shown.

    Args:
        frames: (T, H, W) uint8 luma, full range 0-255.
        fps: frames per second as the container says, or none for stills and arrays.
    """

    frames: np.ndarray
    fps: float | None


def frames_of(path: Path, told: Told | None = None) -> Iterator[np.ndarray]:
    """Read a clip frame by frame, each (H, W) uint8 luma, holding a few of them only: the one way in which files are decoded.

    A clip is a video, a GIF, a still, several stills in one file (a TIFF stack, an animated PNG or WebP), a folder of stills (in natural
    order: frame 2 before frame 10) or a `.npy` array, (T, H, W) or (H, W). Frames come as they are to be shown: turned, with square pixels,
    transparent ground black, values of more than 8 bits scaled by the bits in use over the clip. Black and repeated ones are among them.

    Args:
        path: file or folder.
        told: takes what the file says beside its frames.

    Raises:
        UserError: the file is missing, empty, truncated, of an unknown type or codec, without frames, too large, holds NaN or infinite
            pixels, stores pixels in a way that is not read, or its frames differ in size.
    """
    told = told or Told()
    with _in_words(path):
        yield from eight_bits(lambda: _alike(_read(path, told)), told)
    if told.colours is not None and told.colours.moving:
        told.note("shows colours that move, as Doppler does, and is read as grey")


def read_clip(path: Path) -> Clip:
    """All frames of a clip at once, as `frames_of` reads them: what is long or large may not fit in memory.

    Raises:
        UserError: as `frames_of`.
    """
    frames = np.stack(list(frames_of(path, told := Told())))
    return Clip(frames, told.fps)


def visible(name: str) -> bool:
    """Whether a file is the user's: neither hidden (macOS's `._*`) nor Office's mark of an open file."""
    return not name.startswith((".", "~$"))


def still_files(folder: Path) -> list[Path]:
    """The stills of a folder in natural order, files of other kinds and hidden ones aside."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and visible(p.name))
    return sorted(found, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> list[int | str]:
    """What to sort names by so that frame 2 comes before frame 10."""
    return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", name)]


@contextmanager
def _in_words(path: Path | str) -> Iterator[None]:
    """Turn whatever the libraries say of a file into a sentence that names it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MemoryError:
        raise UserError(f"{path}: does not fit in memory; cut the clip, or take its row out of the table") from None
    except (av.FFmpegError, OSError, ValueError, SyntaxError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); {REPLACE}") from None


def _read(path: Path, told: Told) -> Iterator[np.ndarray]:
    """The frames of a file of any kind, with the values that it holds."""
    suffix = path.suffix.lower()
    if path.is_dir():
        stills = still_files(path)
        if not stills:
            raise UserError(f"the folder has no frames; it needs stills ({', '.join(sorted(IMAGE_SUFFIXES))})")
        for still in stills:
            with _in_words(still.name):
                yield from picture_frames(still, told)
        told.fps = None  # the folder's files are no film, whatever one of them says
        return
    if not path.is_file():
        raise UserError("there is no such file; correct the path in the table, or take its row out")
    if path.stat().st_size == 0:
        raise UserError(f"is empty (0 bytes); {REPLACE}")
    if suffix not in CLIP_SUFFIXES:
        known = ", ".join(sorted(CLIP_SUFFIXES))
        raise UserError(f"is of a kind that is not read ({suffix or 'no suffix'}); convert it to one of {known}")
    if suffix == ARRAY_SUFFIX:
        yield from _array(path)
    else:
        yield from (picture_frames if suffix in IMAGE_SUFFIXES else video_frames)(path, told)


def _array(path: Path) -> np.ndarray:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise UserError(f"holds an array of shape {array.shape}; it needs (frames, height, width)")
    if array.dtype.kind not in "buif":
        raise UserError(f"holds values of type {array.dtype}; write whole numbers, or finite ones in 0-255")
    refuse_large(*array.shape[:0:-1])
    return array.view(np.ndarray)


def _alike(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, of which there is one and all have one size and depth.

    Raises:
        UserError: they have not.
    """
    first = None
    for frame in frames:
        first = frame if first is None else first
        if frame.shape != first.shape:
            listed = ", ".join(f"{w} x {h}" for h, w in sorted({frame.shape, first.shape}))
            raise UserError(f"its frames differ in size ({listed}); make one clip of each size")
        if frame.dtype != first.dtype:
            raise UserError(f"its frames differ in depth ({first.dtype} and {frame.dtype}); write all of them with as many bits")
        yield frame
    if first is None:
        raise UserError(f"has no frames; {REPLACE}")
