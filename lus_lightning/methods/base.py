"""What every method shares: the stages around a paper's one `step`, and the metrics watched while training."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryCohenKappa,
    MulticlassAccuracy,
    MulticlassCohenKappa,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelF1Score,
)

from lus_lightning.data.base import Sampling
from lus_lightning.data.datasets import SPLITS
from lus_lightning.errors import UserError
from lus_lightning.labels import SCORES, SIGNS
from lus_lightning.nets.folds import FoldMembers
from lus_lightning.nets.sord import Table, soft_targets, sord
from lus_lightning.nets.video import ClipReading

Batch = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
"""Of logits (B, C) and classes (B,)."""

SCHEDULES: Final = {
    "constant": lambda done: 1.0,
    "warm_cosine": lambda done: min(1.0, 10 * done + 0.01) * (1 + math.cos(math.pi * done)) / 2,
}
"""Learning rate, as a share of `lr`, by the share of the epoch that is done: a method with a hyper-parameter `schedule` names one."""


@dataclass
class Step:
    """What a method makes of a batch.

    Args:
        target: labels (B,) int64, -1 where unknown.
        losses: one scalar per member; their sum is minimised. Members that share no parameter are trained as if alone.
        probs: per member, probabilities (B, C) float32; a row of NaN is a sample the member was not given.
        pred: per member, classes (B,) int64, where they are not the most probable ones; -1 abstains.
        masks: (B, scan lines, depth samples) uint8 of a method that segments, bit i for `labels.MASK_CLASSES[i]`.
        measures: what `masks` measure, each (B,), by the names of `scoring.pleura.AffectedPleura`.
        reading: where a clip network looked.

    For several signs at once `target` and `pred` are (B, 4), 1 or 0 (`target` -1 where nobody looked), and `probs` (B, 4) each sign's
    own, NaN for a sign that the member does not know.
    """

    target: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    probs: dict[str, Tensor] = field(default_factory=dict)
    pred: dict[str, Tensor] = field(default_factory=dict)
    masks: np.ndarray | None = None
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    reading: ClipReading | None = None

    def classes(self, member: str) -> Tensor:
        """What a member says of each sample (B,) int64, of several signs (B, 4); -1 abstains."""
        return self.pred[member] if member in self.pred else self.probs[member].argmax(1)


class LungModule(pl.LightningModule):
    """A method as a system: sub-classes write `step`, `configure_optimizers` and, where epochs differ, `sampling`.

    Args:
        headline: the member whose metrics are logged as `val/...` and `test/...`; these are for watching, a number that is
            quoted comes from the predictions table.
        labels: what it learns, one of `lus_lightning.data.frames.LABELS`; the data module asks.
        networks: names of the networks that a report sets beside each other.
    """

    def __init__(self, headline: str, labels: str = "score", networks: Sequence[str] = ()) -> None:
        super().__init__()
        self.headline, self.labels, self.networks = headline, labels, list(networks)
        self.clip_rule = "mean"
        """How its frames become a clip where it predicts, one of `scoring.levels.RULES` or `mean`; a report follows the paper."""
        self.mask_classes: tuple[str, ...] = ()
        """What it segments, of `labels.MASK_CLASSES`, of a method that does."""
        self.member_seconds: dict[str, float] = {}
        """Seconds that each network took in training, of a method that counts them."""
        self.trained = False
        self.trained_epoch = -1
        """The epoch in which a loaded checkpoint was saved."""
        self.val_metrics = MetricCollection({**watched_metrics(labels)}, prefix="val/")
        self.test_metrics = self.val_metrics.clone(prefix="test/")

    @property
    def folds(self) -> int:
        """Parts into which the training patients are divided for cross-validation; 1 is none."""
        return 1

    def step(self, batch: Batch) -> Step:
        """The paper: what it makes of a batch of `image` (B, 1, H, W) float32 in [0, 1] or `frames` (B, T, 1, H, W) uint8."""
        raise NotImplementedError

    def load_initial_weights(self) -> None:
        """Load the weights a fresh training starts from; nothing by default."""

    def sampling(self) -> Sampling:
        """What the coming epoch trains on."""
        return Sampling()

    def progress(self, batch_idx: int) -> float:
        """Share of the schedule that is done; an epoch is a stage, and has a schedule of its own."""
        return batch_idx / self.trainer.num_training_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember that these weights were trained, and how long."""
        self.trained, self.trained_epoch = True, int(checkpoint["epoch"])

    def on_fit_start(self) -> None:
        """Load initial weights where a fresh training starts."""
        if not self.trained:
            self.load_initial_weights()
        self.trained = True

    def on_test_start(self) -> None:
        """Refuse to run an untrained network.

        Raises:
            UserError: no checkpoint was given.
        """
        if not self.trained:
            raise UserError("this network is untrained: add --ckpt_path runs/<name>/checkpoints/last.ckpt")

    on_predict_start = on_validation_start = on_test_start

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Grey levels of single pictures become float32 in [0, 1] on the device: as uint8 they travelled in a quarter of the bytes.

        Clips stay uint8: their network makes them numbers chunk by chunk, and never the padding.
        """
        return {k: v.float() / 255 if k == "image" else v for k, v in batch.items()}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout and learning rate are functions of the iteration, so that a resumed run does what an unbroken one would."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        mixed = np.random.SeedSequence([seed, self.global_rank, self.global_step]).generate_state(1, np.uint64)
        torch.manual_seed(int(mixed[0]))
        if (schedule := self.hparams.get("schedule", "constant")) != "constant":
            factor = SCHEDULES[schedule](self.progress(batch_idx))
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Minimise the sum of the members' losses."""
        out = self.step(batch)
        loss = torch.stack(list(out.losses.values())).sum()
        # Synchronised: what one process logs alone would be printed, or stop a training, as if it were the whole's.
        self.log_dict(_member_logs("train", out), batch_size=len(out.target), sync_dist=True)
        self.log("train/loss", loss.detach() / len(out.losses), prog_bar=True, batch_size=len(out.target), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Metrics of the validation patients; out-of-fold predictions go to whoever asked for them."""
        out = self.step(batch)
        if self.split_of(batch) == "val":
            self._watch(self.val_metrics, "val", out)
        return out

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Predictions of the test patients; callbacks write them."""
        out = self.step(batch)
        self._watch(self.test_metrics, "test", out)
        return out

    def predict_step(self, batch: Batch, batch_idx: int) -> Step:
        """Predictions of clips that may have no label."""
        return self.step(batch)

    @staticmethod
    def split_of(batch: Mapping[str, Tensor]) -> str:
        """The name of the part (`SPLITS`) all samples of a batch belong to."""
        return SPLITS[int(batch["split"][0])]

    def _watch(self, metrics: MetricCollection, stage: str, out: Step) -> None:
        given = out.probs[self.headline]
        if given.isnan().all() and self.labels == "score":  # a rule gives no probability, but classes, and may abstain
            said = out.pred[self.headline]
            if (told := said >= 0).any():
                metrics.update(said[told], out.target[told])
        else:
            metrics.update(given.nan_to_num(), out.target)  # a NaN would make torchmetrics take all for logits
        size = len(out.target)
        self.log_dict(dict(metrics), on_epoch=True, add_dataloader_idx=False, batch_size=size)  # type: ignore[arg-type]
        loss = torch.stack(list(out.losses.values())).mean()
        self.log(f"{stage}/loss", loss, add_dataloader_idx=False, batch_size=size, sync_dist=True)


def check_schedule(name: str) -> None:
    """Refuse a learning-rate schedule that is not of `SCHEDULES`.

    Raises:
        UserError: it is not.
    """
    if name not in SCHEDULES:
        raise UserError(f"no learning-rate schedule is called {name!r}: choose from {', '.join(SCHEDULES)}")


def watched_metrics(labels: str) -> dict[str, Metric]:
    """What is watched while training on labels of a kind; for several signs, pooled over all that somebody looked for."""
    if labels == "signs":
        pooled: dict[str, Any] = {"num_labels": len(SIGNS), "average": "micro", "ignore_index": -1}
        return {"accuracy": MultilabelAccuracy(**pooled), "f1": MultilabelF1Score(**pooled), "kappa": BinaryCohenKappa(ignore_index=-1)}
    n = len(SCORES if labels == "score" else SIGNS)
    # Only severity has an order, in which far is worse than near.
    kappa = {"qwk": MulticlassCohenKappa(n, weights="quadratic")} if labels == "score" else {"kappa": MulticlassCohenKappa(n)}
    return {"accuracy": MulticlassAccuracy(n, average="micro"), "f1": MulticlassF1Score(n), **kappa}


def train_members(out: Step, members: FoldMembers, x: Tensor, fold: Tensor, loss: Loss, prefix: str = "") -> None:
    """Add to `out` each fold member's loss and probabilities on the samples of the other folds, as member `<prefix>fold<i>`."""
    for i, (logits, seen) in enumerate(members.train_on_others(x, fold)):
        out.losses[f"{prefix}fold{i}"] = loss(logits, out.target[seen])
        probs = logits.new_full((len(seen), logits.shape[1]), torch.nan, dtype=torch.float32)
        probs[seen] = logits.detach().float().softmax(1)
        out.probs[f"{prefix}fold{i}"] = probs


def score_loss(weights: list[float] | None = None, distances: Table | None = None) -> Loss:
    """Cross-entropy, or the ordinal one (`nets.sord`) where distances of the scores are given; `weights` of the true scores.

    Raises:
        UserError: `distances` is no table of distances.
    """
    if distances is None:
        return partial(cross_entropy, weights=weights)
    soft_targets(distances)
    return partial(sord, weights=weights, distances=distances)


def cross_entropy(logits: Tensor, target: Tensor, weights: list[float] | None = None) -> Tensor:
    """Mean cross-entropy of logits (B, C), optionally weighted by class; samples of unknown target (-1) take no part."""
    if not (target >= 0).any():
        return logits.sum() * 0
    return F.cross_entropy(logits.float(), target, None if weights is None else logits.new_tensor(weights), ignore_index=-1)


def _member_logs(stage: str, out: Step) -> dict[str, Any]:
    logs: dict[str, Any] = {f"{stage}/loss/{member}": loss.detach() for member, loss in out.losses.items()}
    for member, probs in out.probs.items():
        seen = ~(probs if out.target.ndim > 1 else probs[:, 0]).isnan() & (out.target >= 0)
        logs[f"{stage}/accuracy/{member}"] = (out.classes(member) == out.target)[seen].float().mean()
    return logs
