"""Augmentation: one albumentations pipeline, one draw per sample (per clip: every frame of it gets the same)."""

from dataclasses import dataclass
from typing import Final

import albumentations as A
import numpy as np

AUGMENTATION_VERSION: Final = (1, A.__version__)
"""Part of the keys of kept features: raise the number whenever the same draw would change a picture differently."""


@dataclass(frozen=True)
class Augmentation:
    """What a recipe's `augmentation` says; all zero (the default) is none.

    Args:
        rotate_degrees: rotation by up to this many degrees either way.
        shift: translation by up to this share of the picture either way.
        scale: zoom by up to this share either way.
        flip: probability of a left-right flip.
        brightness: shift of grey levels by up to this share of 255 either way.
        contrast: stretch of grey levels by up to this share either way.
    """

    rotate_degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0


class Augmenter:
    """Applies an `Augmentation`, the same one for the same seed, whichever process asks and whatever was drawn before."""

    def __init__(self, policy: Augmentation) -> None:
        steps: list[A.BasicTransform] = []
        if policy.rotate_degrees or policy.shift or policy.scale:
            steps.append(
                A.Affine(
                    rotate=(-policy.rotate_degrees, policy.rotate_degrees),
                    translate_percent=(-policy.shift, policy.shift),
                    scale=(1 - policy.scale, 1 + policy.scale),
                    p=1.0,
                )
            )
        if policy.flip:
            steps.append(A.HorizontalFlip(p=policy.flip))
        if policy.brightness or policy.contrast:
            steps.append(A.RandomBrightnessContrast(brightness_limit=policy.brightness, contrast_limit=policy.contrast, p=1.0))
        self.pipeline = A.Compose(steps) if steps else None

    def __call__(self, frames: np.ndarray, seed: tuple[int, ...], masks: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Frames (T, H, W) uint8, and bit masks (T, H, W) uint8 moved with them, after the draw of `seed`."""
        if self.pipeline is None:
            return frames, masks
        self.pipeline.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        data = {"images": frames[..., None]} | ({} if masks is None else {"masks": masks})
        out = self.pipeline(**data)
        # Masks are bit fields: albumentations moves masks by nearest neighbour, so no bit is mixed with another.
        return np.asarray(out["images"])[..., 0], None if masks is None else np.asarray(out["masks"])
