"""SORD: cross-entropy against soft targets that know the order of the classes, so that far is worse than near.

R. Diaz and A. Marathe, "Soft Labels for Ordinal Regression", CVPR 2019: a sample of class t has the target softmax(-distance(t, class)).
S. Roy et al., IEEE TMI 39(8), 2020, use it for scores 0-3 with twice the squared difference, and widen the distance of score 0 by putting
it at -0.5; Corso's report does not widen it.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from lus_lightning.errors import UserError

Table = Sequence[Sequence[float]]


def squared_distances(places: Sequence[float], factor: float = 2.0) -> list[list[float]]:
    """Distances (C, C) of classes at `places` on a line; the factor is that of Roy et al.'s code."""
    return [[factor * (a - b) ** 2 for b in places] for a in places]


DISTANCES: Final = squared_distances((0, 1, 2, 3))
WIDENED: Final = squared_distances((-0.5, 1, 2, 3))
"""As `DISTANCES`, with score 0 further from the others (Roy et al.)."""


def soft_targets(distances: Table) -> Tensor:
    """What each true class asks of each class, (C, C) float32, rows summing to 1; an infinite distance asks 0.

    Raises:
        UserError: the table is not square, a distance is negative or no number, or nothing is near to a class.
    """
    if any(len(row) != len(distances) for row in distances):
        raise UserError(f"a table of distances has a row and a column for each class: {list(map(list, distances))} is not square")
    table = torch.tensor(distances, dtype=torch.float32)
    if not (table >= 0).all() or table.isinf().all(1).any():
        raise UserError(f"distances are 0 or more, and each class is at a finite distance of some class: {table.tolist()}")
    return (-table).softmax(1)


def sord(logits: Tensor, target: Tensor, weights: Sequence[float] | None = None, distances: Table = DISTANCES) -> Tensor:
    """Mean cross-entropy of logits (B, C) against soft targets; samples of unknown target (-1) take no part.

    It stands in for `methods.base.cross_entropy`, which it equals where distances are 0 on and infinite off the diagonal. Of 16-bit logits
    it is computed in float32, under autocast too: nothing here is a product of matrices.

    Args:
        logits: of any floating type and any finite size; an infinite logit gives an infinite or undefined loss, not a hidden one.
        target: classes (B,) int64.
        weights: of the true classes, as in weighted cross-entropy.
        distances: of each true class (row) to each class.

    Returns:
        A scalar; 0 where no target is known.
    """
    known = target >= 0
    logits, target = logits[known], target[known]
    log_probs = F.log_softmax(logits, 1, dtype=torch.promote_types(logits.dtype, torch.float32))
    losses = -(soft_targets(distances).to(log_probs)[target] * log_probs).sum(1)
    each = torch.ones_like(losses) if weights is None else losses.new_tensor(weights)[target]
    return (each * losses).sum() / each.sum().clamp(min=torch.finfo(each.dtype).tiny)
