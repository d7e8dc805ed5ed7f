import itertools

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor

from lus_lightning.labels import MASK_CLASSES
from lus_lightning.nets.bits import pack_bits, unpack_bits
from lus_lightning.nets.losses import thin_structure_loss


def draw(seed: int = 0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits and targets (4, C, 32, 48), the first class a thin line, the others blocks; from the third on, some are in no picture."""
    g = torch.Generator().manual_seed(seed)
    target = torch.zeros(4, classes, 32, 48, dtype=torch.bool)
    target[:, 0, :, 10:12] = target[:2, 1, 5:20, 12:] = target[1, 2, 8:12, 30:40] = True
    return torch.randn(target.shape, generator=g), target


def by_hand(logits: Tensor, target: Tensor, miss: float, focus: float) -> float:
    """Focal Tversky from its counts, class by class, in float64; the mean over classes, those that are not there counting 0."""
    total, p = 0.0, 1 / (1 + np.exp(-logits.double().numpy()))
    for c in range(p.shape[1]):
        y = target[:, c].numpy()
        hit, false, missed = p[:, c][y].sum(), p[:, c][~y].sum(), (1 - p[:, c][y]).sum()
        total += (1 - hit / (hit + (1 - miss) * false + miss * missed)) ** focus if y.any() else 0.0
    return total / p.shape[1]


@pytest.mark.parametrize(("miss", "focus"), [(0.7, 0.75), (0.5, 1.0), (0.3, 2.0)])
def test_it_is_the_focal_tversky_loss_of_each_class_and_the_cross_entropy_of_each_pixel(miss, focus):
    logits, target = draw()
    expected = by_hand(logits, target, miss, focus)
    overlap = thin_structure_loss(logits, target, miss, focus, pixel_weight=0)
    assert overlap.item() == pytest.approx(expected, rel=1e-4)
    pixels = F.binary_cross_entropy_with_logits(logits, target.float()).item()
    assert thin_structure_loss(logits, target, miss, focus, pixel_weight=0.5).item() == pytest.approx(expected + pixels / 2, rel=1e-4)


def test_with_equal_weights_and_no_focus_it_is_the_librarys_dice_loss():
    logits, target = draw()
    dice = smp.losses.DiceLoss("multilabel")(logits, target)
    torch.testing.assert_close(thin_structure_loss(logits, target, miss_weight=0.5, focus=1, pixel_weight=0), dice)


def test_a_missed_pixel_costs_more_than_a_false_one():
    target = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    target[..., 8:12] = True
    narrow, wide = target.clone(), target.clone()
    narrow[..., 8], wide[..., 12] = False, True
    missed, false = (thin_structure_loss(40.0 * (found.float() - 0.5), target, pixel_weight=0) for found in (narrow, wide))
    assert missed > false


def test_the_gradient_lifts_every_pixel_of_a_class_and_lowers_the_others():
    logits, target = draw()
    thin_structure_loss(logits.requires_grad_(), target).backward()
    assert (logits.grad[target] < 0).all()
    assert (logits.grad[~target] > 0).all()


@pytest.mark.parametrize("level", [0.0, 5.0, 200.0], ids="logits {}".format)
@pytest.mark.parametrize("what", ["nothing is there", "found exactly", "all wrong", "everything is there"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_loss_and_gradient_are_finite_in_the_extremes(what, level, dtype):
    _, target = draw()
    target = {"nothing is there": target & False, "everything is there": target | True}.get(what, target)
    sign = -1 if what == "all wrong" else 1
    logits = (sign * level * (2 * target.to(dtype) - 1)).requires_grad_()
    loss = thin_structure_loss(logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    if level == 200 and what != "all wrong":
        assert loss < 1e-3
    if level == 5 and what == "all wrong":
        assert loss > 1


def test_a_class_that_the_batch_lacks_is_unlearnt_from_its_pixels_alone():
    logits, target = draw()
    thin_structure_loss(logits.requires_grad_(), target).backward()
    expected = logits.detach().sigmoid()[:, 3:] / logits.numel()  # of the mean cross-entropy where nothing is
    torch.testing.assert_close(logits.grad[:, 3:], expected)


def test_under_bfloat16_autocast_it_is_the_loss_of_the_rounded_logits():
    logits, target = draw()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = thin_structure_loss(logits.bfloat16(), target)
    torch.testing.assert_close(mixed, thin_structure_loss(logits.bfloat16().float(), target))
    assert mixed.item() == pytest.approx(thin_structure_loss(logits, target).item(), rel=0.01)


def test_bits_become_one_plane_per_class_in_the_order_asked_for():
    mask = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    planes = unpack_bits(mask, ("effusion", "pleural_line"))
    assert planes.dtype == torch.bool
    expected = np.stack([np.unpackbits(mask[0].numpy()[..., None], axis=-1)[..., -1 - bit] for bit in (4, 0)])
    np.testing.assert_array_equal(planes[0], expected)


@pytest.mark.parametrize("classes", [MASK_CLASSES, MASK_CLASSES[:5], ("effusion", "a_line")], ids=len)
def test_planes_become_the_bits_they_came_from(classes):
    bits = [(0, 1 << MASK_CLASSES.index(name)) for name in classes]
    values = [sum(chosen) for chosen in itertools.product(*bits)]
    mask = torch.tensor(values, dtype=torch.uint8).view(1, 1, -1)
    assert torch.equal(pack_bits(unpack_bits(mask, classes), classes), mask)
