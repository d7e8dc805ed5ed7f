import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lus_lightning.nets.folds import FoldMembers


def _net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))


def _batches(n, k=5, per_fold=1):
    generator = torch.Generator().manual_seed(1)
    for _ in range(n):
        fold = torch.arange(k).repeat_interleave(per_fold)
        yield torch.rand(len(fold), 1, 12, 12, generator=generator), torch.randint(0, 4, (len(fold),), generator=generator), fold


def _sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3)


def test_five_networks_trained_in_one_fit_equal_five_trained_one_at_a_time_on_the_same_batches():
    torch.manual_seed(0)
    together = FoldMembers(_net, 5)
    alone = copy.deepcopy(together.members)
    optimizer = _sgd(together.parameters())
    for x, y, fold in _batches(20):
        optimizer.zero_grad()
        sum(F.cross_entropy(logits, y[seen]) for logits, seen in together.train_on_others(x, fold)).backward()
        optimizer.step()
    for i, net in enumerate(alone):
        optimizer = _sgd(net.parameters())
        for x, y, fold in _batches(20):
            optimizer.zero_grad()
            F.cross_entropy(net(x[fold != i]), y[fold != i]).backward()
            optimizer.step()
        for name, value in net.state_dict().items():
            torch.testing.assert_close(together.members[i].state_dict()[name], value, atol=1e-5, rtol=1e-5)


class _Witness(nn.Module):
    """Remembers the fold number written into each sample it is given."""

    def __init__(self):
        super().__init__()
        self.saw = set()

    def forward(self, x):
        self.saw |= set(x.flatten().tolist())
        return x.new_zeros(len(x), 4)


def test_no_network_is_ever_given_a_sample_of_its_own_fold_in_training():
    members = FoldMembers(_Witness, 5)
    for _, _, fold in _batches(3, per_fold=2):
        list(members.train_on_others(fold.float()[:, None], fold))
    assert [m.saw for m in members.members] == [set(range(5)) - {i} for i in range(5)]


def test_out_of_fold_each_sample_is_seen_by_its_own_folds_network_alone_and_keeps_its_place():
    members = FoldMembers(_Witness, 5)
    fold = torch.tensor([3, 0, 3, 1])
    members.out_of_fold(fold.float()[:, None], fold)
    assert [m.saw for m in members.members] == [{0.0}, {1.0}, set(), {3.0}, set()]
    nets = FoldMembers(lambda: nn.Linear(2, 4), 5)
    x = torch.rand(4, 2)
    expected = torch.stack([nets.members[int(f)](v) for f, v in zip(fold, x, strict=True)])
    torch.testing.assert_close(nets.out_of_fold(x, fold), expected)


def test_one_fold_is_no_cross_validation():
    with pytest.raises(ValueError, match="2 folds"):
        FoldMembers(_net, 1)
