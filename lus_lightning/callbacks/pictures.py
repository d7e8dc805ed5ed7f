"""Pictures for W&B: the confusion matrix and some frames with their prediction."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger

from lus_lightning.labels import SCORES, SIGNS
from lus_lightning.report.figures import THEMES, confusions


class LogPictures(pl.Callback):
    """Logs to W&B, at the end of validation and test, the headline member's confusion matrix and `n` frames with what it said of them.

    Several signs at once have no common matrix: then there are only frames.

    Args:
        n: frames, the first of `n` batches spread over the part.
    """

    def __init__(self, n: int = 8) -> None:
        self.n = n
        self._counts = np.zeros((len(SCORES), len(SCORES) + 1), int)  # the last column abstentions
        self._frames: list[tuple[np.ndarray, str]] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start afresh."""
        self._counts[:] = 0
        self._frames.clear()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any,
                                batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        """Count, and keep the batch's first frame now and then."""
        if not self._logs(trainer) or pl_module.headline not in outputs.probs:
            return
        classes = outputs.classes(pl_module.headline)
        if pl_module.labels != "signs":
            known = outputs.target >= 0
            np.add.at(self._counts, (outputs.target[known].cpu().numpy(), classes[known].cpu().numpy()), 1)
        loaders = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        if batch_idx % max(1, int(loaders[dataloader_idx]) // self.n) == 0 and len(self._frames) < self.n:
            label, said = (told(pl_module.labels, value[0]) for value in (outputs.target, classes))
            # Not from the batch: one of kept features holds no picture.
            picture = trainer.datamodule.picture(int(batch["row"][0]), int(batch["frame"][0]))  # type: ignore[attr-defined]
            self._frames.append((picture, f"label: {label}; {pl_module.headline}: {said}"))

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log them."""
        if not self._logs(trainer):
            return
        stage = "test" if trainer.testing else "val"
        logger: WandbLogger = trainer.logger  # type: ignore[assignment]
        if self._counts.any():
            figure = confusions({stage: self._counts}, THEMES[""], classes_of(pl_module.labels))
            logger.log_image(f"{stage}/confusion", [figure])
        if self._frames:
            pictures, captions = zip(*self._frames, strict=True)
            logger.log_image(f"{stage}/frames", list(pictures), caption=list(captions))

    on_test_epoch_end = on_validation_epoch_end

    @staticmethod
    def _logs(trainer: pl.Trainer) -> bool:
        return isinstance(trainer.logger, WandbLogger) and trainer.is_global_zero


def classes_of(labels: str) -> list[str]:
    """The classes' names: scores, or signs in words."""
    return [str(score) for score in SCORES] if labels == "score" else [sign.replace("_", "-") for sign in SIGNS]


def told(labels: str, value: torch.Tensor) -> str:
    """A class (scalar, -1: none), or several signs (4,) of 1, 0 and -1 (unknown), in words."""
    if labels != "signs":
        return classes_of(labels)[int(value)] if value >= 0 else "none"
    shown = [name for name, there in zip(classes_of(labels), value, strict=True) if there == 1]
    return ", ".join(shown) or "no sign"
