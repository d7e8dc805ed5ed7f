"""Features of pictures under a frozen network: computed once, kept, and read by every epoch, fold, trial and later run."""

import time
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lus_lightning.console import track
from lus_lightning.data.cache import frames_key
from lus_lightning.data.datasets import FrameDataset
from lus_lightning.data.identity import digest
from lus_lightning.data.store import bound, keep, kept
from lus_lightning.data.transforms import AUGMENTATION_VERSION
from lus_lightning.errors import UserError
from lus_lightning.signals import ignore_signals

_KEY_BYTES: Final = 32
_FLUSH_SECONDS: Final = 30.0
_FLUSH_ROWS: Final = 8192


class FeatureCache:
    """Rows of float32 under keys of 32 characters, in files of the store that are written once and opened as memory maps.

    A row in a file is its key and then its features; which keys there are, the files themselves tell. What this process has opened it can
    read on, whoever removes the file. A file that is damaged is removed, so that its rows are computed again.

    Args:
        folder: of the files, one folder for each network with its weights and size.
        width: length of a row.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self._seen: set[str] = set()
        self._files: list[np.ndarray] = []
        self._starts: list[int] = []
        self._places: dict[str, int] = {}

    def lacks(self, keys: Sequence[str]) -> np.ndarray:
        """Which of the keys have no row yet, (N,) bool."""
        self._look()
        return np.array([key not in self._places for key in keys], bool)

    def append(self, keys: Sequence[str], features: np.ndarray) -> None:
        """Keep rows (N, width) float32 under their keys.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        names = np.array(keys, f"S{_KEY_BYTES}").view(np.uint8).reshape(len(keys), _KEY_BYTES)
        rows = np.ascontiguousarray(features, np.float32).view(np.uint8)
        keep(self.folder / f"{digest(*keys)[:_KEY_BYTES]}.features", np.concatenate([names, rows], axis=1)[:, None])

    def read(self, key: str) -> np.ndarray:
        """One row (width,) float32.

        Raises:
            UserError: it has been removed, before this process opened it.
        """
        if key not in self._places:
            self._look()
        if (place := self._places.get(key)) is None:
            raise UserError(f"{self.folder}: kept features were removed while they were needed; start again, and they are computed again")
        i = bisect(self._starts, place) - 1
        return self._files[i][place - self._starts[i], 0, _KEY_BYTES:].view(np.float32)

    def _look(self) -> None:
        """Open what has come since the last time."""
        for file in sorted(self.folder.glob("*.features")):
            if file.name in self._seen:
                continue
            rows = kept(file)
            if rows is None or rows.shape[1:] != (1, _KEY_BYTES + 4 * self.width):
                file.unlink(missing_ok=True)
                continue
            start = self._starts[-1] + len(self._files[-1]) if self._files else 0
            keys = rows[:, 0, :_KEY_BYTES].tobytes().decode()
            self._places |= {keys[i * _KEY_BYTES : (i + 1) * _KEY_BYTES]: start + i for i in range(len(rows))}
            self._seen.add(file.name)
            self._files.append(rows)
            self._starts.append(start)

    def __reduce__(self) -> tuple[type, tuple[Path, int]]:
        return FeatureCache, (self.folder, self.width)  # a worker opens its own maps: pickled, they would be copies


@lru_cache(maxsize=64)
def feature_cache(folder: Path, width: int) -> FeatureCache:
    """The `FeatureCache` of this process, so that a file is opened and checked once."""
    return FeatureCache(folder, width)


class FeatureDataset(Dataset[dict[str, Tensor]]):
    """The samples of a `FrameDataset` with `features` float32 (sum of widths,) in place of `image`."""

    def __init__(self, frames: FrameDataset, caches: Sequence[FeatureCache], keys: Sequence[str]) -> None:
        self.frames, self.caches, self.keys = frames, list(caches), list(keys)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, where: int | tuple[int, int]) -> dict[str, Tensor]:
        item = where[0] if isinstance(where, tuple) else where
        features = np.concatenate([cache.read(self.keys[item]) for cache in self.caches])
        return self.frames.labels(item) | {"features": torch.from_numpy(features)}


def view_keys(dataset: FrameDataset, view: int, items: np.ndarray | None = None) -> list[str]:
    """Key of each picture (or of these items) of a data set: its clip in the store, its frame, and how view `view` (0: not) alters it."""
    rows, frames = (dataset.numbers[name] if items is None else dataset.numbers[name][items] for name in ("row", "frame"))
    names = {row: frames_key(dataset.paths[row], dataset.size, dataset.cache_dir, dataset.geometries.get(row)) for row in np.unique(rows)}
    # A draw of the augmentation depends on the clip's row, so a view's key does too.
    drawn = (dataset.policy, dataset.seed, AUGMENTATION_VERSION) if view else ()
    return [
        digest(names[row], int(frame), view, (*drawn, int(row)) if view else ())[:_KEY_BYTES]
        for row, frame in zip(rows, frames, strict=True)
    ]


def with_features(
    dataset: FrameDataset,
    view: int,
    caches: Sequence[FeatureCache],
    extract: Callable[[Tensor, Sequence[int]], list[Tensor]],
    share: tuple[int, int] = (0, 1),
    wait: Callable[[], None] = lambda: None,
    batch_size: int = 32,
    num_workers: int = 0,
) -> FeatureDataset:
    """The data set with features for pictures; what the caches lack is computed and kept first, and what is done stays if interrupted.

    Args:
        dataset: pictures.
        view: 0 as they are, else the number of the augmented view.
        caches: one per network.
        extract: features (B, width) of uint8 pictures (B, 1, H, W) under the networks of the given positions.
        share: this process's rank and the number of processes, each of which computes its part.
        wait: returns when all processes are here.
        batch_size, num_workers: of the loader.
    """
    keys = view_keys(dataset, view)
    lacking = np.stack([cache.lacks(keys) for cache in caches])
    wait()  # no process may append before all have looked, or their shares would differ
    items = np.flatnonzero(lacking.any(axis=0))[share[0] :: share[1]]
    loader = DataLoader(dataset, batch_size, sampler=[(int(i), view) if view else int(i) for i in items], num_workers=num_workers,
                        worker_init_fn=ignore_signals)  # type: ignore[arg-type]  # fmt: skip
    found: list[list[tuple[int, np.ndarray]]] = [[] for _ in caches]
    flushed = time.monotonic()
    steps = track(loader, f"computing features, view {view}" if view else "computing features", len(loader))
    for n, batch in enumerate(steps):
        here = items[n * batch_size : (n + 1) * batch_size]
        which = [i for i in range(len(caches)) if lacking[i, here].any()]
        for i, features in zip(which, extract(batch["image"], which), strict=True):
            found[i] += [(item, row) for item, row in zip(here, features.cpu().numpy(), strict=True) if lacking[i, item]]
        late = time.monotonic() - flushed > _FLUSH_SECONDS or sum(map(len, found)) >= _FLUSH_ROWS
        if late or n == len(loader) - 1:
            _flush(dataset, view, keys, caches, found)
            flushed = time.monotonic()
    wait()
    made = FeatureDataset(dataset, caches, keys)
    for cache in caches:
        cache.lacks(keys)  # opens what others have computed, before anybody can remove it
    if len(items) and share[0] == 0:
        bound(dataset.cache_dir)
    return made


def _flush(
    dataset: FrameDataset, view: int, keys: Sequence[str], caches: Sequence[FeatureCache], found: list[list[tuple[int, np.ndarray]]]
) -> None:
    """Keep the rows found so far, by item."""
    items = np.unique([item for rows in found for item, _ in rows])
    if view_keys(dataset, view, items) != [keys[item] for item in items]:
        raise UserError("a clip was changed while its features were computed; start again when it is copied or written whole")
    for cache, rows in zip(caches, found, strict=True):
        if rows:
            cache.append([keys[item] for item, _ in rows], np.stack([row for _, row in rows]))
            rows.clear()
