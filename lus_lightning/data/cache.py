"""The frame cache: every clip decoded and resized once, then read as a memory map by any number of processes.

One file of the store a clip. Its name is a hash of the source's content, the size and the reader's version, so a changed source or reader
never meets an old file. The checksum is compared once per process, when a file is first opened.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from lus_lightning.data.annotations import annotation_file
from lus_lightning.data.beamspace import BEAM_VERSION, beam_picture, to_beam
from lus_lightning.data.geometry import SAMPLES, Geometry
from lus_lightning.data.identity import content_hash, digest
from lus_lightning.data.masks import holds, read_mask
from lus_lightning.data.parallel import in_processes
from lus_lightning.data.readers import READER_VERSION, frames_of, still_files
from lus_lightning.data.store import bound, keep, kept
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES

_OPEN_FILES: Final = 16384
_BITS: Final = [np.uint8(1 << i) for i in range(len(MASK_CLASSES))]


def cached_frames(path: Path, size: int | None, cache_dir: Path, geometry: Geometry | None = None) -> np.ndarray:
    """Frames of a clip as a read-only memory map, (T, size, size) uint8 luma, letterboxed; (T, H, W) as they are if `size` is none.

    With a `geometry` in beam space as a picture, (T, size depths, size / 2 scan lines), `size` 256 if none.

    Raises:
        UserError: the clip cannot be read, or the cache cannot be written.
    """
    return _opened(str(path), file_stamp(path), "frames", size, str(cache_dir), geometry)


def cached_mask(path: Path, size: int | None, cache_dir: Path, geometry: Geometry | None = None) -> np.ndarray:
    """Masks of a clip, as `cached_frames`; where pixels become fewer, no thin line is lost (`letterbox_mask`, `beamspace.beam_picture`).

    Where not every frame has a mask (`mask_frames` of the index), they are fewer than the frames: see `masks.mask_places`.

    In beam space, a file's own masks in beam space (`beam_mask`) are taken before those of the picture.

    Raises:
        UserError: the mask cannot be read, or the cache cannot be written.
    """
    return _opened(str(path), file_stamp(annotation_file(path)[0]), "mask", size, str(cache_dir), geometry)


def fill_cache(clips: Sequence[tuple[Path, Geometry | None]], size: int | None, cache_dir: Path, workers: int) -> list[tuple[Path, str]]:
    """Decode every clip (with its geometry: into beam space) that is not yet cached, in processes, with progress; returns the failures.

    What is done is kept when it is interrupted. What was used longest ago is removed if the cache is over its limit.
    """
    done = in_processes(partial(_fill, size=size, cache_dir=cache_dir), list(clips), workers, "frame cache")
    bound(cache_dir)
    return [(path, str(result)) for (path, _), result in zip(clips, done, strict=True) if isinstance(result, UserError)]


def letterbox(frames: np.ndarray, size: int) -> np.ndarray:
    """(T, H, W) to (T, size, size): the aspect kept, centred, black around."""
    return _boxed(frames, size, lambda frame, shape: cv2.resize(frame, shape, interpolation=cv2.INTER_AREA))


def letterbox_mask(masks: np.ndarray, size: int) -> np.ndarray:
    """As `letterbox`, of bit masks: a pixel is of each class that has at least a fifth of it, so that no thin line is lost."""

    def resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        if shape[0] >= mask.shape[1]:
            return cv2.resize(mask, shape, interpolation=cv2.INTER_NEAREST_EXACT)
        small = np.zeros(shape[::-1], np.uint8)
        for bit in _BITS:
            plane = np.where(mask & bit, np.uint8(255), np.uint8(0))
            small[cv2.resize(plane, shape, interpolation=cv2.INTER_AREA) >= 51] |= bit
        return small

    return _boxed(masks, size, resized)


def _boxed(frames: np.ndarray, size: int, resized: Callable[[np.ndarray, tuple[int, int]], np.ndarray]) -> np.ndarray:
    _, height, width = frames.shape
    scale = size / max(height, width)
    inner_h, inner_w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - inner_h) // 2, (size - inner_w) // 2
    boxed = np.zeros((len(frames), size, size), np.uint8)
    for frame, box in zip(frames, boxed, strict=True):
        box[top : top + inner_h, left : left + inner_w] = resized(frame, (inner_w, inner_h))
    return boxed


def file_stamp(path: Path) -> tuple[int, int, int]:
    """Size and times of modification and of change (ns): what tells that a file was altered under a running process.

    Of a folder of stills, theirs are told with it, looked at once a second.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        found = os.stat(path)
        stamp = found.st_size, found.st_mtime_ns, found.st_ctime_ns
        return _stills_stamp(path, stamp, int(time.monotonic())) if stat.S_ISDIR(found.st_mode) else stamp
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); has it moved since the index was made?") from None


@lru_cache(maxsize=1024)
def _stills_stamp(folder: Path, stamp: tuple[int, int, int], second: int) -> tuple[int, int, int]:
    each = [stamp, *((s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in map(os.stat, still_files(folder)))]
    return sum(s[0] for s in each), sum(s[1] for s in each), max(s[2] for s in each)


def frames_key(path: Path, size: int | None, cache_dir: Path, geometry: Geometry | None = None) -> str:
    """Name of `cached_frames` in the store (64 hex digits): a hash of the clip's content and of all that decides how it is read."""
    return _key(str(path), file_stamp(path), "frames", size, str(cache_dir), geometry)


# The stamp stands among the arguments so that a file changed under a running process is read anew.
@lru_cache(maxsize=4 * _OPEN_FILES)
def _key(path: str, stamp: tuple[int, int, int], kind: str, size: int | None, cache_dir: str, geometry: Geometry | None) -> str:
    source, clip = annotation_file(Path(path))
    where = [] if geometry is None else [geometry, BEAM_VERSION]
    return digest(content_hash(source, Path(cache_dir)), *([clip] if clip else []), kind, size, READER_VERSION, *where)


@lru_cache(maxsize=_OPEN_FILES)
def _opened(
    path: str, stamp: tuple[int, int, int], kind: str, size: int | None, cache_dir: str, geometry: Geometry | None = None
) -> np.ndarray:
    name = _key(path, stamp, kind, size, cache_dir, geometry)
    file = Path(cache_dir) / "frames" / name[:2] / f"{name}.frames"
    frames = kept(file)
    if frames is None:
        keep(file, _unchanged(_made(Path(path), kind, size, geometry), path, stamp))
        frames = kept(file)
    if frames is None:
        raise UserError(f"{file}: is damaged as soon as it is written; check the disk, or name another cache folder ($LUS_CACHE)")
    return frames


def _unchanged(frames: Iterable[np.ndarray], path: str, stamp: tuple[int, int, int]) -> Iterator[np.ndarray]:
    yield from frames
    if file_stamp(annotation_file(Path(path))[0]) != stamp:
        raise UserError(f"{path}: was changed while it was read; start again when it is copied or written whole")


def _made(path: Path, kind: str, size: int | None, geometry: Geometry | None) -> Iterable[np.ndarray]:
    """The frames of a clip as they are decoded, or its masks, each (h, w)."""
    if kind == "frames":
        frames = frames_of(path)
        if geometry is not None:
            return (beam_picture(to_beam(frame[None], geometry), size or SAMPLES)[0] for frame in frames)
        return frames if size is None else (letterbox(frame[None], size)[0] for frame in frames)
    if geometry is not None:
        return beam_picture(_beam_mask(path, geometry), size or SAMPLES, bits=True)
    return read_mask(path) if size is None else letterbox_mask(read_mask(path), size)


def _beam_mask(path: Path, geometry: Geometry) -> np.ndarray:
    if geometry.scaled and holds(path, "beam_mask"):  # of the data's own geometry; an estimated one has other scan lines
        return read_mask(path, "beam_mask")
    return to_beam(read_mask(path), geometry, nearest=True)


def _fill(clip: tuple[Path, Geometry | None], size: int | None, cache_dir: Path) -> None:
    cached_frames(clip[0], size, cache_dir, clip[1])
