"""Networks as feature extractors: nothing of them is trained, not even the running statistics of batch norm."""

import hashlib
from typing import Final

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lus_lightning.errors import UserError
from lus_lightning.nets.backbones import ImageClassifier

FEATURES_VERSION: Final = (1, timm.__version__)
"""Raise the number whenever the same network would give other features: other resizing, another mean over the map."""


class FrozenBackbone(ImageClassifier):
    """A timm network without its classifier: one feature vector per picture, averaged over the last feature map.

    Frozen means frozen: no gradient, and eval mode whatever the trainer does.

    Args:
        name: a timm model.
        size: side in pixels to which pictures are resized first, or none to take them as they come.

    Raises:
        UserError: timm has no network of that name.
    """

    def __init__(self, name: str, size: int | None = None) -> None:
        super().__init__(name, 0)
        if not hasattr(self.net, "feature_info"):
            raise UserError(f"{name} gives no feature maps: frozen backbones come from timm, such as resnet50 or legacy_xception")
        self.size = size
        if hasattr(self.net, "pre_logits"):
            self.net.pre_logits = nn.Identity()  # VGG's hidden layers are part of the classifier that is replaced
        self.requires_grad_(False).eval()
        self.width = self.net.forward_features(torch.zeros(1, 3, 64, 64)).shape[1]  # type: ignore[operator]
        """Length of a feature vector."""

    def train(self, mode: bool = True) -> "FrozenBackbone":
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features (B, width) of grey images (B, 1, H, W) in [0, 1]."""
        if self.size is not None and images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        return self.net.forward_features(self.normalised(images)).mean((2, 3))  # type: ignore[operator]


def fingerprint(network: nn.Module) -> str:
    """SHA-256 over all that decides a network's features but its name and size: weights, statistics, mean and std, versions."""
    found = hashlib.sha256(repr(FEATURES_VERSION).encode())
    # Not its state dict, which leaves out the normalisation.
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
