"""The frame cache: every clip decoded and resized once, then read as a memory map by any number of processes.

One file a clip: a header of 64 bytes (magic, shape, CRC-32 of the pixels), then the pixels. Its name is a hash of the source's content,
the size and the reader's version, so a changed source or reader never meets an old file. The checksum is compared once per process, when
a file is first opened; a file that is cut short or altered is made again.
"""

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from lus_lightning.data.annotations import annotation_file
from lus_lightning.data.beamspace import BEAM_VERSION, beam_picture, to_beam
from lus_lightning.data.geometry import SAMPLES, Geometry
from lus_lightning.data.identity import content_hash, digest, write_whole
from lus_lightning.data.masks import holds, read_mask
from lus_lightning.data.parallel import in_processes
from lus_lightning.data.readers import READER_VERSION, read_clip
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES

_HEADER: Final = struct.Struct("<8s3II")
_HEADER_BYTES: Final = 64
_MAGIC: Final = b"LUSCACHE"
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

    In beam space, a file's own masks in beam space (`beam_mask`) are taken before those of the picture.

    Raises:
        UserError: the mask cannot be read, or the cache cannot be written.
    """
    return _opened(str(path), file_stamp(annotation_file(path)[0]), "mask", size, str(cache_dir), geometry)


def fill_cache(clips: Sequence[tuple[Path, Geometry | None]], size: int | None, cache_dir: Path, workers: int) -> list[tuple[Path, str]]:
    """Decode every clip (with its geometry: into beam space) that is not yet cached, in processes, with progress; returns the failures.

    What is done is kept when it is interrupted.
    """
    done = in_processes(partial(_fill, size=size, cache_dir=cache_dir), list(clips), workers, "frame cache")
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

    Raises:
        UserError: the file cannot be read.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); has it moved since the index was made?") from None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


# The stamp stands among the arguments so that a file changed under a running process is opened anew.
@lru_cache(maxsize=_OPEN_FILES)
def _opened(
    path: str, stamp: tuple[int, int, int], kind: str, size: int | None, cache_dir: str, geometry: Geometry | None = None
) -> np.ndarray:
    source, clip = annotation_file(Path(path))
    where = [] if geometry is None else [geometry, BEAM_VERSION]
    name = digest(content_hash(source, Path(cache_dir)), *([clip] if clip else []), kind, size, READER_VERSION, *where)
    file = Path(cache_dir) / "frames" / name[:2] / f"{name}.frames"
    frames = _sound(file)
    if frames is None:
        _write(file, _made(Path(path), kind, size, geometry))
        frames = _sound(file)
    if frames is None:
        raise UserError(f"{file}: is damaged as soon as it is written; check the disk, or name another cache folder ($LUS_CACHE)")
    return frames


def _made(path: Path, kind: str, size: int | None, geometry: Geometry | None) -> np.ndarray:
    if kind == "frames":
        frames = read_clip(path).frames
        if geometry is not None:
            return beam_picture(to_beam(frames, geometry), size or SAMPLES)
        return frames if size is None else letterbox(frames, size)
    if geometry is not None:
        return beam_picture(_beam_mask(path, geometry), size or SAMPLES, bits=True)
    return read_mask(path) if size is None else letterbox_mask(read_mask(path), size)


def _beam_mask(path: Path, geometry: Geometry) -> np.ndarray:
    if geometry.scaled and holds(path, "beam_mask"):  # of the data's own geometry; an estimated one has other scan lines
        return read_mask(path, "beam_mask")
    return to_beam(read_mask(path), geometry, nearest=True)


def _write(file: Path, frames: np.ndarray) -> None:
    pixels = np.ascontiguousarray(frames).reshape(-1).data
    header = _HEADER.pack(_MAGIC, *frames.shape, zlib.crc32(pixels))
    write_whole(file, [header.ljust(_HEADER_BYTES, b"\0"), pixels])


def _sound(file: Path) -> np.ndarray | None:
    """The file's frames, or none if it is missing, cut short or altered."""
    try:
        with file.open("rb") as opened:
            magic, *shape, checksum = _HEADER.unpack(opened.read(_HEADER.size))
        if magic != _MAGIC or file.stat().st_size != _HEADER_BYTES + int(np.prod(shape, dtype=object)):
            return None
        # A plain view: indexing a numpy.memmap itself costs as much again as copying a frame.
        frames = np.memmap(file, np.uint8, "r", _HEADER_BYTES, tuple(shape)).view(np.ndarray)
    except (OSError, struct.error, ValueError):
        return None
    return frames if zlib.crc32(frames.reshape(-1).data) == checksum else None


def _fill(clip: tuple[Path, Geometry | None], size: int | None, cache_dir: Path) -> None:
    cached_frames(clip[0], size, cache_dir, clip[1])
