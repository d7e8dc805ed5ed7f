"""What every data module shares: index, split by patient, frame cache, loaders."""

import math
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from lus_lightning.console import say
from lus_lightning.data.beamspace import clip_geometries
from lus_lightning.data.cache import cached_frames, fill_cache
from lus_lightning.data.division import AFTER_CHANGE, Division, kept_division
from lus_lightning.data.features import FeatureDataset
from lus_lightning.data.frames import (
    LABELS,
    LACKS,
    WITHOUT,
    FrameChoice,
    frame_table,
    label_table,
    labelled,
    refuse_one_class,
    targets,
    usable_frames,
    without_label,
)
from lus_lightning.data.geometry import Geometry
from lus_lightning.data.patients import check_sides
from lus_lightning.data.roots import cache_folder
from lus_lightning.data.samplers import Draw, GroupBatches, ResumableLoader, Sampling
from lus_lightning.data.sources import Sources, read_sources
from lus_lightning.data.splits import Split, not_measured, split_patients
from lus_lightning.data.transforms import Augmentation
from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS
from lus_lightning.signals import ignore_signals


class LungDataModule(pl.LightningDataModule):
    """The common part: index, split, cache, loaders. Sub-classes say what a sample is.

    After `setup`: `sources` (the roots), `split` (one row per unit, none where nothing is labelled) and `samples` (one row per sample).

    Args:
        size: side of the square pictures, in pixels.
        batch_size: samples a network sees in an iteration (per process).
        study: default study of the recipe (`lus_lightning.simulator.studies`).
        root: the data folder or fsspec URL; none simulates `study`, once, into the cache.
        test_root: another data folder whose clips are the whole test part.
        adapter: layout of `root`, or none to recognise it.
        iterations: batches an epoch; none is one pass over the training items.
        raters_agree: keep only what two raters scored alike.
        balance: draw the scores equally often.
        choice: which frames of a clip are used.
        split: how patients are divided.
        augmentation: of training samples.
        num_workers: processes that load batches.
        cache_dir: of decoded frames and simulated studies; none is $LUS_CACHE, else ~/.cache/lus_lightning.
        seed: of shuffling and augmentation; none is `seed_everything`'s.
        labels: what is learned, one of `frames.LABELS`; none is what the method asks for.
        beam_space: pictures are scan lines x depth (`data.beamspace`), `size` (256, 128, 64 or 32) depths high and half as wide; clips
            whose field of view cannot be told are left out.
        after_change: what a checkpoint does whose data have changed since, one of `division.AFTER_CHANGE`.

    Raises:
        UserError: `labels` or `after_change` is unknown.
    """

    collate: Callable[..., Any] | None = None
    wider: int = 4
    """How many times larger batches are where no gradient is kept."""

    def __init__(
        self,
        size: int,
        batch_size: int,
        study: str,
        root: str | None = None,
        test_root: str | None = None,
        adapter: str | None = None,
        iterations: int | None = None,
        raters_agree: bool = False,
        balance: bool = False,
        choice: FrameChoice = FrameChoice(),  # noqa: B008
        split: Split = Split(),  # noqa: B008
        augmentation: Augmentation = Augmentation(),  # noqa: B008
        num_workers: int = 2,
        cache_dir: str | None = None,
        seed: int | None = None,
        labels: str | None = None,
        beam_space: bool = False,
        after_change: str = "refuse",
    ) -> None:
        super().__init__()
        if labels not in (None, *LABELS):
            raise UserError(f"there are no labels {labels!r}: learn one of {', '.join(LABELS)}")
        if after_change not in AFTER_CHANGE:
            raise UserError(f"after_change is {after_change!r}: take one of {', '.join(AFTER_CHANGE)}")
        self.given_labels, self.beam_space, self.after_change = labels, beam_space, after_change
        self.earlier: Division | None = None
        """Of the checkpoint that a fit goes on from, or that is tested: its division of the patients holds."""
        self.told: list[str] = []
        """What has changed in the data since that checkpoint."""
        self.not_measured: list[str] = []
        """Which classes are trained on and in no figure, as too few patients have them (`splits.not_measured`)."""
        self.refused: dict[str, str] = {}
        """Why a clip has no geometry, by its name."""
        self.geometries: dict[int, Geometry] = {}
        """Where the scan lines of each clip lie, by row, of methods that ask for it."""
        self.size, self.batch_size, self.iterations = size, batch_size, iterations
        self.seed, split = _seed(seed), replace(split, seed=_seed(split.seed))
        self.root, self.test_root, self.study, self.adapter = root, test_root, study, adapter
        self.raters_agree, self.balance, self.choice, self.division = raters_agree, balance, choice, split
        self.augmentation, self.num_workers, self.cache_dir = augmentation, num_workers, cache_folder(cache_dir)

    @property
    def labels(self) -> str:
        """What is learned, one of `frames.LABELS`: the method says it.

        Raises:
            UserError: the argument `labels` says something else.
        """
        asked = self._method("labels", self.given_labels or "score")
        if self.given_labels not in (None, asked):
            raise UserError(f"the method learns {asked!r}, but data.init_args.labels says {self.given_labels!r}: leave it out")
        return asked

    # --- tables ---------------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Simulate, index and decode what is not in the cache yet, on one process, before any other needs it."""
        self.setup("fit")
        rows = np.unique(self.samples["row"])
        clips = [(Path(self.sources.clips["path"].iloc[row]), self.geometries.get(row) if self.beam_space else None) for row in rows]
        failures = fill_cache(clips, self.size, self.cache_dir, max(1, self.num_workers))
        if failures:
            raise UserError(
                f"{len(failures)} file(s) cannot be decoded any more, such as {failures[0][0]}: {failures[0][1]}; run `index` on the folder"
            )

    def setup(self, stage: str) -> None:
        """Read the roots, choose the samples and divide the patients.

        Raises:
            UserError: as `read_sources`, `split_patients` and `kept_division`; or all labels to train on are the same.
        """
        if hasattr(self, "samples"):
            return
        self.sources: Sources = read_sources(self._root(), self.test_root, self.adapter, self.cache_dir)
        for note in self.sources.notes:
            say(f"note: {note}")
        frames = frame_table(self.sources.clips, self.choice, self.raters_agree, self.labels)
        self.unlabelled = without_label(self.sources.clips, self.labels)
        predicting = getattr(self.trainer, "predicting", False)  # no one has a side, and any folder will do
        self.split = None if predicting else self._divide(frames)
        if self.split is not None:
            unit = ["clip", "frame"] if self.division.unit == "frame" else ["clip"]
            frames = frames.merge(self.split[[*unit, "split", "fold"]], on=unit, how="left").fillna({"fold": -1})
        if self.beam_space or self._method("mask_classes", ()):
            # After the division: whoever is refused, the same patients are tested as by a method that asks for no field of view.
            self.geometries, self.refused = clip_geometries(self.sources.clips, self.cache_dir, max(1, self.num_workers))
            frames = frames[frames["row"].isin(self.geometries)].reset_index(drop=True)
        self.samples = self._samples(frames)

    def _root(self) -> str | Path:
        if self.root is not None:
            return self.root
        from lus_lightning.simulator.studies import ensure_study

        return ensure_study(self.study, cache_dir=self.cache_dir)

    def _divide(self, frames: pd.DataFrame) -> pd.DataFrame | None:
        clips = self.sources.clips
        # A clip whose frames all lost their label (no rater agreed) is nobody's sample, and takes no patient's place.
        known = clips[clips["clip"].isin(frames.loc[labelled(frames), "clip"])]
        if known.empty:
            return None
        recipe = asdict(self.division) | {"folds": self._method("folds", 1), "labels": self.labels}
        distinct = recipe.pop("distinct")
        if self.test_root is not None:
            recipe |= {"test_share": 0.0, "test_patients": (), "test_folds": 0}
        units = known[known["source"] == 0]
        if self.division.unit == "frame":
            units = frames[labelled(frames)].merge(units.drop(columns=["patient", "score", *SIGNS]), on="clip")
            units = units.join(label_table(units, self.labels))
        if self.earlier is None:
            if not self._method("mask_classes", ()):  # masks teach whatever the scores are
                refuse_one_class(frames[frames["row"].isin(known.index[known["source"] == 0])], self.labels, self._root())
            split = split_patients(units, **recipe)
        else:
            split, self.told = kept_division(self.earlier, self._division(units.assign(split="", fold=-1)), self.after_change, units)
        other = known.loc[known["source"] == 1, ["clip", "patient"]]
        if len(other) and self.earlier:  # the earlier test patients are not tested here
            split = split[split["split"] != "test"]
        self.not_measured = not_measured(units, split, recipe["stratify"], self.labels)
        for note in self.not_measured:
            say(f"note: {note}")
        split = pd.concat([split, other.assign(unit=self.division.unit, split="test", fold=-1)], ignore_index=True)
        if self.division.unit == "patient":
            check_sides(split, clips, distinct)
        return split

    def _division(self, units: pd.DataFrame) -> Division:
        how = asdict(self.division) | {"folds": self._method("folds", 1), "labels": self.labels}
        return Division.of_units(units, self.sources, how)

    def state_dict(self) -> dict[str, Any]:
        """Part of each checkpoint: who was on which side, by name."""
        return self._division(self.split).state() if self.split is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: the tables are made before the Trainer reads the checkpoint, so the command line sets `earlier`."""

    def _samples(self, frames: pd.DataFrame) -> pd.DataFrame:
        return frames

    @property
    def left_out(self) -> pd.DataFrame:
        """`path` and `reason` of what the roots hold and no sample comes from."""
        clips = self.sources.clips.set_index("clip")["path"]
        refused = pd.DataFrame({"path": [clips[c] for c in self.refused], "reason": list(self.refused.values())}, dtype=object)
        return pd.concat([self.sources.left_out, refused], ignore_index=True)

    def _reasons(self) -> str:
        return f" ({', '.join(f'{n} {reason}' for reason, n in self.unlabelled.items())})" if self.unlabelled else ""

    def picture(self, row: int, frame: int) -> np.ndarray:
        """A frame of clip `row` as the network sees it, (H, W) uint8; of a whole clip (frame -1) the middle one of its samples."""
        geometry = self.geometries.get(row) if self.beam_space else None
        frames = cached_frames(Path(self.sources.clips["path"].iloc[row]), self.size, self.cache_dir, geometry)
        usable = usable_frames(self.sources.clips.iloc[[row]])[0]
        return np.array(frames[frame if frame >= 0 else usable[len(usable) // 2]])

    # --- loaders --------------------------------------------------------------------------------------------------------------

    def dataset(self, items: pd.DataFrame, split: str) -> Dataset[dict[str, torch.Tensor]]:
        """The data set of some rows of `samples`."""
        raise NotImplementedError

    def part(self, split: str) -> pd.DataFrame:
        """The labelled samples of the training, validation or test part; a sample's `item` is its position here.

        Of `oof` those training samples that lie in a fold, which are predicted out of it.

        Raises:
            UserError: nothing is labelled.
        """
        if self.split is None:
            raise UserError(f"no clip in {self._root()} {LACKS[self.labels]}{self._reasons()}; {WITHOUT[self.labels]}")
        inside = self.samples["split"] == ("train" if split == "oof" else split)
        if split == "oof":
            inside &= self.samples["fold"] >= 0
        return self.samples[inside & labelled(self.samples)].reset_index(drop=True)

    def train_dataloader(self) -> ResumableLoader:
        """Batches of the coming epoch, as the method's `sampling` asks for them."""
        train, plan = self.part("train"), self._sampling()
        keep = np.arange(len(train)) if plan.keep is None else plan.keep.numpy()
        groups, per_group = [keep], self.batch_size
        if plan.by_fold:
            k = self._method("folds", 1)
            if k < 2 or self.batch_size % (k - 1):
                raise UserError(
                    f"a batch of {self.batch_size} cannot hold equally many samples of each of {k - 1} folds;"
                    " take a batch_size that is a multiple of folds - 1"
                )
            # Samples that lie in no fold are each network's to train on: they take turns with every fold's.
            fold = np.where((of := train["fold"].to_numpy()[keep]) < 0, np.arange(len(keep)) % k, of)
            groups, per_group = [keep[fold == i] for i in range(k)], self.batch_size // (k - 1)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        iterations = self.iterations or math.ceil(max(map(len, groups)) / per_group / world)
        if self.balance and self.labels == "signs":
            raise UserError("a picture may show several signs, so signs cannot be drawn equally often: set balance to false")
        classes = targets(train) if self.balance else None
        stage = self.trainer.current_epoch if self.trainer else 0
        dataset = self.dataset(train, "train")
        batches = self._batches(dataset, groups, per_group, (iterations, self.seed, stage, classes, rank, world))
        return ResumableLoader(dataset, batch_sampler=batches, **self._loading(dataset))

    def _batches(self, dataset: Dataset[Any], groups: list[np.ndarray], per_group: int, how: tuple[Any, ...]) -> Sampler[list[Draw]]:
        """The sampler of training batches; `how`: what `GroupBatches` takes behind `per_group`."""
        return GroupBatches(groups, per_group, *how)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The validation patients, if any, and the training items where the method predicts them out of fold."""
        loaders = [self._ordered(self.part("val"), "val")]
        if self._method("folds", 1) > 1:
            # Empty where not asked for: the Trainer's logging wants the same number of loaders in every epoch.
            train = self.part("oof")
            loaders.append(self._ordered(train if self._sampling().out_of_fold else train[:0], "oof"))
        return loaders

    def test_dataloader(self) -> DataLoader[Any]:
        """The test patients' items, in order."""
        return self._ordered(self.part("test"), "test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every sample of the root, labelled or not."""
        return self._ordered(self.samples.assign(fold=-1), "predict")

    def _ordered(self, items: pd.DataFrame, split: str) -> DataLoader[Any]:
        dataset = self.dataset(items, split)
        sampler: Sampler[int] | None = None
        if self.trainer and self.trainer.world_size > 1:
            sampler = DistributedSampler(dataset, self.trainer.world_size, self.trainer.global_rank, shuffle=False)
        return DataLoader(dataset, batch_size=self.batch_size * self.wider, sampler=sampler, **self._loading(dataset))

    def _loading(self, dataset: Dataset[Any]) -> dict[str, Any]:
        # A generator of its own: an iterator that draws its worker seeds from torch's would shift every later dropout.
        return {
            # Kept features are read faster than a process starts.
            "num_workers": 0 if isinstance(dataset, FeatureDataset) else self.num_workers,
            "collate_fn": type(self).collate,
            "pin_memory": torch.cuda.is_available(),
            "generator": torch.Generator(),
            "worker_init_fn": ignore_signals,
        }

    def _sampling(self) -> Sampling:
        return self._method("sampling", Sampling)()

    def _method(self, name: str, otherwise: Any) -> Any:
        """What the method says of its data: `folds`, `sampling`, `labels`."""
        return getattr(self.trainer.lightning_module, name, otherwise) if self.trainer else otherwise


def _seed(seed: int | None) -> int:
    """A seed that is not given follows `seed_everything`."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
