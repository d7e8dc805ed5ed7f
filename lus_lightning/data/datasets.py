"""Samples as dictionaries of small tensors: uint8 pictures, int64 numbers, never a float64."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from lus_lightning.data.cache import cached_frames, cached_mask
from lus_lightning.data.frames import targets
from lus_lightning.data.geometry import Geometry
from lus_lightning.data.samplers import Draw
from lus_lightning.data.transforms import Augmentation, Augmenter

SPLITS = ("train", "val", "test", "oof", "predict")
"""What a sample is used for; its place here is the sample's `split`. `oof`: training images, predicted by whom did not see them."""


Geometries = Mapping[int, Geometry]
"""Where the scan lines of clips lie, by row of the index."""


class FrameDataset(Dataset[dict[str, torch.Tensor]]):
    """Single frames, read from the frame cache.

    A sample: `image` uint8 (1, size, size); int64 scalars `target` (-1 unknown; for several signs (4,), each 1, 0 or -1), `item` (position
    in `frames`), `row` (position in the index), `frame`, `fold` (-1 none) and `split`; with `masks`, also `mask` uint8 (1, size, size),
    bit i for class i.

    Args:
        frames: the frame table, with a column `fold`.
        paths: file of each row of the index.
        size: side of the square picture, in pixels.
        split: one of `SPLITS`.
        cache_dir: of the frame cache.
        augmentation: applied only to samples asked for with a draw, (position, iteration).
        masks: mask file of each row of the index, or none.
        places: (N,) of `frames` among the masks of their clips; none where every frame of the clips has one.
        seed: of the augmentation.
        geometries: by row, where pictures are wanted in beam space: then they are (1, size depths, size / 2 scan lines).
    """

    def __init__(self, frames: pd.DataFrame, paths: list[Path], size: int, split: str, cache_dir: Path,
                 augmentation: Augmentation = Augmentation(), masks: list[Path] | None = None, seed: int = 0,  # noqa: B008
                 geometries: Geometries | None = None, places: np.ndarray | None = None) -> None:  # fmt: skip
        self.numbers = {name: frames[name].to_numpy(np.int64) for name in ("row", "frame", "fold")} | {"target": targets(frames)}
        self.places = self.numbers["frame"] if places is None else places
        self.paths, self.masks, self.size, self.cache_dir = paths, masks, size, cache_dir
        self.split, self.seed, self.policy, self.geometries = SPLITS.index(split), seed, augmentation, geometries or {}
        self._augmenter: Augmenter | None = None

    def __len__(self) -> int:
        return len(self.numbers["row"])

    def __getitem__(self, where: int | Draw) -> dict[str, torch.Tensor]:
        item, draw = where if isinstance(where, tuple) else (where, None)
        labels = self.labels(item)
        row, number = int(labels["row"]), int(labels["frame"])
        frame = slice(number, number + 1)
        how = (self.size, self.cache_dir, self.geometries.get(row))
        pictures: dict[str, Any] = {"image": cached_frames(self.paths[row], *how)[frame]}
        if self.masks is not None:
            pictures["mask"] = cached_mask(self.masks[row], *how)[self.places[item], None]
        if draw is not None:
            self._augmenter = self._augmenter or Augmenter(self.policy)
            image, mask = self._augmenter(pictures["image"], (self.seed, draw, row, number), pictures.get("mask"))
            pictures = {"image": image} | ({} if mask is None else {"mask": mask})
        # A copy: torch refuses the cache's read-only memory.
        return labels | {name: torch.tensor(np.array(p)) for name, p in pictures.items()}

    def labels(self, item: int) -> dict[str, torch.Tensor]:
        """All of a sample but its pictures."""
        numbers = {name: torch.tensor(values[item]) for name, values in self.numbers.items()}
        return numbers | {"item": torch.tensor(int(item)), "split": torch.tensor(self.split)}

    @property
    def split_name(self) -> str:
        """What the samples are used for, one of `SPLITS`."""
        return SPLITS[self.split]


class ClipDataset(Dataset[dict[str, torch.Tensor]]):
    """Whole clips, of different lengths.

    A sample: `frames` uint8 (T, 1, size, size); int64 scalars `length` (T), `target`, `item`, `row`, `frame` (-1), `fold` and `split`.

    Args:
        clips: one row per clip: `row`, `fold`, its target and `picks`, the frame numbers to take.
        paths, size, split, cache_dir, augmentation, seed, geometries: as in `FrameDataset`; one draw moves all frames of a clip alike.
    """

    def __init__(self, clips: pd.DataFrame, paths: list[Path], size: int, split: str, cache_dir: Path,
                 augmentation: Augmentation = Augmentation(), seed: int = 0,  # noqa: B008
                 geometries: Geometries | None = None) -> None:  # fmt: skip
        self.numbers = {name: clips[name].to_numpy(np.int64) for name in ("row", "fold")} | {"target": targets(clips)}
        self.picks = list(clips["picks"])
        self.paths, self.size, self.cache_dir = paths, size, cache_dir
        self.split, self.seed, self.policy, self.geometries = SPLITS.index(split), seed, augmentation, geometries or {}
        self._augmenter: Augmenter | None = None

    def __len__(self) -> int:
        return len(self.picks)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each clip, (N,) int64."""
        return np.array([len(picks) for picks in self.picks])

    def __getitem__(self, where: int | Draw) -> dict[str, torch.Tensor]:
        item, draw = where if isinstance(where, tuple) else (where, None)
        row = int(self.numbers["row"][item])
        frames = np.array(cached_frames(self.paths[row], self.size, self.cache_dir, self.geometries.get(row))[self.picks[item]])
        if draw is not None:
            self._augmenter = self._augmenter or Augmenter(self.policy)
            frames, _ = self._augmenter(frames, (self.seed, draw, row))
        numbers = {"item": int(item), "split": self.split, "frame": -1, "length": len(frames)}
        numbers |= {name: values[item] for name, values in self.numbers.items()}
        return {"frames": torch.tensor(frames[:, None])} | {name: torch.tensor(n) for name, n in numbers.items()}


def pad_clips(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate clips: `frames` (B, T of the longest, 1, size, size), zero behind each clip's `length` (B,)."""
    batch = {name: torch.stack([s[name] for s in samples]) for name in samples[0] if name != "frames"}
    batch["frames"] = torch.nn.utils.rnn.pad_sequence([s["frames"] for s in samples], batch_first=True)
    return batch
