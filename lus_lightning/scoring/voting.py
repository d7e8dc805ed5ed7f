"""The vote of several networks on one image (Xing et al. 2022, section 3.2)."""

import numpy as np

from lus_lightning.errors import UserError

UNDECIDED = ("abstain", "most_confident")


def vote(probs: np.ndarray, threshold: float = 0.8, undecided: str = "abstain") -> np.ndarray:
    """The networks' joint label for each sample, -1 where they abstain.

    Xing et al. 2022, section 3.2: where two or three of three networks agree, theirs is the score; where all differ, the label of the
    highest confidence, if that is above 80 %. Below it the paper is silent: `abstain`, or take the most confident all the same.
    For more networks the label that most of them give wins, if at least two give it and no other label has as many.
    Equal top confidences for different labels: the more severe.

    Args:
        probs: (M, N, C) in [0, 1], M networks, N samples, C classes; compared in float32, where exactly 80 % does not exceed 80 %.
        threshold: confidence in [0, 1] that the most confident network must exceed when there is no majority.
        undecided: `abstain` or `most_confident`, what happens at or below the threshold.

    Returns:
        (N,) int64, a class or -1.

    Raises:
        UserError: an unknown `undecided`, or probabilities that are not finite.
    """
    if undecided not in UNDECIDED:
        raise UserError(f"No rule for an undecided vote is called {undecided!r}: use one of {', '.join(UNDECIDED)}.")
    probs = np.asarray(probs, dtype=np.float32)
    if not np.isfinite(probs).all():
        raise UserError("A network's probabilities are NaN or infinite, so there is nothing to vote on: look at its training loss.")
    labels, confidence = probs.argmax(axis=2), probs.max(axis=2)  # (M, N) each
    votes = (labels[..., None] == np.arange(probs.shape[2])).sum(axis=0)  # (N, C)
    most = votes.max(axis=1)
    majority = (most >= 2) & ((votes == most[:, None]).sum(axis=1) == 1)
    top = confidence.max(axis=0)
    sure = np.where(confidence == top, labels, -1).max(axis=0)
    if undecided == "abstain":
        # A float32 0.8 is greater than Python's 0.8: both sides must be float32.
        sure = np.where(top > np.float32(threshold), sure, -1)
    return np.where(majority, votes.argmax(axis=1), sure).astype(np.int64)
