"""Segmentation to score: outline the pleural line and the artefacts, measure the affected share of the pleura, derive the score.

M. Muñoz et al., "A Deep Learning Segmentation Approach for Lung Ultrasound Scoring Classification".

1. An Attention U-Net segments B-scan data of 128 scan lines x 256 depth samples, before scan conversion ("Segmentation Model").
2. The scan lines with B-lines, divided by those where the pleura is visible, are mapped to a score 0-3 ("From Segmentation to Score").
3. A clip's score is the highest that at least 1 % of its frames have; the comparator is a ResNet18 that classifies frames.

Differs from the paper:
- its beam space is the scanner's own; here the picture is taken back to it, by the geometry that the data name or that the clip shows;
- mask classes, encoder, loss, optimiser and every threshold between the scores are ours (`scoring.pleura.Rule`): the paper names none;
- a clip shorter than 100 frames has no 1 %: at least one frame is required;
- no tested patient was trained on; the paper's Dataset-2 shares 27 of 30 patients with the segmenter's training.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
import torch

from lus_lightning.data.beamspace import beam_picture, full_beam, to_beam
from lus_lightning.data.geometry import SAMPLES, Geometry
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES, SCORES
from lus_lightning.methods.base import Batch, LungModule, Step, check_schedule, score_loss
from lus_lightning.nets.attention_unet import AttentionUNet
from lus_lightning.nets.backbones import ImageClassifier
from lus_lightning.nets.bits import pack_bits, unpack_bits
from lus_lightning.nets.losses import thin_structure_loss
from lus_lightning.nets.sord import Table
from lus_lightning.scoring.pleura import AffectedPleura, Rule, counted_lines, measure, scale_of, score

SEGMENTER: Final = "segmenter"
CLASSIFIER: Final = "classifier"


@dataclass(frozen=True)
class Reading:
    """Of a frame: `mask` (128, 256) uint8 in beam space, affected `share` (NaN: no pleura), `score` (-1: not assessable)."""

    mask: np.ndarray
    share: float
    score: int


class SegmentationToScore(LungModule):
    """An Attention U-Net and the rule that turns its masks into scores.

    Args:
        lr, weight_decay: of AdamW.
        weights: of the encoder: `imagenet`, `none`, or a weights file.
        encoder: a name that `AttentionUNet` knows.
        decoder_channels: width of each decoder block, coarse to fine.
        threshold: probability from which on a pixel is of a class.
        rule: numbers of `scoring.pleura.Rule` that differ from its defaults.
        schedule: of the learning rate (`base.SCHEDULES`).

    Raises:
        UserError: the encoder or the schedule is unknown, or the rule has no such number.
    """

    def __init__(
        self,
        lr: float,
        weight_decay: float,
        weights: str,
        encoder: str = "resnet34",
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        threshold: float = 0.5,
        rule: dict[str, float | str] | None = None,
        schedule: str = "constant",
    ) -> None:
        check_schedule(schedule)
        super().__init__(headline=SEGMENTER)
        decoder_channels = list(decoder_channels)
        self.save_hyperparameters()
        known = {f.name for f in fields(Rule)}
        if unknown := set(rule or {}) - known:
            raise UserError(f"the rule has no number {sorted(unknown)[0]!r}: it has {', '.join(sorted(known))}")
        # Not everybody draws rib shadows: where none is said, a gap as wide as a rib's (9 mm or wider) is one, and not a break.
        self.rule = Rule(**{"gap_mm": 8.0} | (rule or {}))  # type: ignore[arg-type]
        self.mask_classes, self.clip_rule = MASK_CLASSES, "one_percent"
        self.net = AttentionUNet(encoder, len(MASK_CLASSES), decoder_channels)

    def load_initial_weights(self) -> None:
        """Load `weights` into the encoder."""
        self.net.load_weights(self.hparams["weights"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on the whole network."""
        return torch.optim.AdamW(self.parameters(), self.hparams["lr"], weight_decay=self.hparams["weight_decay"])

    def step(self, batch: Batch) -> Step:
        """The loss where there are masks; but in training also masks, what they measure, and the score of each frame."""
        logits, out = self.net(batch["image"]), Step(batch["target"])
        truth = batch.get("mask")
        known = None if truth is None else thin_structure_loss(logits, unpack_bits(truth[:, 0], MASK_CLASSES))
        out.losses[SEGMENTER] = logits.sum() * 0 if known is None else known
        if self.split_of(batch) != "train":
            rows = batch["row"].tolist()
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            found = pack_bits(logits.sigmoid() >= self.hparams["threshold"], MASK_CLASSES)
            out.masks = data.in_beam(found.cpu().numpy(), rows)
            shown = self.measure(out.masks, [data.geometries[row] for row in rows])
            out.measures = asdict(shown)
            out.pred[SEGMENTER] = torch.from_numpy(score(shown, self.rule)).to(logits.device)
            # A rule gives no probability: NaN says so, and no curve is drawn from it.
            out.probs[SEGMENTER] = torch.full((len(rows), len(SCORES)), torch.nan, device=logits.device)
        return out

    def measure(self, masks: np.ndarray, geometries: Sequence[Geometry]) -> AffectedPleura:
        """What masks (B, scan lines, depth samples) uint8 show; lengths in mm where the frame's geometry is scaled."""
        each = []
        for mask, geometry in zip(masks[:, None], geometries, strict=True):
            each.append(measure(mask, scale_of(mask, geometry), self.rule))
        return AffectedPleura(*(np.concatenate([getattr(one, f.name) for one in each]) for f in fields(AffectedPleura)))

    def counted_lines(self, masks: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
        """Which scan lines of masks (K, scan lines, depth samples) `measure` counts: visible and affected, (K, scan lines) bool."""
        scales = [scale_of(mask[None], geometry) for mask in masks]
        visible, affected = zip(*(counted_lines(m[None], s, self.rule) for m, s in zip(masks, scales, strict=True)), strict=True)
        return np.concatenate(visible), np.concatenate(affected)

    @torch.no_grad()
    def read(self, frame: np.ndarray, geometry: Geometry, size: int = SAMPLES) -> Reading:
        """Read one frame of a stream: no other frame is looked at.

        Args:
            frame: a picture (H, W) uint8.
            geometry: of its field of view; `data.beamspace.estimate_geometry` finds it in the first second of a stream.
            size: of the data module that it was trained with.
        """
        picture = torch.from_numpy(beam_picture(to_beam(frame[None], geometry), size))[None].to(self.device)
        found = pack_bits(self.net(picture.float() / 255).sigmoid() >= self.hparams["threshold"], MASK_CLASSES)
        mask = full_beam(found.cpu().numpy())
        shown = self.measure(mask, [geometry])
        return Reading(mask[0], float(shown.share[0]), int(score(shown, self.rule)[0]))


class SeverityClassifier(LungModule):
    """The comparator: one network that classifies frames into the scores (ResNet18, "Classification Model").

    Args:
        lr, weight_decay: of AdamW.
        weights: `imagenet`, `none`, or a weights file.
        network: a name that `ImageClassifier` knows.
        schedule: of the learning rate (`base.SCHEDULES`).
        distances: of the scores, for an ordinal loss (`base.score_loss`); none is cross-entropy.

    Raises:
        UserError: the network or the schedule is unknown.
    """

    def __init__(self, lr: float, weight_decay: float, weights: str, network: str = "resnet18", schedule: str = "constant",
                 distances: Table | None = None) -> None:  # fmt: skip
        check_schedule(schedule)
        super().__init__(headline=CLASSIFIER)
        self.save_hyperparameters()
        self._loss = score_loss(distances=distances)
        self.network = ImageClassifier(network, len(SCORES))

    def load_initial_weights(self) -> None:
        """Load `weights`; the head starts afresh."""
        self.network.load_weights(self.hparams["weights"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on the whole network."""
        return torch.optim.AdamW(self.parameters(), self.hparams["lr"], weight_decay=self.hparams["weight_decay"])

    def step(self, batch: dict[str, Any]) -> Step:
        """The loss, and the probability of each score."""
        logits, target = self.network(batch["image"]).float(), batch["target"]
        return Step(target, {CLASSIFIER: self._loss(logits, target)}, {CLASSIFIER: logits.detach().softmax(1)})
