"""The checkpoint that a run resumes from, and how checkpoints are written."""

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from lus_lightning.data.identity import whole_file
from lus_lightning.errors import UserError
from lus_lightning.runs import is_dry, write_record


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the run folder: every `every_n_steps` iterations, at the end of each epoch, and of the last.

    Never a spoiled one: where the loss is no longer finite the run stops, and the last sound checkpoint stays. Nor at an epoch's last
    iteration: the Trainer, resuming there, would skip the validation that ends the epoch, and a method may need it (Xing's
    selection is made there).

    Args:
        every_n_steps: iterations between two saves within an epoch.
        min_seconds: an epoch that ends sooner after a save is not saved, unless it is the last: writing gigabytes is not worth seconds.
        monitor: a metric of the validation patients, such as `val/loss`: `checkpoints/best.ckpt` is the epoch in which it was best (a loss
            at its lowest, all else at its highest), and what `reproduce` tests; none: the last epoch is.
    """

    def __init__(self, every_n_steps: int = 200, min_seconds: float = 20.0, monitor: str | None = None) -> None:
        self.every_n_steps, self.min_seconds, self.monitor = every_n_steps, min_seconds, monitor
        self._best = -math.inf
        self._saved = time.monotonic()
        self._loss = torch.tensor(0.0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within an epoch."""
        self._loss = outputs["loss"]
        if trainer.global_step % self.every_n_steps == 0 and batch_idx + 1 < trainer.num_training_batches:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save between two epochs, after the validation."""
        if self.monitor:
            self._keep_best(trainer, self.monitor)
        soon = trainer.strategy.broadcast(time.monotonic() - self._saved < self.min_seconds)  # all processes save, or none
        if not soon or trainer.current_epoch + 1 == trainer.max_epochs:
            self._save(trainer)

    def state_dict(self) -> dict[str, float]:
        """The best so far, or a resumed run would keep a worse one."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from the best so far."""
        self._best = state_dict["best"]

    def _keep_best(self, trainer: pl.Trainer, monitor: str) -> None:
        """Save the epoch if it is the best.

        Raises:
            UserError: nothing of that name was measured.
        """
        if monitor not in trainer.callback_metrics:
            known = (
                ", ".join(sorted(name for name in trainer.callback_metrics if name.startswith("val/"))) or "nothing: set split.val_share"
            )
            raise UserError(f"the best epoch cannot be told by {monitor!r}: of the validation patients there is {known}")
        value = float(trainer.callback_metrics[monitor])
        good = -value if monitor.endswith("loss") else value
        if good > self._best:
            self._best = good
            self._save(trainer, "best")
            if trainer.is_global_zero and not is_dry(trainer):
                best = {"monitor": monitor, "value": value, "epoch": trainer.current_epoch}
                write_record(Path(trainer.default_root_dir), best=best)

    def _save(self, trainer: pl.Trainer, name: str = "last") -> None:
        """Save.

        Raises:
            UserError: the loss is NaN or infinite.
        """
        if not math.isfinite(loss := float(self._loss)):  # here alone: asked at every step, a GPU would wait at every step
            raise UserError(f"the loss is {loss} at iteration {trainer.global_step}; train anew with a lower --model.init_args.lr")
        if not is_dry(trainer):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt")
            self._saved = time.monotonic() if name == "last" else self._saved


class WholeCheckpointIO(TorchCheckpointIO):
    """Saves each checkpoint beside its place and renames it. Lightning's own may copy it over the old one, which a full disk cuts short."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save; what lies on another machine (a URL) is Lightning's own to save."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            for half in Path(path).parent.glob(f".{Path(path).name}.*"):  # left by a killed process; they may be gigabytes
                half.unlink(missing_ok=True)
            save_whole(Path(path), checkpoint)


def save_whole(path: Path, content: dict[str, Any]) -> None:
    """`torch.save`, as `whole_file`."""
    with whole_file(path) as fresh, fresh.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # under which torch hides what the disk said
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
