"""`python -m lus_lightning cache`: shows, clears and bounds what is kept of earlier runs."""

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lus_lightning.data.roots import cache_folder
from lus_lightning.data.store import KINDS, Item, cache_limit, clear, files_of, size_in_bytes, size_in_words, trim
from lus_lightning.errors import UserError


def cache_command(clear: str | None = None, limit: str | None = None) -> None:
    """Show what the cache folder ($LUS_CACHE, else ~/.cache/lus_lightning) holds, clear it, or remove what was used longest ago.

    All that is cleared is computed again when it is needed. Runs that are going on keep what they have open.

    Args:
        clear: remove one kind (frames, features, geometries, probes, identities), or all of these kinds (--clear alone, or --clear all).
        limit: remove what was used longest ago until this much is left, such as 20GB. Every run holds the cache to $LUS_CACHE_LIMIT
            (50GB if it is not set).

    Raises:
        UserError: there is no such kind, the limit is no size, or a file cannot be removed.
    """
    folder = cache_folder(None)
    size = None if limit is None else size_in_bytes(limit)
    if clear is not None:
        _print(f"removed: {_counted(_cleared(folder, clear))}")
    if size is not None:
        _print(f"removed: {_counted(trim(folder, size, time.time())[0])}")
    if clear is None and size is None:
        _print(_table(folder))
        _print(f"kept up to {size_in_words(cache_limit())} ($LUS_CACHE_LIMIT) in {folder}")


def _cleared(folder: Path, kind: str) -> list[Item]:
    if kind != "all" and kind not in KINDS:
        held = f"; that is no cache: delete the folder {folder / kind} yourself" if (folder / kind).is_dir() else ""
        raise UserError(f"there is no kind {kind!r} to clear; give {', '.join(KINDS)} or all{held}")
    return clear(folder, KINDS if kind == "all" else [kind])


def _table(folder: Path) -> Table:
    table = Table("kind", "what", "files", "size", title="kept of earlier runs")
    others = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in KINDS) if folder.is_dir() else []
    for kind in (*KINDS, *others):
        found = list(files_of(folder / kind))
        table.add_row(kind, KINDS.get(kind, "no cache: stays until you delete the folder"), f"{len(found):,}", _size(found))
    return table


def _counted(found: list[Item]) -> str:
    return f"{len(found):,} files, {_size(found)}"


def _size(found: list[Item]) -> str:
    return size_in_words(sum(item.size for item in found))


def _print(shown: str | Table) -> None:
    Console(soft_wrap=True, markup=False, highlight=False).print(shown)
