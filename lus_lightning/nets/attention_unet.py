"""U-Net with additive attention gates on its skips, on any encoder of segmentation-models-pytorch or timm.

O. Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018, arXiv:1804.03999, eqs. 1 and 2.
"""

import re
from collections.abc import Sequence
from math import log
from typing import Final

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lus_lightning.errors import UserError
from lus_lightning.nets.backbones import GreyNetwork, check_fit, downloaded, file_state

RARE: Final = 0.01
"""Probability with which a fresh network gives each pixel each class: without it the first steps only unlearn what is nowhere.

Lin et al. 2017, "Focal loss for dense object detection", arXiv:1708.02002, section 4.1, pi.
"""


class AttentionGate(nn.Module):
    """Additive attention (Oktay et al., eqs. 1-2): how much of each place of a skip passes, as the coarser scale wants it.

    q = psi^T relu(W_x^T x + W_g^T g + b_g) + b_psi, alpha = sigmoid(q), and alpha * x passes. As in the paper, x is brought to the
    resolution of g, the linear maps are 1 x 1 convolutions, and alpha is resampled linearly to that of x. Ours: x comes there by
    averaging, which no thin line escapes, and the width between, F_int, is half that of x.

    Args:
        skip_channels: of x.
        gating_channels: of g.
    """

    def __init__(self, skip_channels: int, gating_channels: int) -> None:
        super().__init__()
        width = max(skip_channels // 2, 1)
        self.w_x = nn.Conv2d(skip_channels, width, 1, bias=False)
        self.w_g = nn.Conv2d(gating_channels, width, 1)
        self.psi = nn.Conv2d(width, 1, 1)
        self.alpha: Tensor | None = None
        """What the last call let pass: (B, 1, H, W) in (0, 1), without gradient."""

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """The gated skip (B, C, H, W) of a skip x (B, C, H, W) and the gating signal g (B, G, H / 2, W / 2)."""
        q = self.psi(F.relu(self.w_x(F.interpolate(x, g.shape[2:], mode="area")) + self.w_g(g)))
        alpha = F.interpolate(q.sigmoid(), x.shape[2:], mode="bilinear")
        self.alpha = alpha.detach()
        return alpha * x


class GatedBlock(nn.Module):
    """A decoder block whose skip goes through a gate; the gating signal is what comes from the coarser scale.

    Args:
        block: of a `smp.Unet`.
        gate: for the skip that the block is given.
    """

    def __init__(self, block: nn.Module, gate: AttentionGate) -> None:
        super().__init__()
        self.block, self.gate = block, gate

    def forward(self, feature_map: Tensor, target_height: int, target_width: int, skip_connection: Tensor) -> Tensor:
        """As the block's own."""
        return self.block(feature_map, target_height, target_width, self.gate(skip_connection, feature_map))


class AttentionUNet(GreyNetwork):
    """`smp.Unet` with an `AttentionGate` on every skip that has channels (smp's U-Net has none at the full resolution).

    Args:
        encoder: a name of segmentation-models-pytorch (normalised like ImageNet), or `tu-<timm name>` (normalised as timm says).
        n_classes: outputs per pixel.
        decoder_channels: width of each decoder block, coarse to fine; their number is the encoder's depth, 3 to 5.

    Raises:
        UserError: neither library has such an encoder, or it gives no maps at halving scales.
    """

    def __init__(self, encoder: str, n_classes: int, decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)) -> None:
        net = _build(encoder, n_classes, tuple(decoder_channels))
        super().__init__(getattr(getattr(net.encoder, "model", None), "pretrained_cfg", None))
        self.name, self.depth = encoder, len(decoder_channels)
        skips = net.encoder.out_channels[-2:0:-1]  # coarse to fine, without the deepest map and the picture itself
        gating = (net.encoder.out_channels[-1], *decoder_channels)
        for i, skip in enumerate(skips):
            if skip:  # encoders that start at a quarter of the resolution have no map at a half
                net.decoder.blocks[i] = GatedBlock(net.decoder.blocks[i], AttentionGate(skip, gating[i]))
        nn.init.constant_(net.segmentation_head[0].bias, log(RARE / (1 - RARE)))
        self.net = net.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, n_classes, H, W), each class by itself (sigmoid), of grey images (B, 1, H, W) in [0, 1] of any size."""
        return self.net(self.normalised(self._padded(images)))[:, :, : images.shape[2], : images.shape[3]]

    @property
    def gates(self) -> list[AttentionGate]:
        """The gates, coarse to fine."""
        return [module for module in self.modules() if isinstance(module, AttentionGate)]

    @torch.no_grad()
    def attention(self, images: Tensor) -> Tensor:
        """How much each gate lets pass at each place: (B, gates, H, W) in (0, 1), coarse to fine, of images as `forward` takes them."""
        padded = self._padded(images)
        self.net(self.normalised(padded))
        maps = [F.interpolate(gate.alpha, padded.shape[2:], mode="bilinear") for gate in self.gates if gate.alpha is not None]
        return torch.cat(maps, 1)[:, :, : images.shape[2], : images.shape[3]]

    def load_weights(self, weights: str) -> None:
        """Start the encoder from `imagenet` (downloaded), a file of a state dict of it or of its classifier, or `none`; the rest is new.

        Raises:
            UserError: the download failed, the file is missing, or it is not of this encoder.
        """
        if weights == "none":
            return
        encoder: nn.Module = self.net.encoder
        state = downloaded(self.name, self._imagenet_state) if weights == "imagenet" else file_state(weights)
        own = {_bare(key): (key, value.shape) for key, value in encoder.state_dict().items()}
        fitting = {own[bare][0]: v for key, v in state.items() if (bare := _bare(key)) in own and own[bare][1] == v.shape}
        missing = {key for key, _ in own.values() if key not in fitting and not key.endswith("num_batches_tracked")}
        check_fit(self.name, weights, missing, self._not_mine({key for key in state if _bare(key) not in own}))
        encoder.load_state_dict(fitting, strict=False)

    def _imagenet_state(self) -> dict[str, Tensor]:
        source = True if self.name.startswith("tu-") else "imagenet"
        return smp.encoders.get_encoder(self.name, depth=self.depth, weights=source).state_dict()

    def _not_mine(self, keys: set[str]) -> set[str]:
        """Those of a weights file's keys that the classifier of this name has not either."""
        if keys and self.name.startswith("tu-"):
            return keys - timm.create_model(self.name.removeprefix("tu-")).state_dict().keys()
        parts = {name for name, _ in self.net.encoder.named_children()}  # a head is another part: another depth is more of the same part
        return {key for key in keys if key.split(".")[0] in parts}

    def _padded(self, images: Tensor) -> Tensor:
        """Black at the right and at the bottom, as lies outside the field of view, up to a multiple of the encoder's stride."""
        stride = self.net.encoder.output_stride
        return F.pad(images, (0, -images.shape[3] % stride, 0, -images.shape[2] % stride))


def _build(encoder: str, n_classes: int, decoder_channels: tuple[int, ...]) -> smp.Unet:
    depth = len(decoder_channels)
    try:
        return smp.Unet(encoder, depth, encoder_weights=None, decoder_channels=decoder_channels, classes=n_classes)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no U-Net of depth {depth} has the encoder {encoder} ({str(error)[:80]}); give a name of segmentation-models-pytorch, such as"
            " resnet18, or tu-<timm name> of a network that halves its maps"
        ) from error


def _bare(key: str) -> str:
    """A layer's name without what timm's feature extractors change of it: their prefixes, and `stages.0` to `stages_0`."""
    return re.sub(r"^(model\.)?(body\.)?", "", key).replace(".", "_")
