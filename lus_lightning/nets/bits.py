"""Masks whose bits are classes, as files and batches carry them, to one plane per class, as networks do, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lus_lightning.labels import MASK_CLASSES


def unpack_bits(mask: Tensor, classes: Sequence[str] = MASK_CLASSES) -> Tensor:
    """Planes (B, C, H, W) bool, one per class, of masks (B, H, W) uint8 in which bit i is `labels.MASK_CLASSES[i]`."""
    return (mask[:, None] & _bits(classes, mask)) > 0


def pack_bits(planes: Tensor, classes: Sequence[str] = MASK_CLASSES) -> Tensor:
    """Masks (B, H, W) uint8, bit i set where the plane of `labels.MASK_CLASSES[i]` is, of planes (B, C, H, W) bool, one per class."""
    return (planes * _bits(classes, planes)).sum(1, dtype=torch.uint8)


def _bits(classes: Sequence[str], like: Tensor) -> Tensor:
    return torch.tensor([1 << MASK_CLASSES.index(name) for name in classes], dtype=torch.uint8, device=like.device).view(1, -1, 1, 1)
