"""k-fold cross-validation inside one network: k members, member i trained on the samples of every fold but i."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


class FoldMembers(nn.Module):
    """The k networks (or heads) of a k-fold cross-validation, trained together in one fit.

    A batch that holds b samples of each fold gives every member b * (k - 1) of them, so a sample is read, decoded and
    augmented once instead of k - 1 times, and the batch norm of member i never sees fold i. Losses are summed: the members
    share no parameter, so each gets the gradients of its own training.

    Args:
        make: builds one member, called k times.
        k: the number of folds, at least 2.

    Raises:
        ValueError: k is less than 2.
    """

    def __init__(self, make: Callable[[], nn.Module], k: int) -> None:
        super().__init__()
        if k < 2:
            raise ValueError(f"cross-validation needs at least 2 folds, not {k}")
        self.members = nn.ModuleList(make() for _ in range(k))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (k, B, C) of every member for every sample (B, ...): for samples that belong to no fold."""
        return torch.stack([member(x) for member in self.members])

    def train_on_others(self, x: Tensor, fold: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each member, its logits (b_i, C) and the mask (B,) of the samples it was given: those of the other folds.

        Args:
            x: samples (B, ...).
            fold: fold of each sample (B,), 0 to k - 1, or -1: in no fold, so every member is given it.
        """
        for i, member in enumerate(self.members):
            others = fold != i
            yield member(x[others]), others

    def out_of_fold(self, x: Tensor, fold: Tensor) -> Tensor:
        """Logits (B, C), each sample's from the one member that was not trained on its fold.

        Args:
            x: samples (B, ...).
            fold: fold of each sample (B,), 0 to k - 1.
        """
        parts = [(fold == i).nonzero(as_tuple=True)[0] for i in range(len(self.members))]
        logits = [member(x[part]) for member, part in zip(self.members, parts, strict=True) if len(part)]
        return torch.cat(logits)[torch.cat(parts).argsort()]
