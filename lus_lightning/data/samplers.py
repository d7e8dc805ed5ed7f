"""Batches as a pure function of (seed, iteration): the ground of exact resume, of fold balance, and of disjoint ranks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

Draw = tuple[int, int]
"""A sample's position in its data set, and the stage and iteration that draw it, as one number (it seeds the augmentation)."""


@dataclass(frozen=True)
class Sampling:
    """What a method asks of the coming training epoch.

    Args:
        by_fold: batches hold `batch_size` / (k - 1) samples of each of the k folds, so that each fold member gets `batch_size`.
        keep: train on these items of the training part only.
        out_of_fold: predict the training items, unaugmented, in this epoch's validation.
    """

    by_fold: bool = False
    keep: torch.Tensor | None = None
    out_of_fold: bool = False


@dataclass(frozen=True)
class Stream:
    """An endless shuffled repetition of some positions, readable at any place without walking there.

    With `classes`, every round of C draws takes one of each class, so that classes weigh the same.
    """

    positions: np.ndarray
    seed: tuple[int, ...]
    classes: np.ndarray | None = None

    def __getitem__(self, place: int) -> int:
        if self.classes is None:
            return self._shuffled(self.positions, place, ())
        present = np.unique(self.classes)
        label = self._shuffled(present, place, (1,))
        return self._shuffled(self.positions[self.classes == label], place // len(present), (2, int(label)))

    def _shuffled(self, values: np.ndarray, place: int, salt: tuple[int, ...]) -> int:
        round_, within = divmod(place, len(values))
        return int(values[_permutation(len(values), (*self.seed, *salt, round_))[within]])


@lru_cache(maxsize=256)
def _permutation(n: int, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)


class GroupBatches(Sampler[list[Draw]]):
    """Batches with the same number of samples of each group; one group is plain shuffling, the k folds make `FoldMembers`' batches.

    Iteration t of stage s reads, of each group, the next `per_group` places of each rank from the group's endless shuffled
    stream. Nothing is carried from one iteration to the next, so a batch depends on (seed, stage, t) alone: a resumed run starts
    at t, and ranks read disjoint places.

    Args:
        groups: the positions of each group.
        per_group: samples of each group in a batch.
        iterations: batches a stage.
        seed: of the shuffling.
        stage: the epoch; each has streams of its own.
        classes: label of every position of the data set: draw classes equally often within a group.
        rank, world_size: this process among those that train together.
    """

    def __init__(self, groups: Sequence[np.ndarray], per_group: int, iterations: int, seed: int, stage: int = 0,
                 classes: np.ndarray | None = None, rank: int = 0, world_size: int = 1) -> None:  # fmt: skip
        if empty := [i for i, group in enumerate(groups) if not len(group)]:
            raise ValueError(f"no samples in group(s) {empty}")
        self.streams = [Stream(g, (seed, stage, i), None if classes is None else classes[g]) for i, g in enumerate(groups)]
        self.per_group, self.iterations, self.stage = per_group, iterations, stage
        self.rank, self.world_size = rank, world_size
        self.start = 0

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Iterator[list[Draw]]:
        return (self.batch(t) for t in range(self.start, self.iterations))

    def batch(self, t: int) -> list[Draw]:
        """The draws of iteration t, group by group."""
        first = (t * self.world_size + self.rank) * self.per_group
        draw = self.stage << 32 | t
        return [(stream[first + j], draw) for stream in self.streams for j in range(self.per_group)]


class LengthBatches(Sampler[list[Draw]]):
    """Batches of clips of nearly the same length, so that little is padded; shuffled among the batches of a pool.

    A round draws each position once (with `classes`, as many, of each class equally often), divides them into pools, orders each pool by
    length, cuts it into batches, and shuffles the batches of all pools. Where a pool is no whole number of batches, neighbouring batches
    share a few clips; no batch holds a clip twice unless there are fewer clips than places. A batch depends on (seed, stage, t) alone, as
    in `GroupBatches`, and the ranks of an iteration divide one larger batch, so that none waits long for another's clips.

    Args:
        positions: what is drawn.
        lengths: of every position of the data set, in frames.
        batch_size: of each rank.
        iterations, seed, stage, classes, rank, world_size: as in `GroupBatches`.
        pool: batches that a pool makes: the fewer, the more the clips of a batch change from round to round, and the more is padded.
    """

    def __init__(self, positions: np.ndarray, lengths: np.ndarray, batch_size: int, iterations: int, seed: int, stage: int = 0,
                 classes: np.ndarray | None = None, rank: int = 0, world_size: int = 1, pool: int = 16) -> None:  # fmt: skip
        if not len(positions):
            raise ValueError("no clips to make batches of")
        self.stream = Stream(positions, (seed, stage), None if classes is None else classes[positions])
        self.lengths, self.iterations, self.stage, self.pool = lengths, iterations, stage, pool
        self.rank, self.world_size, self.together = rank, world_size, batch_size * world_size
        self.start = 0
        self._planned: tuple[int, list[np.ndarray]] = (-1, [])

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Iterator[list[Draw]]:
        return (self.batch(t) for t in range(self.start, self.iterations))

    def batch(self, t: int) -> list[Draw]:
        """The draws of iteration t, by length."""
        a_round = math.ceil(len(self.stream.positions) / self.together)
        mine = self._round(t // a_round)[t % a_round][self.rank :: self.world_size]
        return [(int(position), self.stage << 32 | t) for position in mine]

    def _round(self, number: int) -> list[np.ndarray]:
        """The batches of a round, those of all ranks together."""
        if self._planned[0] != number:
            n = len(self.stream.positions)
            drawn = np.resize([self.stream[number * n + i] for i in range(n)], max(n, self.together))
            size = self.pool * self.together
            # What is left over and makes no batch joins the last pool.
            edges = [i for i in range(size, len(drawn), size) if len(drawn) - i >= self.together]
            batches = [batch for pool in np.split(drawn, edges) for batch in self._cut(pool)]
            order = _permutation(len(batches), (*self.stream.seed, number, 3))
            self._planned = (number, [batches[i] for i in order])
        return self._planned[1]

    def _cut(self, pool: np.ndarray) -> list[np.ndarray]:
        pool = pool[np.argsort(self.lengths[pool], kind="stable")]
        starts = np.linspace(0, len(pool) - self.together, math.ceil(len(pool) / self.together)).round().astype(int)
        return [pool[i : i + self.together] for i in starts]


class ResumableLoader(DataLoader):
    """A DataLoader that counts the batches it handed out, not those its workers prefetched, and resumes after the last of them.

    The Trainer keeps `state_dict` in its checkpoints; its own mid-epoch resume would replay the first batches.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator: the Trainer asks for an iterator twice, workers start at the first batch
        self.batch_sampler.start = self._done  # type: ignore[union-attr]
        for batch in super().__iter__():
            self._done += 1
            yield batch
        self._done = 0

    def state_dict(self) -> dict[str, int]:
        """Batches done in this epoch; an epoch that is complete starts the next from nothing."""
        return {"done": self._done % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that `state` counts."""
        self._done = state["done"]
