"""LightningDataModules by sample shape: frames, frames with masks, clips. All split by patient and read the same frame cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from lus_lightning.data.base import LungDataModule
from lus_lightning.data.beamspace import boxed_geometry, clip_geometries, full_beam, to_beam
from lus_lightning.data.cache import cached_mask
from lus_lightning.data.datasets import ClipDataset, FrameDataset, pad_clips
from lus_lightning.data.frames import target_table
from lus_lightning.data.geometry import Geometry, scan_maps
from lus_lightning.data.masks import mask_places
from lus_lightning.data.samplers import Draw, LengthBatches
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES


class FrameDataModule(LungDataModule):
    """Single frames: for Xing's, Raillard's and the four-sign networks."""

    def dataset(self, items: pd.DataFrame, split: str) -> Dataset[dict[str, torch.Tensor]]:
        """Frames, augmented only in training, or what the method has prepared of them (`prepared`: features)."""
        return self._method("prepared", lambda dataset: dataset)(self._frames(items, split))

    def _frames(self, items: pd.DataFrame, split: str, masks: list[Path] | None = None, places: np.ndarray | None = None) -> FrameDataset:
        how = (self.size, split, self.cache_dir, self.augmentation, masks, self.seed, self._beams(), places)
        return FrameDataset(items, self._files("path"), *how)

    def _beams(self) -> dict[int, Geometry]:
        return self.geometries if self.beam_space else {}

    def _files(self, column: str) -> list[Path]:
        return [Path(p or "") for p in self.sources.clips[column]]  # an absent mask is never opened


class FrameMaskDataModule(FrameDataModule):
    """Single frames with their masks; training needs masks, clips without them can be tested on.

    Of a clip of which some frames have a mask, the others are tested on, but neither trained on nor validated.
    """

    def part(self, split: str) -> pd.DataFrame:
        """As `LungDataModule.part`."""
        items = super().part(split)
        clips = self.sources.clips.reindex(columns=["mask_frames"])
        partial = items[clips["mask_frames"].notna().to_numpy()[items["row"]]]
        return items if split == "test" else items.drop(partial.index[self.places(partial) < 0]).reset_index(drop=True)

    def places(self, items: pd.DataFrame) -> np.ndarray:
        """Places (N,) int64 of frames among the masks of their clips, -1 where a frame has none."""
        found = np.full(len(items), -1)
        for row in items["row"].unique():
            where = items["row"].to_numpy() == row
            found[where] = mask_places(self.sources.clips, row, items["frame"].to_numpy()[where])
        return found

    def dataset(self, items: pd.DataFrame, split: str) -> FrameDataset:
        """Frames and bit masks, moved together.

        Raises:
            UserError: a training clip has no mask.
        """
        clips = self.sources.clips.iloc[items["row"].unique()]
        without = clips if "mask" not in clips else clips[clips["mask"].isna()]
        if split == "train" and len(without):
            raise UserError(
                f"clip {without['clip'].iloc[0]} has no mask ({len(without)} of {len(clips)} training clips lack one);"
                " name mask files in the column `mask`, or train on simulated clips and give these as test_root"
            )
        places = self.places(items)
        return self._frames(items, split, *((self._files("mask"), places) if (places >= 0).all() else ()))

    def true_beam_mask(self, row: int, frame: int) -> np.ndarray | None:
        """The mask (128, 256) uint8 in beam space of a frame of clip `row`, none where it has none."""
        if (place := mask_places(self.sources.clips, row, [frame])[0]) < 0:
            return None
        return cached_mask(self._files("mask")[row], None, self.cache_dir, self.geometries[row])[place].T

    def in_beam(self, pictures: np.ndarray, rows: Sequence[int], nearest: bool = True) -> np.ndarray:
        """Pictures or masks (B, H, W) uint8 as the data set gives them, of clips `rows`, in beam space (B, 128, 256) uint8."""
        if self.beam_space:
            return full_beam(pictures)
        each = (boxed_geometry(self.geometries[row], self.size) for row in rows)
        return np.concatenate([to_beam(picture[None], g, nearest) for picture, g in zip(pictures, each, strict=True)])


class ClipDataModule(FrameDataModule):
    """Whole clips, padded to the longest of a batch: for the video net. Training batches hold clips of nearly the same length."""

    collate = staticmethod(pad_clips)
    wider = 1  # the network divides clips into chunks itself

    def _batches(self, dataset: Any, groups: list[np.ndarray], per_group: int, how: tuple[Any, ...]) -> Sampler[list[Draw]]:
        if len(groups) > 1:
            raise UserError("batches by length hold no folds: cross-validate clips with `reproduce --folds 5`")
        return LengthBatches(groups[0], dataset.lengths, per_group, *how)

    def _samples(self, frames: pd.DataFrame) -> pd.DataFrame:
        by_row = frames.groupby("row")
        clips = by_row.first().assign(picks=by_row["frame"].agg(list), frame=-1).reset_index()
        whole = target_table(self.sources.clips, self.labels).iloc[clips["row"]].reset_index(drop=True)
        return clips.assign(**whole)

    def dataset(self, items: pd.DataFrame, split: str) -> ClipDataset:  # type: ignore[override]
        """Clips, augmented only in training."""
        files = self._files("path")
        return ClipDataset(items, files, self.size, split, self.cache_dir, self.augmentation, self.seed, self._beams())

    def sectors(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """Where the field of view of clips lies in their pictures, (H, W) bool by row; it lacks clips whose is refused."""
        if self.beam_space:  # all of the picture
            return {row: np.ones((self.size, self.size // 2), bool) for row in rows}
        found, _ = clip_geometries(self.sources.clips.iloc[rows].reset_index(drop=True), self.cache_dir, max(1, self.num_workers))
        return {rows[i]: scan_maps(boxed_geometry(geometry, self.size))[0] > -1 for i, geometry in found.items()}

    def true_masks(self, row: int, name: str) -> np.ndarray | None:
        """Where one of `labels.MASK_CLASSES` truly is in the frames of a clip, (T, H, W) bool; none where one has no mask."""
        places = mask_places(self.sources.clips, row, self.samples.loc[self.samples["row"] == row, "picks"].iloc[0])
        if (places < 0).any():
            return None
        masks = cached_mask(self._files("mask")[row], self.size, self.cache_dir, self._beams().get(row))[places]
        return masks & (1 << MASK_CLASSES.index(name)) > 0
