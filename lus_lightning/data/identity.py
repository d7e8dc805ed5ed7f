"""Who a file is: a hash of its content, kept so that it is computed once; and files that are written whole or not at all."""

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lus_lightning.data.readers import still_files
from lus_lightning.errors import UserError

_SETTLED_SECONDS = 2.0


def content_hash(path: Path, cache_dir: Path) -> str:
    """Hash of a file's content, or of all stills of a folder (64 hex digits).

    It is kept in `cache_dir` under the path with size and times of modification and of change, so an untouched file is read once.

    Raises:
        UserError: the file is missing or cannot be read, or the cache cannot be written.
    """
    from lus_lightning.data.store import keep_text, kept_text  # which writes its files with `write_whole`

    try:
        files = still_files(path) if path.is_dir() else [path]
        stats = [(file.name, (s := file.stat()).st_size, s.st_mtime_ns, s.st_ctime_ns) for file in files]
        known = cache_dir / "identities" / digest(str(path.resolve()), stats)
        if text := kept_text(known):
            return text
        value = digest(path.suffix.lower(), [(file.name if path.is_dir() else "", _hash(file)) for file in files])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct the path in the table, or the file's permissions") from None
    # A file changed within the clock's tick after it was hashed would keep its stamp: only what has settled is remembered.
    if time.time_ns() - max((max(s[2:]) for s in stats), default=0) > _SETTLED_SECONDS * 1e9:
        keep_text(known, value)
    return value


def digest(*parts: object) -> str:
    """SHA-256 of the parts' `repr` (64 hex digits)."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; at the end flush that file to the disk and rename it.

    No reader meets half a file. After a failure `path` is as it was. The temporary name does not end as `path` does, so name the format.

    Raises:
        UserError: as `writing`.
    """
    with writing(path.parent), renamed(path) as fresh:
        yield fresh


@contextmanager
def renamed(path: Path) -> Iterator[Path]:
    """As `whole_file`, but an OSError stays one: for a block that may fail for other reasons than the disk."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield fresh
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of the block into a sentence about `folder`.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    try:
        yield
    except OSError as error:
        told = error.strerror or error
        raise UserError(f"{folder} cannot be written ({told}); free space, or name another folder (cache: $LUS_CACHE)") from None


def write_whole(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write bytes, as `whole_file`."""
    with whole_file(path) as fresh, fresh.open("wb") as file:
        file.writelines(chunks)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, as `whole_file`: parquet where the name ends so, else CSV."""
    with whole_file(path) as fresh:
        if path.suffix == ".parquet":
            table.to_parquet(fresh, index=False)
        else:
            table.to_csv(fresh, index=False)


def write_arrays(path: Path, **arrays: ArrayLike) -> None:
    """Write arrays as a compressed npz file, as `whole_file`."""
    with whole_file(path) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
