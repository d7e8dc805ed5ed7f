from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lus_lightning.data.samplers import LengthBatches, ResumableLoader

LENGTHS = np.random.default_rng(0).integers(60, 600, 177)


def _positions(batches):
    return [[p for p, _ in batch] for batch in batches]


def _padded(batches, lengths=LENGTHS):
    """Frames that a batch has when padded, per real frame."""
    return sum(len(b) * lengths[b].max() for b in batches) / sum(lengths[b].sum() for b in batches)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 90), size=st.integers(1, 6), world=st.integers(1, 3), pool=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_pass_reads_every_clip_in_batches_of_one_size_that_hold_none_twice(n, size, world, pool, seed):
    iterations = -(-n // (size * world))
    how = {"batch_size": size, "iterations": iterations, "seed": seed, "world_size": world, "pool": pool}
    ranks = [_positions(LengthBatches(np.arange(n) + 7, np.arange(200) % 11, rank=r, **how)) for r in range(world)]
    together = [[p for batch in batches for p in batch] for batches in zip(*ranks, strict=True)]
    assert {p for batch in together for p in batch} == set(range(7, n + 7))
    assert {len(batch) for batches in ranks for batch in batches} == {size}
    if n >= size * world:
        assert all(len(set(batch)) == len(batch) for batch in together)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), start=st.integers(0, 119), stage=st.integers(0, 3))
def test_a_batch_depends_on_seed_stage_and_iteration_alone(seed, start, stage):
    whole = list(LengthBatches(np.arange(177), LENGTHS, 4, 120, seed, stage))
    late = LengthBatches(np.arange(177), LENGTHS, 4, 120, seed, stage)
    late.start = start
    assert list(late) == whole[start:]


def test_a_draw_names_stage_and_iteration():
    batches = list(LengthBatches(np.arange(177), LENGTHS, 4, 3, seed=1, stage=5))
    assert [{draw for _, draw in batch} for batch in batches] == [{5 << 32 | t} for t in range(3)]


def test_stages_seeds_and_rounds_shuffle_differently():
    batches = [_positions(LengthBatches(np.arange(177), LENGTHS, 4, 90, seed, stage)) for seed in (0, 1) for stage in (0, 1)]
    rounds = [str(b[i : i + 45]) for b in batches for i in (0, 45)]
    assert len(set(rounds)) == len(rounds)


def test_what_shares_a_batch_changes_from_stage_to_stage():
    stages = [_positions(LengthBatches(np.arange(177), LENGTHS, 4, 45, 0, stage)) for stage in (0, 1)]
    pairs = [{(a, b) for batch in batches for a in batch for b in batch if a < b} for batches in stages]
    assert len(pairs[0] & pairs[1]) < 0.25 * len(pairs[0])


def test_hardly_anything_is_padded_and_the_order_does_not_go_by_length():
    shuffled = np.random.default_rng(1).permutation(176).reshape(-1, 4)
    batches = _positions(LengthBatches(np.arange(177), LENGTHS, 4, 45, seed=2))
    assert _padded(shuffled) > 1.4
    assert _padded(batches) < 1.06
    means = [LENGTHS[b].mean() for b in batches]
    assert abs(np.corrcoef(means, np.arange(45))[0, 1]) < 0.4


def test_processes_read_disjoint_clips_of_like_length_that_together_are_one_process_reading_larger_batches():
    ranks = [_positions(LengthBatches(np.arange(177), LENGTHS, 4, 20, seed=5, rank=r, world_size=2)) for r in (0, 1)]
    one = _positions(LengthBatches(np.arange(177), LENGTHS, 8, 20, seed=5))
    for first, second, both in zip(*ranks, one, strict=True):
        assert sorted(first + second) == sorted(both)
    work = np.array([[LENGTHS[b].sum() for b in batches] for batches in ranks])
    assert np.abs(work[0] - work[1]).sum() < 0.03 * work.mean(0).sum()


def test_balanced_classes_are_drawn_equally_often():
    classes = np.repeat([0, 1, 2, 3], [100, 10, 40, 27])
    batches = _positions(LengthBatches(np.arange(177), LENGTHS, 4, 45 * 8, seed=1, classes=classes))
    counts = Counter(classes[p] for batch in batches for p in batch)
    assert max(counts.values()) < 1.06 * min(counts.values())


def test_no_clips_are_refused():
    with pytest.raises(ValueError, match="no clips"):
        LengthBatches(np.array([], dtype=int), LENGTHS, 4, 3, seed=0)


class _Echo(torch.utils.data.Dataset):
    def __len__(self):
        return 177

    def __getitem__(self, draw):
        return torch.tensor(draw)


def test_a_loader_resumes_them_exactly():
    def loader():
        batches = LengthBatches(np.arange(177), LENGTHS, 4, 60, seed=9)
        return ResumableLoader(_Echo(), batch_sampler=batches, generator=torch.Generator())

    whole, broken = list(loader()), loader()
    iterator = iter(broken)
    seen = [next(iterator) for _ in range(50)]
    resumed = loader()
    resumed.load_state_dict(broken.state_dict())
    assert torch.equal(torch.stack(seen + list(resumed)), torch.stack(whole))
