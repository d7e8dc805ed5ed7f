"""The checkpoint that a run resumes from."""

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from lus_lightning.errors import UserError
from lus_lightning.runs import is_dry


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the run folder: every `every_n_steps` iterations, at the end of each epoch, and of the last.

    Never a spoiled one: where the loss is no longer finite the run stops, and the last sound checkpoint stays. Nor at an epoch's last
    iteration: the Trainer, resuming there, would skip the validation that ends the epoch, and a method may need it (Xing's
    selection is made there).

    Args:
        every_n_steps: iterations between two saves within an epoch.
        min_seconds: an epoch that ends sooner after a save is not saved, unless it is the last: writing gigabytes is not worth seconds.
    """

    def __init__(self, every_n_steps: int = 200, min_seconds: float = 20.0) -> None:
        self.every_n_steps, self.min_seconds = every_n_steps, min_seconds
        self._saved = time.monotonic()
        self._loss = torch.tensor(0.0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within an epoch."""
        self._loss = outputs["loss"]
        if trainer.global_step % self.every_n_steps == 0 and batch_idx + 1 < trainer.num_training_batches:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save between two epochs, after the validation."""
        soon = trainer.strategy.broadcast(time.monotonic() - self._saved < self.min_seconds)  # all processes save, or none
        if not soon or trainer.current_epoch + 1 == trainer.max_epochs:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        """Save.

        Raises:
            UserError: the loss is NaN or infinite.
        """
        if not math.isfinite(loss := float(self._loss)):  # here alone: asked at every step, a GPU would wait at every step
            raise UserError(f"the loss is {loss} at iteration {trainer.global_step}; train anew with a lower --model.init_args.lr")
        if not is_dry(trainer):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
            self._saved = time.monotonic()
