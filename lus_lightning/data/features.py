"""Features of pictures under a frozen network: computed once, kept, and read by every epoch, fold, trial and later run."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lus_lightning.console import track
from lus_lightning.data.cache import file_stamp
from lus_lightning.data.datasets import FrameDataset
from lus_lightning.data.identity import content_hash, digest
from lus_lightning.signals import ignore_signals

_KEY_BYTES: Final = 32
_FLUSH: Final = 512


class FeatureCache:
    """Rows of one growing float32 file, `features.f32`, memory-mapped; `keys` holds the key of each row.

    Rows come first and their keys after, so a process killed between the two leaves no key without its row.

    Args:
        folder: of the two files, one folder for each network with its weights and size.
        width: length of a row.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self._map: np.ndarray | None = None

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """Row of each key (N,) int64, -1 where it has none yet."""
        path = self.folder / "keys"
        text = path.read_bytes() if path.is_file() else b""
        known = {text[i : i + _KEY_BYTES]: i // _KEY_BYTES for i in range(0, len(text) - _KEY_BYTES + 1, _KEY_BYTES)}
        return np.array([known.get(key.encode(), -1) for key in keys], np.int64)

    def append(self, keys: Sequence[str], features: np.ndarray) -> None:
        """Add rows (N, width) float32 under their keys (32 characters each)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"), (self.folder / "features.f32").open("ab") as rows, (self.folder / "keys").open("ab") as names:
            whole = names.tell() // _KEY_BYTES
            names.truncate(whole * _KEY_BYTES)
            rows.truncate(whole * self.width * 4)
            rows.write(np.ascontiguousarray(features, np.float32).data)
            rows.flush()
            names.write("".join(keys).encode())

    def read(self, row: int) -> np.ndarray:
        """One row (width,) float32."""
        if self._map is None or row >= len(self._map):
            path = self.folder / "features.f32"
            count = path.stat().st_size // (self.width * 4)
            self._map = np.memmap(path, np.float32, "r", shape=(count, self.width)).view(np.ndarray)
        return self._map[row]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_map": None}  # a worker opens its own map: pickled, it would be a copy


class FeatureDataset(Dataset[dict[str, Tensor]]):
    """The samples of a `FrameDataset` with `features` float32 (sum of widths,) in place of `image`."""

    def __init__(self, frames: FrameDataset, caches: Sequence[FeatureCache], rows: Sequence[np.ndarray]) -> None:
        self.frames, self.caches, self.places = frames, list(caches), list(rows)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, where: int | tuple[int, int]) -> dict[str, Tensor]:
        item = where[0] if isinstance(where, tuple) else where
        features = np.concatenate([cache.read(int(rows[item])) for cache, rows in zip(self.caches, self.places, strict=True)])
        return self.frames.labels(item) | {"features": torch.from_numpy(features)}


@lru_cache(maxsize=65536)
def _content(path: Path, stamp: tuple[int, int, int], cache_dir: Path) -> str:
    return content_hash(path, cache_dir)


def view_keys(dataset: FrameDataset, view: int) -> list[str]:
    """Key of each picture of a data set: its file's content and frame, and how view `view` (0: as it is) changes it."""
    numbers = dataset.numbers
    hashes = {row: _content(path := dataset.paths[row], file_stamp(path), dataset.cache_dir) for row in np.unique(numbers["row"])}
    # A draw of the augmentation depends on the clip's row, so a view's key does too.
    drawn = [(dataset.policy, dataset.seed, row) if view else () for row in numbers["row"]]
    seen = {row: (dataset.size, dataset.geometries.get(row)) for row in hashes}
    told = zip(numbers["row"], numbers["frame"], drawn, strict=True)
    return [digest(hashes[row], int(frame), seen[row], view, policy)[:_KEY_BYTES] for row, frame, policy in told]


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
    lacking = np.stack([cache.rows(keys) < 0 for cache in caches])
    wait()  # no process may append before all have looked, or their shares would differ
    items = np.flatnonzero(lacking.any(axis=0))[share[0] :: share[1]]
    loader = DataLoader(dataset, batch_size, sampler=[(int(i), view) if view else int(i) for i in items], num_workers=num_workers,
                        worker_init_fn=ignore_signals)  # type: ignore[arg-type]  # fmt: skip
    kept: list[list[tuple[str, np.ndarray]]] = [[] for _ in caches]
    steps = track(loader, f"computing features, view {view}" if view else "computing features", len(loader))
    for n, batch in enumerate(steps):
        here = items[n * batch_size : (n + 1) * batch_size]
        which = [i for i in range(len(caches)) if lacking[i, here].any()]
        for i, features in zip(which, extract(batch["image"], which), strict=True):
            kept[i] += [(keys[item], row) for item, row in zip(here, features.cpu().numpy(), strict=True) if lacking[i, item]]
        if sum(map(len, kept)) >= _FLUSH or n == len(loader) - 1:
            for cache, rows in zip(caches, kept, strict=True):
                if rows:
                    cache.append([key for key, _ in rows], np.stack([row for _, row in rows]))
                    rows.clear()
    wait()
    return FeatureDataset(dataset, caches, [cache.rows(keys) for cache in caches])
