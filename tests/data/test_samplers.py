from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lus_lightning.data.samplers import GroupBatches, ResumableLoader

FOLDS = [np.arange(0, 7), np.arange(7, 20), np.arange(20, 31)]


def test_every_batch_holds_the_same_number_of_samples_of_each_fold():
    fold = np.repeat([0, 1, 2], [7, 13, 11])
    for batch in GroupBatches(FOLDS, per_group=2, iterations=40, seed=3):
        assert Counter(fold[position] for position, _ in batch) == {0: 2, 1: 2, 2: 2}


def test_a_fold_is_read_whole_before_any_sample_of_it_repeats():
    drawn = [position for batch in GroupBatches(FOLDS, per_group=1, iterations=7, seed=3) for position, _ in batch if position < 7]
    assert sorted(drawn) == list(range(7))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), start=st.integers(0, 30), stage=st.integers(0, 3))
def test_a_batch_depends_on_seed_stage_and_iteration_alone(seed, start, stage):
    whole = list(GroupBatches(FOLDS, 2, 30, seed, stage))
    late = GroupBatches(FOLDS, 2, 30, seed, stage)
    late.start = start
    assert list(late) == whole[start:]


def test_stages_and_seeds_shuffle_differently():
    batches = {
        (seed, stage): str([[p for p, _ in b] for b in GroupBatches(FOLDS, 2, 10, seed, stage)]) for seed in (0, 1) for stage in (0, 1)
    }
    assert len(set(batches.values())) == 4


def test_processes_read_disjoint_samples_that_together_are_one_process_reading_larger_batches():
    ranks = [[p for b in GroupBatches([np.arange(24)], 2, 6, seed=5, rank=r, world_size=2) for p, _ in b] for r in (0, 1)]
    assert not set(ranks[0]) & set(ranks[1])
    assert set(ranks[0]) | set(ranks[1]) == set(range(24))


def test_balanced_classes_are_drawn_equally_often():
    classes = np.array([0] * 50 + [1] * 5 + [2] * 20)
    drawn = [classes[p] for b in GroupBatches([np.arange(75)], 5, 60, seed=1, classes=classes) for p, _ in b]
    assert Counter(drawn) == {0: 100, 1: 100, 2: 100}


def test_an_empty_fold_is_refused():
    with pytest.raises(ValueError, match="group"):
        GroupBatches([np.arange(3), np.array([], dtype=int)], 1, 2, seed=0)


class _Echo(torch.utils.data.Dataset):
    def __len__(self):
        return 31

    def __getitem__(self, draw):
        return torch.tensor(draw)


def _loader(workers):
    batches = GroupBatches(FOLDS, per_group=2, iterations=12, seed=9)
    return ResumableLoader(_Echo(), batch_sampler=batches, num_workers=workers, generator=torch.Generator())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_after_the_batches_handed_out_not_those_prefetched(workers):
    whole = list(_loader(workers))
    broken = _loader(workers)
    iterator = iter(broken)
    seen = [next(iterator) for _ in range(5)]
    state = broken.state_dict()
    assert state == {"done": 5}
    resumed = _loader(workers)
    resumed.load_state_dict(state)
    assert torch.equal(torch.stack(seen + list(resumed)), torch.stack(whole))


def test_a_loader_that_finished_an_epoch_starts_the_next_from_nothing():
    loader = _loader(0)
    assert len(list(loader)) == len(list(loader)) == 12
    iterator = iter(loader)
    for _ in range(12):
        next(iterator)
    assert loader.state_dict() == {"done": 0}
