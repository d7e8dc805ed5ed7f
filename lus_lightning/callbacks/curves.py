"""How a training went, epoch by epoch."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

from lus_lightning.data.identity import write_table
from lus_lightning.runs import is_dry


class Curves(pl.Callback):
    """Writes `curves.csv` into the run folder: a row per epoch, its mean training loss (of all processes) and the watched metrics of the
    validation patients.

    They are for watching; what is quoted comes from the predictions. A resumed run goes on with the rows of its checkpoint.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []
        self._loss, self._batches = torch.tensor(0.0), 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add up the loss, without asking the device for it."""
        self._loss, self._batches = self._loss.to(outputs["loss"].device) + outputs["loss"].detach(), self._batches + 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's row."""
        watched = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        mean = float(trainer.strategy.reduce(self._loss.to(trainer.strategy.root_device), reduce_op="mean")) / max(1, self._batches)
        self._rows.append({"epoch": trainer.current_epoch, "train/loss": mean} | watched)
        self._loss, self._batches = torch.tensor(0.0), 0
        if trainer.is_global_zero and not is_dry(trainer):
            write_table(Path(trainer.default_root_dir) / "curves.csv", pd.DataFrame(self._rows))

    def state_dict(self) -> dict[str, Any]:
        """Part of each checkpoint."""
        return {"rows": self._rows, "loss": float(self._loss), "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what was written."""
        self._rows, self._batches = list(state_dict["rows"]), state_dict["batches"]
        self._loss = torch.tensor(state_dict["loss"])
