"""A network for whole clips: a CNN sees each frame, a mask says where to look, an LSTM in both directions goes through time.

L. Corso, "Video-level Lung Ultrasound Scoring", University of Trento 2023, section V; the mask follows H. Kerdegari et al., "B-line
detection and localization in lung ultrasound videos using spatiotemporal attention", Applied Sciences 11(24), 2021.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence, pad_sequence
from torch.utils.checkpoint import checkpoint

from lus_lightning.errors import UserError
from lus_lightning.labels import SCORES
from lus_lightning.nets.backbones import GreyNetwork, ImageClassifier

STATISTICS: Final = ("kept", "chunk")


@dataclass
class ClipReading:
    """What a clip network makes of clips and where it looked.

    Args:
        logits: (B, n_classes) float32.
        attention: the masks (B, T, h, w) in [0, 1]; 0 behind a clip's length.
        frames: share of each frame in what the clip becomes, (B, T), a clip's adding to 1; none where the pooling tells none.
        frame_logits: what the last layer says of the state at each frame, (B, T, n_classes): weighted by `frames` they add up to `logits`,
            with pooling by mean or attention.
    """

    logits: Tensor
    attention: Tensor
    frames: Tensor | None
    frame_logits: Tensor


class FeatureMaps(GreyNetwork):
    """The convolutions of a network by name; what comes behind its last feature map is not built in.

    Args:
        name: as in `ImageClassifier`.

    Raises:
        UserError: there is no such network, or it gives no feature maps.
    """

    def __init__(self, name: str) -> None:
        whole = ImageClassifier(name, 0 if ":" not in name else 1)
        super().__init__(getattr(whole.net, "pretrained_cfg", None))
        self.name = name
        self.net = _torchvision_features(whole) if ":" in name else _timm_features(whole)
        with torch.no_grad():
            maps = self.eval()(torch.zeros(1, 1, 96, 96))
        if maps.ndim != 4 or maps.shape[1] != getattr(whole.net, "num_features", maps.shape[1]):
            raise UserError(f"{name} gives no feature maps, but {tuple(maps.shape)} of a picture: take a convolutional network")
        self.channels: int = maps.shape[1]
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (N, channels, h, w) of grey images (N, 1, H, W) in [0, 1]."""
        images = self.normalised(images)
        return self.net.forward_features(images) if hasattr(self.net, "forward_features") else self.net(images)  # type: ignore[operator]

    def load_weights(self, weights: str) -> None:
        """Start from `imagenet` (downloaded), a file of a state dict of the classifier, or `none`.

        Raises:
            UserError: what `ImageClassifier.load_weights` raises.
        """
        if weights == "none":
            return
        whole = ImageClassifier(self.name, 1)
        whole.load_weights(weights)
        state = whole.net.state_dict()
        self.net.load_state_dict({name: state[name] for name in self.net.state_dict()})


def _timm_features(whole: ImageClassifier) -> nn.Module:
    used: set[str] = set()
    hooks = [part.register_forward_hook(lambda *_, name=name: used.add(name.split(".")[0])) for name, part in whole.net.named_modules()]
    try:
        with torch.no_grad():
            whole.net.eval().forward_features(torch.zeros(1, 3, 96, 96))  # type: ignore[operator]
    except AssertionError as error:  # timm's, of a transformer
        raise UserError(f"{whole.name} takes pictures of one size alone ({error}): take a convolutional network") from error
    for hook in hooks:
        hook.remove()
    for name, _ in list(whole.net.named_children()):
        if name not in used:
            setattr(whole.net, name, nn.Identity())  # such as VGG's hidden layers: most of its weights, and none would get a gradient
    return whole.net


def _torchvision_features(whole: ImageClassifier) -> nn.Module:
    parts = dict(whole.net.named_children())
    if "avgpool" not in parts:
        raise UserError(f"it cannot be told where {whole.name} ends its feature maps: take one that timm has, such as resnet18")
    names = list(parts)
    return nn.Sequential(OrderedDict((name, parts[name]) for name in names[: names.index("avgpool")]))


class SpatialAttention(nn.Module):
    """Three convolutions make a mask of a feature map; the masked map is averaged over the picture (section V).

    Args:
        channels: of the feature map.
        widths: channels between the three.
    """

    def __init__(self, channels: int, widths: Sequence[int] = (16, 8)) -> None:
        super().__init__()
        first, second = widths
        self.mask = nn.Sequential(
            nn.Conv2d(channels, first, 3, padding=1), nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1), nn.ReLU(),
            nn.Conv2d(second, 1, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """What is attended (N, channels), and the mask (N, h, w) in [0, 1], of feature maps (N, channels, h, w)."""
        mask = self.mask(maps)
        return (maps * mask).mean((2, 3)), mask[:, 0]


class TimePooling(nn.Module):
    """One vector of the states of a clip's frames.

    Args:
        width: length of a state.
        how: `mean`, `max`, `last` (the state after the last frame of each direction), or `attention` (a learned weight of each frame, as
            Kerdegari et al.).

    Raises:
        UserError: it is none of these.
    """

    WAYS: Final = ("mean", "max", "last", "attention")

    def __init__(self, width: int, how: str) -> None:
        super().__init__()
        if how not in self.WAYS:
            raise UserError(f"frames cannot be pooled by {how!r}: choose from {', '.join(self.WAYS)}")
        self.how = how
        self.score = nn.Sequential(nn.Linear(width, width // 4), nn.Tanh(), nn.Linear(width // 4, 1)) if how == "attention" else None

    def forward(self, states: PackedSequence, final: Tensor) -> tuple[Tensor, Tensor | None]:
        """A vector per clip (B, width), and the share in it of each frame (B, T), or none.

        Args:
            states: of every frame.
            final: after the last frame of each direction, (2, B, width / 2).
        """
        padded, length = pad_packed_sequence(states, batch_first=True)
        outside = torch.arange(padded.shape[1]) >= length[:, None]
        outside = outside.to(padded.device)
        if self.how == "last":
            return final.transpose(0, 1).flatten(1), None
        if self.how == "max":
            best = padded.masked_fill(outside[..., None], -torch.inf).max(1)
            share = torch.zeros_like(padded[..., 0]).scatter_add(1, best.indices, torch.ones_like(best.values))
            return best.values, share / padded.shape[2]
        score = self.score(padded)[..., 0] if self.score is not None else torch.zeros_like(padded[..., 0])
        share = score.masked_fill(outside, -torch.inf).softmax(1)
        return (padded * share[..., None]).sum(1), share


class ClipNetwork(nn.Module):
    """CNN per frame -> spatial attention -> LSTM in both directions -> pooling over time -> linear.

    Padding costs nothing and is not seen: the real frames of a batch are packed into one row of frames and go through the CNN in chunks,
    and the LSTM gets sequences of their own lengths. What comes behind the CNN is computed in float32, under autocast too: it costs
    little, and an LSTM adds up over hundreds of frames.

    Batch norm in the CNN would mix what chunking puts side by side: statistics of a chunk depend on its size and on which clips share the
    batch. So by default its statistics are `kept` as loaded, in training too (its scale and shift are trained): a clip's output is the
    same alone and in a batch. A network that starts from nothing has no statistics worth keeping; then `chunk` takes those of each chunk
    in training. A chunk holds frames from all over the batch, evenly spread, not successive ones; checkpointing makes its running averages
    move twice, as it computes each chunk twice.

    Args:
        backbone: a name that `FeatureMaps` knows; AlexNet is the report's.
        n_classes: outputs.
        widths: of the spatial attention; the report names none.
        hidden: state of each direction of the LSTM; the report names none.
        pooling: over time, one of `TimePooling.WAYS`. The report names none; a linear layer over all steps laid side by side needs clips
            of one length, and `mean` is that with the same weights at every step.
        chunk: frames that go through the CNN at once.
        checkpointing: keep no activations of the CNN for the backward pass, but compute them again, chunk by chunk.
        statistics: of batch norm in the CNN, one of `STATISTICS`.

    Raises:
        UserError: what the parts raise, or the statistics are none of these.
    """

    def __init__(self, backbone: str = "torchvision:alexnet", n_classes: int = len(SCORES), widths: Sequence[int] = (16, 8),
                 hidden: int = 256, pooling: str = "mean", chunk: int = 64, checkpointing: bool = False,
                 statistics: str = "kept") -> None:  # fmt: skip
        super().__init__()
        if statistics not in STATISTICS:
            raise UserError(f"batch norm has no statistics {statistics!r}: choose from {', '.join(STATISTICS)}")
        self.backbone = FeatureMaps(backbone)
        self.attention = SpatialAttention(self.backbone.channels, widths)
        self.lstm = nn.LSTM(self.backbone.channels, hidden, batch_first=True, bidirectional=True)
        self.pool = TimePooling(2 * hidden, pooling)
        self.head = nn.Linear(2 * hidden, n_classes)
        self.chunk, self.checkpointing, self.statistics = chunk, checkpointing, statistics
        self.train()

    def train(self, mode: bool = True) -> "ClipNetwork":
        """Switch to training; batch norm whose statistics are kept stays in eval mode."""
        super().train(mode)
        if self.statistics == "kept":
            for part in self.backbone.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
        return self

    def forward(self, frames: Tensor, length: Tensor) -> Tensor:
        """Logits (B, n_classes) float32.

        Args:
            frames: clips (B, T, 1, H, W), grey in [0, 1], or uint8, which becomes that chunk by chunk; whatever stands behind a clip's
                length is not looked at.
            length: frames of each clip (B,), at least 1.
        """
        return self._read(frames, length)[0]

    @torch.no_grad()
    def explain(self, frames: Tensor, length: Tensor) -> ClipReading:
        """As `forward`, and where it looked."""
        logits, masks, share, states = self._read(frames, length)
        attention = pad_sequence(masks.float().split(length.tolist()), batch_first=True)
        return ClipReading(logits, attention, share, self.head(pad_packed_sequence(states, batch_first=True)[0]))

    def _read(self, frames: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor | None, PackedSequence]:
        real = torch.arange(frames.shape[1], device=frames.device) < length.to(frames.device)[:, None]
        attended, masks = self._see(frames.flatten(0, 1), real.flatten().nonzero()[:, 0])
        with torch.autocast(frames.device.type, enabled=False):
            sequences = pack_sequence(attended.float().split(length.tolist()), enforce_sorted=False)
            states, (final, _) = self.lstm(sequences)
            clips, share = self.pool(states, final)
            return self.head(clips), masks, share, states

    def _see(self, frames: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """What is attended (N, channels) and the masks (N, h, w) of the frames at `places` (N,), a chunk of them at a time."""
        n = -(-len(places) // self.chunk)
        again = self.checkpointing and torch.is_grad_enabled()
        parts = [places[i::n] for i in range(n)]
        seen = [checkpoint(self._look, frames, part, use_reentrant=False) if again else self._look(frames, part) for part in parts]
        order = torch.cat(parts).argsort()
        attended, masks = (torch.cat(each)[order] for each in zip(*seen, strict=True))
        return attended, masks

    def _look(self, frames: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        chunk = frames[places]
        return self.attention(self.backbone(chunk if chunk.is_floating_point() else chunk.float() / 255))
