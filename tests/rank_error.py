"""A user's error on one of two processes."""

import pytorch_lightning as pl

from lus_lightning.errors import UserError


class FailsOnRank(pl.Callback):
    """Stops the training of one process as a clip that cannot be read would."""

    def __init__(self, rank: int):
        self.rank = rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == self.rank:
            raise UserError("the clip a.mp4 cannot be read; take it out of the index")
