"""The checkpoint that a run resumes from, and how checkpoints are written."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from lus_lightning.callbacks.predictions import PredictionWriter
from lus_lightning.data.identity import whole_file
from lus_lightning.errors import UserError
from lus_lightning.runs import is_dry, write_record
from lus_lightning.signals import Stopped, interrupts


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the run folder: every `every_n_steps` iterations, at the end of each epoch, and of the last.

    A training that is asked to stop (SIGINT, SIGTERM) saves first, then ends.

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

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Where the best epoch is kept, its validation rows are too."""
        for writer in _writers(trainer):
            writer.holds_validation = self.monitor is not None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits until the batch is done."""
        interrupts.deferred = True
        interrupts.install()  # the Trainer has just put its own handler of SIGTERM in the place of ours

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within an epoch."""
        self._loss = outputs["loss"]
        if batch_idx + 1 == trainer.num_training_batches:
            return
        stop = _asked_to_stop(trainer)
        if stop or trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)
        if stop:
            self._stop(trainer, stop)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
                                batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        """A validation cannot be resumed in its middle: stop with the last checkpoint as it is."""
        if trainer.state.fn == "fit" and (stop := _asked_to_stop(trainer)):
            self._stop(trainer, stop)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save between two epochs, after the validation."""
        if self.monitor:
            self._keep_best(trainer, self.monitor)
        soon = trainer.strategy.broadcast(time.monotonic() - self._saved < self.min_seconds)  # all processes save, or none
        stop = _asked_to_stop(trainer)
        if stop or not soon or trainer.current_epoch + 1 == trainer.max_epochs:
            self._save(trainer)
        if stop and trainer.current_epoch + 1 != trainer.max_epochs:
            self._stop(trainer, stop)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """A signal ends the command at once again."""
        interrupts.deferred = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The same, where the Trainer skips `teardown`."""
        interrupts.deferred = False

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
        value = float(trainer.strategy.broadcast(float(trainer.callback_metrics[monitor])))  # one process decides for all
        good = -value if monitor.endswith("loss") else value
        if good > self._best:
            self._best = good
            self._save(trainer, "best")
            if trainer.is_global_zero and not is_dry(trainer):
                for writer in _writers(trainer):
                    writer.write_held(trainer)
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

    def _stop(self, trainer: pl.Trainer, number: int) -> None:
        """End the training.

        Raises:
            Stopped: always.
        """
        stopped, last = Stopped(number), Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if trainer.is_global_zero:
            how = f"to go on: --ckpt_path {last}, or the same `make` or `reproduce` command" if last.is_file() else "nothing was saved yet"
            print(f"stopped by {stopped.name} at iteration {trainer.global_step} of epoch {trainer.current_epoch}; {how}", file=sys.stderr)
        raise stopped


def _writers(trainer: pl.Trainer) -> list[PredictionWriter]:
    return [callback for callback in trainer.callbacks if isinstance(callback, PredictionWriter)]  # type: ignore[attr-defined]


def _asked_to_stop(trainer: pl.Trainer) -> int:
    """The number of the signal that any of the processes has received, 0 if none."""
    if trainer.world_size == 1:
        return interrupts.pending
    return int(trainer.strategy.reduce(torch.tensor(interrupts.pending, device=trainer.strategy.root_device), reduce_op="max"))


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
