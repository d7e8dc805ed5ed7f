"""The spatiotemporal video net: a whole clip is scored at once, by where to look in each frame and what follows what.

L. Corso, "Video-level Lung Ultrasound Scoring", University of Trento 2023.

1. A CNN sees each frame; three convolutions make a mask that says where to look, and the masked feature map is averaged (section V).
2. An LSTM in both directions goes through the frames; a linear layer scores the clip.
3. SORD's soft targets know that a score far from the label is worse than one near it; the pretrained CNN learns ten times slower.

Differs from the paper:
- padding is neither computed nor seen, where theirs runs every clip at the length of the longest;
- the epoch is chosen on validation patients; theirs was chosen on the test patients;
- how the LSTM's states become one vector is not said: their mean over the frames; the widths of the masks and of the LSTM are ours too;
- batch norm of a pretrained CNN keeps its statistics (AlexNet has none).
"""

from collections.abc import Sequence
from typing import Any, Final

import torch

from lus_lightning.labels import SCORES
from lus_lightning.methods.base import LungModule, Step, check_schedule
from lus_lightning.nets.sord import DISTANCES, Table, soft_targets, sord
from lus_lightning.nets.video import ClipNetwork

VIDEO: Final = "video"


class SpatiotemporalClassifier(LungModule):
    """A clip network trained with SORD.

    Args:
        lr: of the CNN ("base learning rate", section V).
        scratch_factor: what is trained from scratch learns so many times faster (section V).
        momentum, weight_decay: of SGD.
        weights: of the CNN: `imagenet`, `none`, or a weights file.
        backbone, widths, hidden, pooling, chunk, checkpointing, statistics: as in `nets.video.ClipNetwork`.
        distances: of each true score (row) to each score, for SORD's soft targets; the paper's do not widen that of score 0.
        schedule: of the learning rates (`base.SCHEDULES`), over all epochs.

    Raises:
        UserError: what `ClipNetwork` and `soft_targets` raise, or the schedule is unknown.
    """

    def __init__(self, lr: float, momentum: float, weight_decay: float, weights: str, scratch_factor: float = 10.0,
                 backbone: str = "torchvision:alexnet", widths: Sequence[int] = (16, 8), hidden: int = 256, pooling: str = "mean",
                 chunk: int = 64, checkpointing: bool = False, statistics: str = "kept", distances: Table = DISTANCES,
                 schedule: str = "constant") -> None:  # fmt: skip
        check_schedule(schedule)
        super().__init__(headline=VIDEO)
        widths, distances = list(widths), [list(row) for row in distances]
        self.save_hyperparameters()
        soft_targets(distances)  # refuses a table that is none before anything is decoded
        self.net = ClipNetwork(backbone, len(SCORES), widths, hidden, pooling, chunk, checkpointing, statistics)

    def load_initial_weights(self) -> None:
        """Load `weights` into the CNN."""
        self.net.backbone.load_weights(self.hparams["weights"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with two learning rates (section V)."""
        seen = {id(p) for p in self.net.backbone.parameters()}
        fresh = [p for p in self.net.parameters() if id(p) not in seen]
        lr, momentum, decay = (self.hparams[name] for name in ("lr", "momentum", "weight_decay"))
        groups: list[dict[str, Any]] = [
            {"params": list(self.net.backbone.parameters())},
            {"params": fresh, "lr": lr * self.hparams["scratch_factor"]},
        ]
        return torch.optim.SGD(groups, lr, momentum, weight_decay=decay)

    def progress(self, batch_idx: int) -> float:
        """Share of all epochs that is done."""
        return (self.trainer.current_epoch + super().progress(batch_idx)) / (self.trainer.max_epochs or 1)

    def step(self, batch: dict[str, Any]) -> Step:
        """SORD and the probability of each score; outside training also where it looked."""
        reading = None
        if self.split_of(batch) == "train":
            logits = self.net(batch["frames"], batch["length"])
        else:
            reading = self.net.explain(batch["frames"], batch["length"])
            logits = reading.logits
        loss = sord(logits, batch["target"], distances=self.hparams["distances"])
        return Step(batch["target"], {VIDEO: loss}, {VIDEO: logits.detach().float().softmax(1)}, reading=reading)
