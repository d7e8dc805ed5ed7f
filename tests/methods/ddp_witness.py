"""A callback for `test_ddp.py`, which names it on the command line of both processes."""

import json
from pathlib import Path

import pytorch_lightning as pl


class DrawWitness(pl.Callback):
    """Writes which samples each process is given in each iteration."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.lines = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        draws = list(zip(batch["row"].tolist(), batch["frame"].tolist(), strict=True))
        self.lines.append({"rank": trainer.global_rank, "stage": trainer.current_epoch, "step": batch_idx, "draws": draws})

    def on_train_end(self, trainer, pl_module):
        (self.folder / f"draws-{trainer.global_rank}.json").write_text(json.dumps(self.lines))
