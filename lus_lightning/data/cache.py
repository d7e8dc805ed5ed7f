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
from lus_lightning.data.identity import content_hash, digest, write_whole
from lus_lightning.data.masks import read_mask
from lus_lightning.data.parallel import in_processes
from lus_lightning.data.readers import READER_VERSION, read_clip
from lus_lightning.errors import UserError

_HEADER: Final = struct.Struct("<8s3II")
_HEADER_BYTES: Final = 64
_MAGIC: Final = b"LUSCACHE"
_OPEN_FILES: Final = 16384


def cached_frames(path: Path, size: int | None, cache_dir: Path) -> np.ndarray:
    """Frames of a clip as a read-only memory map, (T, size, size) uint8 luma, letterboxed; (T, H, W) as they are if `size` is none.

    Raises:
        UserError: the clip cannot be read, or the cache cannot be written.
    """
    return _opened(str(path), file_stamp(path), "frames", size, str(cache_dir))


def cached_mask(path: Path, size: int | None, cache_dir: Path, key: str = "mask") -> np.ndarray:
    """An array of a mask file, as `cached_frames`: the same letterbox, nearest neighbour. Use size none for the keys of the beam space.

    Raises:
        UserError: the mask cannot be read, or the cache cannot be written.
    """
    return _opened(str(path), file_stamp(annotation_file(path)[0]), key, size, str(cache_dir))


def fill_cache(paths: Sequence[Path], size: int | None, cache_dir: Path, workers: int) -> list[tuple[Path, str]]:
    """Decode every clip that is not yet cached, in `workers` processes, with progress; returns the failures with their reasons.

    What is done is kept when it is interrupted.
    """
    done = in_processes(partial(_fill, size=size, cache_dir=cache_dir), list(paths), workers, "frame cache")
    return [(path, str(result)) for path, result in zip(paths, done, strict=True) if isinstance(result, UserError)]


def letterbox(frames: np.ndarray, size: int, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """(T, H, W) to (T, size, size): the aspect kept, centred, black around."""
    _, height, width = frames.shape
    scale = size / max(height, width)
    inner_h, inner_w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - inner_h) // 2, (size - inner_w) // 2
    boxed = np.zeros((len(frames), size, size), np.uint8)
    for frame, box in zip(frames, boxed, strict=True):
        box[top : top + inner_h, left : left + inner_w] = cv2.resize(frame, (inner_w, inner_h), interpolation=interpolation)
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
def _opened(path: str, stamp: tuple[int, int, int], kind: str, size: int | None, cache_dir: str) -> np.ndarray:
    source, clip = annotation_file(Path(path))
    name = digest(content_hash(source, Path(cache_dir)), *([clip] if clip else []), kind, size, READER_VERSION)
    file = Path(cache_dir) / "frames" / name[:2] / f"{name}.frames"
    frames = _sound(file)
    if frames is None:
        _write(file, _made(Path(path), kind, size))
        frames = _sound(file)
    if frames is None:
        raise UserError(f"{file}: is damaged as soon as it is written; check the disk, or name another cache folder ($LUS_CACHE)")
    return frames


def _made(path: Path, kind: str, size: int | None) -> np.ndarray:
    made: Callable[[], np.ndarray] = (lambda: read_clip(path).frames) if kind == "frames" else partial(read_mask, path, kind)
    return made() if size is None else letterbox(made(), size, cv2.INTER_AREA if kind == "frames" else cv2.INTER_NEAREST_EXACT)


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


def _fill(path: Path, size: int | None, cache_dir: Path) -> None:
    cached_frames(path, size, cache_dir)
