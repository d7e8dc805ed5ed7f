"""Frozen backbones with a small trained head: severity from features of networks that never saw an ultrasound picture.

P. Raillard et al., "Rapid Lung Ultrasound COVID-19 Severity Scoring with Resource-Efficient Deep Feature Extraction", 2022.

1. Xception, ResNet50 and VGG16 with ImageNet weights are frozen; their tops are replaced by dropout 0.5 and one linear layer
   (section 2.2).
2. Three-fold cross-validation by patient, three epochs, Adam (sections 2.2, 2.4).
3. A zone's score is the one with most frames, a patient's score the sum over zones (section 2.4, Fig. 4).

Differs from the paper:
- the heads of all folds are trained in one fit, from batches with equally many images of each fold, so that a frozen network runs
  once per image for all its heads; folds differ in size, and the smaller ones repeat;
- a tie within a zone goes to the more severe score; the paper names no rule;
- global average pooling before the head, and each network's own normalisation: the paper names neither;
- magnitudes of the augmentation, and input sizes, are ours;
- `views: n` is ours: n augmented views of each image are fixed, and their features kept; `views: 0` augments afresh, as the paper.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lus_lightning.data.base import Sampling
from lus_lightning.data.datasets import FrameDataset
from lus_lightning.data.features import FeatureCache, feature_cache, with_features
from lus_lightning.data.identity import digest
from lus_lightning.errors import UserError
from lus_lightning.labels import SCORES
from lus_lightning.methods.base import Batch, LungModule, Step, cross_entropy, score_loss, train_members
from lus_lightning.nets.folds import FoldMembers
from lus_lightning.nets.frozen import FrozenBackbone, fingerprint
from lus_lightning.nets.sord import Table


class FrozenFeatureClassifier(LungModule):
    """Frozen networks, each with one head per fold.

    Args:
        lr: of Adam (section 2.2).
        weights: `imagenet`, `none`, or one weights file per network.
        folds: of the cross-validation (section 2.4).
        networks: timm names of the frozen networks (section 2.1).
        sizes: side in pixels at which each network sees the pictures, or none for the size they have.
        dropout: before the linear layer (section 2.2).
        views: augmented views per image whose features are computed once and kept; 0 augments and computes afresh.
        loss_weights: one weight per score, or none.
        distances: of the scores, for an ordinal loss (`base.score_loss`); none is cross-entropy.

    Raises:
        UserError: a network is unknown or named twice, there is none, or `weights` or `sizes` has not one entry per network.
    """

    def __init__(
        self,
        lr: float,
        weights: str | list[str],
        folds: int,
        networks: Sequence[str] = ("legacy_xception", "resnet50", "vgg16"),
        sizes: list[int] | None = None,
        dropout: float = 0.5,
        views: int = 0,
        loss_weights: list[float] | None = None,
        distances: Table | None = None,
    ) -> None:
        networks = list(networks)
        names = [name.split(".")[0] for name in networks]
        if not names:
            raise UserError("networks is empty; name at least one timm network, such as resnet50")
        super().__init__(headline=names[0], networks=names)
        self.save_hyperparameters()
        for key, given in (("weights", weights), ("sizes", sizes)):
            if isinstance(given, list) and len(given) != len(networks):
                raise UserError(f"{key} has {len(given)} entries, but the networks are {networks}; give one for each of them")
        if len(set(names)) < len(names):
            raise UserError(f"the networks {names} are told apart by name, and a name stands twice; name different networks")
        seen_at: Sequence[int | None] = sizes or [None] * len(networks)
        frozen = [FrozenBackbone(network, size) for network, size in zip(networks, seen_at, strict=True)]
        heads = [FoldMembers(partial(_head, network.width, dropout), folds) for network in frozen]
        self.backbones = nn.ModuleDict(dict(zip(names, frozen, strict=True)))
        self.heads = nn.ModuleDict(dict(zip(names, heads, strict=True)))
        self.member_seconds = dict.fromkeys(names, 0.0)
        self._loss = score_loss(loss_weights, distances)
        self._fingerprints: list[str] | None = None

    @property
    def folds(self) -> int:
        """Folds of the cross-validation."""
        return int(self.hparams["folds"])

    def load_initial_weights(self) -> None:
        """Load `weights` into each frozen network."""
        self._fingerprints = None
        given = self.hparams["weights"]
        each = given if isinstance(given, list) else [given] * len(self.backbones)
        for (_, network, _), source in zip(self._networks(), each, strict=True):
            network.load_weights(source)

    def sampling(self) -> Sampling:
        """Batches balanced over folds; when the last epoch is done every image is predicted by the heads that did not see its patient."""
        return Sampling(by_fold=True, out_of_fold=self.current_epoch + 1 == self.trainer.max_epochs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the heads alone."""
        return torch.optim.Adam(self.heads.parameters(), lr=self.hparams["lr"])

    def step(self, batch: Batch) -> Step:
        """Each network's features once, then all its heads."""
        out, split = Step(batch["target"]), self.split_of(batch)
        widths = [network.width for _, network, _ in self._networks()]
        kept = torch.split(batch["features"], widths, dim=1) if "features" in batch else [None] * len(widths)
        for (name, network, heads), features in zip(self._networks(), kept, strict=True):
            started = time.perf_counter()
            x = network(batch["image"]) if features is None else features
            if split == "train":
                train_members(out, heads, x, batch["fold"], self._loss, f"{name}/")
                self.member_seconds[name] += _since(started)
            elif split == "oof":
                out.probs[name] = heads.out_of_fold(x, batch["fold"]).float().softmax(1)
            else:
                logits = heads(x).float()
                out.losses[name] = torch.stack([cross_entropy(fold, batch["target"]) for fold in logits]).mean()
                out.probs[name] = logits.softmax(2).mean(0)
        return out

    def _networks(self) -> Iterator[tuple[str, FrozenBackbone, FoldMembers]]:
        """Name, frozen network and heads."""
        return zip(self.backbones, self.backbones.values(), self.heads.values(), strict=True)  # type: ignore[arg-type]

    # --- kept features --------------------------------------------------------------------------------------------------------

    def prepared(self, dataset: FrameDataset) -> Dataset[dict[str, Tensor]]:
        """A data set as the data module hands it to its loaders: with `views`, features in place of pictures."""
        views = int(self.hparams["views"])
        if not views:
            return dataset
        training = dataset.split_name == "train"
        return with_features(
            dataset,
            view=1 + self.current_epoch % views if training else 0,
            caches=self._caches(dataset.cache_dir),
            extract=lambda images, which: self._extract(images, which, training),
            share=(self.global_rank, self.trainer.world_size),
            wait=lambda: self.trainer.strategy.barrier("features"),
            num_workers=self.trainer.datamodule.num_workers,  # type: ignore[attr-defined]
        )

    def _caches(self, cache_dir: Path) -> list[FeatureCache]:
        """One per network; another name, size, weight, statistic or normalisation is another folder."""
        if self._fingerprints is None:
            self._fingerprints = [digest(network.size, fingerprint(network))[:16] for _, network, _ in self._networks()]
        places = zip(self._networks(), self._fingerprints, strict=True)
        return [feature_cache(cache_dir / "features" / f"{net.name}-{mark}", net.width) for (_, net, _), mark in places]

    def _extract(self, images: Tensor, which: Sequence[int], training: bool) -> list[Tensor]:
        pictures, found = images.to(self.device).float() / 255, []
        for i, (name, network, _) in enumerate(self._networks()):
            if i in which:
                started = time.perf_counter()
                found.append(network(pictures))
                self.member_seconds[name] += _since(started) if training else 0.0
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The seconds are part of the checkpoint, or a resumed run would forget them."""
        checkpoint["member_seconds"] = self.member_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the seconds back."""
        super().on_load_checkpoint(checkpoint)
        self.member_seconds, self._fingerprints = dict(checkpoint["member_seconds"]), None


def _head(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, len(SCORES)))


def _since(started: float) -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - started
