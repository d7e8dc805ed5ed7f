import math

import pytest
import torch
import torch.nn.functional as F

from lus_lightning.errors import UserError
from lus_lightning.methods.base import cross_entropy
from lus_lightning.nets.sord import DISTANCES, WIDENED, soft_targets, sord

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ONLY_ITSELF = [[0.0 if a == b else math.inf for b in range(4)] for a in range(4)]


def _reference(logits, target, distances=DISTANCES):
    """The definition with nothing but exp and log, in double precision, each sample shifted by its largest logit."""
    logits = logits.double()
    shifted = logits - logits.max(1, keepdim=True).values
    log_probs = shifted - shifted.exp().sum(1, keepdim=True).log()
    wanted = torch.exp(-torch.tensor(distances, dtype=torch.float64))
    wanted = (wanted / wanted.sum(1, keepdim=True))[target]
    return -(wanted * log_probs).sum(1).mean()


def _logits(scale, dtype, n=64):
    generator = torch.Generator().manual_seed(int(scale))
    logits = (torch.rand(n, 4, generator=generator) * 2 - 1) * scale
    logits[0] = torch.tensor([scale, -scale, scale, -scale])
    return logits.to(dtype), torch.arange(n) % 4


@pytest.mark.parametrize("distances", [DISTANCES, WIDENED])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.01, 1, 30, 1e3, 1e4])
def test_it_equals_double_precision_on_the_same_rounded_logits(dtype, scale, distances):
    logits, target = _logits(scale, dtype)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = sord(logits, target, distances=distances)
        each = torch.stack([sord(logits[i : i + 1], target[i : i + 1], distances=distances) for i in range(len(target))])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), _reference(logits, target, distances), rtol=1e-5, atol=0)
    expected = [_reference(logits[i : i + 1], target[i : i + 1], distances) for i in range(len(target))]
    torch.testing.assert_close(each.double(), torch.stack(expected), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_its_gradient_is_that_of_double_precision_rounded_to_the_type_of_the_logits(dtype, scale):
    logits, target = _logits(scale, dtype)
    logits.requires_grad_()
    exact = logits.detach().double().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        sord(logits, target).backward()
    _reference(exact, target).backward()
    rounding = max(torch.finfo(dtype).eps, 1e-5)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=rounding, atol=torch.finfo(dtype).smallest_normal / 512 + 1e-9)


def test_its_derivative_is_right_in_double_precision():
    logits = (torch.randn(6, 4, dtype=torch.float64) * 3).requires_grad_()
    target = torch.tensor([0, 1, 2, 3, -1, 2])
    assert torch.autograd.gradcheck(lambda x: sord(x, target), logits)
    assert torch.autograd.gradcheck(lambda x: sord(x, target, [1.0, 2.0, 0.5, 3.0], ONLY_ITSELF), logits)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_where_only_the_class_itself_is_near_it_is_cross_entropy(scale, weights):
    logits, target = _logits(scale, torch.float32)
    target[5] = -1
    torch.testing.assert_close(sord(logits, target, weights, ONLY_ITSELF), cross_entropy(logits, target, weights))


def test_a_sample_of_unknown_target_takes_no_part_whatever_its_logits():
    logits, target = _logits(3, torch.float32, n=8)
    expected = sord(logits[:6], target[:6])
    target[6:] = -1
    logits[6], logits[7] = torch.nan, torch.inf
    logits.requires_grad_()
    loss = sord(logits, target)
    loss.backward()
    assert torch.equal(loss, expected)
    assert not logits.grad[6:].any()


def test_a_batch_without_any_known_target_costs_nothing_and_moves_nothing():
    logits = torch.full((8, 4), 6e4, dtype=torch.float16, requires_grad=True)  # whose sum is no number of 16 bits any more
    loss = sord(logits, torch.full((8,), -1))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_an_infinite_logit_is_not_hidden():
    assert not sord(torch.tensor([[0.0, math.inf, 0.0, 0.0]]), torch.tensor([0])).isfinite()


def test_soft_targets_fall_with_twice_the_squared_difference_and_a_widened_score_0_is_further_away():
    plain, widened = soft_targets(DISTANCES), soft_targets(WIDENED)
    torch.testing.assert_close(plain.sum(1), torch.ones(4))
    torch.testing.assert_close((plain[1, 1] / plain[1]).log(), torch.tensor([2.0, 0.0, 2.0, 8.0]))
    assert widened[1, 0] < plain[1, 0]
    torch.testing.assert_close((widened[1, 1] / widened[1, 0]).log(), torch.tensor(4.5))


def test_a_far_mistake_costs_more_than_a_near_one():
    losses = [sord(4 * F.one_hot(torch.tensor([c]), 4).float(), torch.tensor([0])) for c in range(4)]
    assert losses == sorted(losses)


@pytest.mark.parametrize("table", [[[0, 1]], [[0, -1], [1, 0]], [[0, math.nan], [1, 0]], [[math.inf, math.inf], [1, 0]]])
def test_a_table_that_is_no_table_of_distances_is_refused(table):
    with pytest.raises(UserError, match="distances"):
        soft_targets(table)
