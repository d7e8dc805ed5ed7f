"""Two raters who err as people do: both together on a hard clip, each alone now and then, nearer scores more often than far ones."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Noise:
    """`shared`: share of clips that both raters misread alike. `rater`: share that one rater misreads alone, for each rater.

    `frame`: share of frames misread besides, for each rater and frame. `far`: how much less likely a score is with each further step away.
    `sign`: share of signs noted wrongly.
    """

    shared: float = 0.1
    rater: float = 0.03
    frame: float = 0.005
    far: float = 0.15
    sign: float = 0.03


def misread(rng: np.random.Generator, scores: np.ndarray, far: float) -> np.ndarray:
    """Each score (any shape, 0-3) replaced by another: the weight of a score d away is far**(d - 1)."""
    away = np.abs(np.arange(4)[:, None] - np.arange(4))
    weight = np.where(away == 0, 0.0, far ** (away - 1.0))
    cumulated = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
    return (rng.random(scores.shape)[..., None] > cumulated[scores]).sum(axis=-1).clip(0, 3)


def rate(rng: np.random.Generator, clip_truth: int, frame_truth: np.ndarray, noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Two raters' scores of the clip, (2,), and of its frames, (2, T). A misread clip misreads all its frames of one true score alike."""
    identity = np.arange(4)
    shared = misread(rng, identity, noise.far) if rng.random() < noise.shared else identity
    clip, frames = np.empty(2, np.int64), np.empty((2, len(frame_truth)), np.int64)
    for r in range(2):
        own = misread(rng, identity, noise.far) if rng.random() < noise.rater else identity
        clip[r], frames[r] = own[shared[clip_truth]], own[shared[frame_truth]]
        slips = rng.random(len(frame_truth)) < noise.frame
        frames[r][slips] = misread(rng, frames[r][slips], noise.far)
    return clip, frames


def agreed(ratings: np.ndarray) -> np.ndarray:
    """The score where both raters agree, -1 elsewhere: ratings (2, ...) to (...). Xing et al., section 2.4: the rest is discarded."""
    return np.where(ratings[0] == ratings[1], ratings[0], -1)
