"""Four signs on single pictures: A-lines, B-lines, pleural effusion and consolidation, told apart by one ResNet152.

X. Duan et al., "Classification of 4 pulmonary ultrasound signs based on deep learning", Academic Journal of Naval Medical University
43(8):901-907, 2022.

1. Pictures that show one sign alone, clear and not behind a rib, are chosen: about 1,390 of each sign (abstract).
2. ResNet152 learns the four classes; a test set apart from training and validation measures it (abstract).
3. Each sign is counted against the other three; Cohen's kappa and the confusion matrix tell the whole (Tab. 1).

Differs from the paper:
- optimiser, learning rate, iterations, batch, input size, augmentation and the sizes of the parts are ours: the paper's text names none;
- patients are split, not pictures: the paper does not say which it did;
- `task: multilabel` is ours, for real clips that show several signs, or in which nobody looked for some: each sign is a question of its
  own, and one that nobody looked for takes no part in the loss. A sign that no training clip knows of is never answered.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS
from lus_lightning.methods.base import Batch, LungModule, Step, check_schedule, cross_entropy
from lus_lightning.nets.backbones import ImageClassifier

TASKS: Final = {"multiclass": "sign", "multilabel": "signs"}
"""The labels (`lus_lightning.data.frames.LABELS`) that each task learns."""
MEMBER: Final = "network"


class FourSignClassifier(LungModule):
    """One network with an output for each of `labels.SIGNS`.

    Its buffer `taught` (4,) bool, part of the checkpoint, says which signs any training picture was labelled with or without.

    Args:
        lr, momentum, weight_decay: of stochastic gradient descent.
        weights: `imagenet`, `none`, or a weights file.
        task: `multiclass`, the only sign of a picture (the paper), or `multilabel`, each sign present or not.
        network: a name that `ImageClassifier` knows; the paper's is ResNet152 (abstract).
        schedule: of the learning rate, `constant` or `warm_cosine` (`base.SCHEDULES`).

    Raises:
        UserError: the task, the schedule or the network is unknown.
    """

    taught: Tensor

    def __init__(
        self,
        lr: float,
        momentum: float,
        weight_decay: float,
        weights: str,
        task: str = "multiclass",
        network: str = "resnet152",
        schedule: str = "constant",
    ) -> None:
        check_schedule(schedule)
        if task not in TASKS:
            raise UserError(f"no task is called {task!r}: choose from {', '.join(TASKS)}")
        super().__init__(headline=MEMBER, labels=TASKS[task])
        self.save_hyperparameters()
        self.network = ImageClassifier(network, len(SIGNS))
        self.register_buffer("taught", torch.zeros(len(SIGNS), dtype=torch.bool))

    def load_initial_weights(self) -> None:
        """Load `weights`; the head starts afresh."""
        self.network.load_weights(self.hparams["weights"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Stochastic gradient descent on the whole network."""
        return torch.optim.SGD(self.parameters(), **{k: self.hparams[k] for k in ("lr", "momentum", "weight_decay")})

    def step(self, batch: Batch) -> Step:
        """One network's opinion: which sign, or which signs; NaN for those that it was never taught."""
        logits, target = self.network(batch["image"]).float(), batch["target"]
        if self.labels == "sign":
            return Step(target, {MEMBER: cross_entropy(logits, target)}, {MEMBER: logits.detach().softmax(1)})
        if self.trainer.training:
            self.taught |= (target >= 0).any(0)
        probs = logits.detach().sigmoid().where(self.taught, torch.nan)
        return Step(target, {MEMBER: known_binary_cross_entropy(logits, target)}, {MEMBER: probs}, {MEMBER: (probs >= 0.5).long()})


def known_binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (B, C) over the targets (B, C) that are known; -1 takes no part, and gets no gradient."""
    known = target >= 0
    each = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0).to(logits.dtype), reduction="none")
    return each.where(known, 0.0).sum() / known.sum().clamp(min=1)
