"""The store: what is computed once and kept. One file a thing, in a folder for each kind, used by any number of processes.

A file is a header of 64 bytes (magic with the format's version, shape, CRC-32 of bytes and shape), then the bytes. It is written whole or
not at all, and its checksum is compared whenever it is opened: a file that is cut short or altered counts as missing. Names are hashes of
all that decides the content, versions of the code included, so that no change ever meets an old file.

A file's time of modification is when it was last opened. Once there is more than $LUS_CACHE_LIMIT, what was used longest ago is removed.
"""

import os
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lus_lightning.console import say
from lus_lightning.data.identity import whole_file
from lus_lightning.errors import UserError

KINDS: Final = {
    "frames": "decoded clips and masks",
    "features": "features of frozen networks",
    "geometries": "fields of view",
    "probes": "what clips hold",
    "identities": "hashes of files",
}
DEFAULT_LIMIT: Final = "50GB"
HEADER_BYTES: Final = 64
_CHUNK: Final = 2**20
_HEADER: Final = struct.Struct("<8s3II")
_MAGIC: Final = b"LUSKEPT2"
_UNITS: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_WRITING_SECONDS: Final = 3600.0
"""A file under a temporary name that is older was left by a process that was killed."""
_STARTED: Final = time.time()
_told: set[Path] = set()


@dataclass(frozen=True)
class Item:
    """A file of the store: when it was last used (seconds since 1970), and its size in bytes."""

    used: float
    size: int
    file: Path


def keep(file: Path, parts: Iterable[np.ndarray]) -> None:
    """Write arrays (H, W) of one shape, uint8, as they come, as one of three dimensions; of an array of three dimensions its parts.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    count, checksum, shape = 0, 0, (0, 0)
    with whole_file(file) as fresh, fresh.open("wb") as out:
        out.seek(HEADER_BYTES)
        for part in parts:
            content = np.ascontiguousarray(part).reshape(-1).data
            count, checksum, shape = count + 1, zlib.crc32(content, checksum), part.shape
            out.write(content)
        out.seek(0)  # how many there are is known at the end
        out.write(_HEADER.pack(_MAGIC, count, *shape, _sealed(checksum, (count, *shape))).ljust(HEADER_BYTES, b"\0"))


def kept(file: Path) -> np.ndarray | None:
    """The array of a file as a read-only memory map, or none if the file is missing, cut short or altered.

    The map stays valid when another process removes the file.
    """
    try:
        with file.open("rb") as opened:
            magic, *shape, checksum = _HEADER.unpack(opened.read(HEADER_BYTES)[: _HEADER.size])
            size = os.fstat(opened.fileno()).st_size
            if magic != _MAGIC or size != HEADER_BYTES + int(np.prod(shape, dtype=object)):
                return None
            found = 0
            while chunk := opened.read(_CHUNK):
                found = zlib.crc32(chunk, found)
            if _sealed(found, shape) != checksum:
                return None
            # A plain view: indexing a numpy.memmap itself costs as much again as copying a frame.
            array = np.memmap(opened, np.uint8, "r", HEADER_BYTES, tuple(shape)).view(np.ndarray)
    except (OSError, struct.error, ValueError):
        return None
    with suppress(OSError):  # the cache of somebody else may be read
        os.utime(file)
    return array


def keep_text(file: Path, text: str) -> None:
    """As `keep`, of a text that is not empty."""
    keep(file, np.frombuffer(text.encode(), np.uint8)[None, None])


def kept_text(file: Path) -> str | None:
    """As `kept`, of a text."""
    found = kept(file)
    return None if found is None else found.tobytes().decode()


def _sealed(checksum: int, shape: Iterable[int]) -> int:
    """The checksum of the bytes and their shape."""
    return zlib.crc32(repr(tuple(shape)).encode(), checksum)


def size_in_bytes(text: str) -> int:
    """Bytes of a size such as 20GB, 1.5 TB or 1000000.

    Raises:
        UserError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*((?:[KMGT]B)?)", text.strip().upper())
    if found is None:
        raise UserError(
            f"{text!r} is no size for the cache ($LUS_CACHE_LIMIT, cache --limit); write a number and KB, MB, GB or TB, as in 20GB"
        )
    return int(float(found[1]) * _UNITS[found[2]])


def size_in_words(size: float) -> str:
    """Bytes for people: 0 B, 3.2 MB, 20.0 GB."""
    unit = next((name for name in ("TB", "GB", "MB", "KB") if size >= _UNITS[name]), "")
    return f"{size / _UNITS[unit]:.1f} {unit}" if unit else f"{size:.0f} B"


def cache_limit() -> int:
    """The most that the store keeps, in bytes: $LUS_CACHE_LIMIT, else 50 GB.

    Raises:
        UserError: $LUS_CACHE_LIMIT is no size.
    """
    return size_in_bytes(os.environ.get("LUS_CACHE_LIMIT") or DEFAULT_LIMIT)


def files_of(folder: Path) -> Iterator[Item]:
    """All files below a folder but those that are being written now."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed by another process meanwhile
                stat = (file := Path(place) / name).stat()
                if not name.startswith(".") or time.time() - stat.st_mtime > _WRITING_SECONDS:
                    yield Item(stat.st_mtime, stat.st_size, file)


def clear(cache_dir: Path, kinds: Iterable[str] = KINDS) -> list[Item]:
    """Remove everything of some kinds; what was removed. A process that has it open keeps it; the others compute it again."""
    return _removed(item for kind in kinds for item in files_of(cache_dir / kind))


def trim(cache_dir: Path, limit: int, unused_since: float) -> tuple[list[Item], int]:
    """Remove what was used longest ago until `limit` bytes are left, but nothing used since `unused_since`; what is removed, bytes left."""
    found = sorted((item for kind in KINDS for item in files_of(cache_dir / kind)), key=lambda item: (item.used, item.file))
    left, surplus = sum(item.size for item in found), []
    for item in found:
        if left <= limit or item.used >= unused_since:
            break
        surplus.append(item)
        left -= item.size
    return _removed(surplus), left


def bound(cache_dir: Path) -> None:
    """Hold the store to its limit. What this run itself has used stays; if that alone is more, say so once.

    Raises:
        UserError: $LUS_CACHE_LIMIT is no size, or a file cannot be removed.
    """
    limit = cache_limit()
    _, left = trim(cache_dir, limit, _STARTED)
    if left > limit and cache_dir not in _told:
        _told.add(cache_dir)
        say(f"the cache {cache_dir} holds {size_in_words(left)}, all in use, and its limit is {size_in_words(limit)} ($LUS_CACHE_LIMIT)")


def _removed(found: Iterable[Item]) -> list[Item]:
    removed = []
    for item in found:
        try:
            item.file.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{item.file} cannot be removed ({error.strerror}); correct the folder's permissions") from None
        removed.append(item)
    return removed
