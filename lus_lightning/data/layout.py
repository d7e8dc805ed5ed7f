"""What a screen shows that is no single upright picture: two pictures, a strip beside or below one, one upside down, a steered one."""

from typing import Final

import cv2
import numpy as np

from lus_lightning.data.lit import WINDOW, Lit, Outline, outline
from lus_lightning.data.ray import longest_ray

TWO_PICTURES: Final = "two pictures lie side by side, or a picture and an M-mode strip; crop the clip to one of them"
STRIP: Final = "a strip (M-mode) lies below the picture; crop the clip to the picture"
UPSIDE_DOWN: Final = "the picture widens upwards: it is stored upside down; turn it"
STEERED: Final = "both sides of the picture lean the same way, as a steered linear probe's do, and steered pictures are not converted"
LEANING: Final = "the sides of what lights up lean, as no rectangle's do"
_PART: Final = 0.1
"""Least share of what lights up in the smaller of two pictures: of 428 real clips none has columns without light between parts of 0.03."""
_GAP: Final = 0.5
"""Root of the brightness of a narrow gap, as a share of that beside it: made smaller, a gap of two pixels may leave no pixel unlit."""
_FILLED: Final = 0.9
_LEANS: Final = np.linspace(-0.9, 0.9, 181)
LEAN: Final = 0.1
"""Radians by which a side leans that is no rectangle's."""
_SLANTED: Final = 0.13
"""Points that lean, as a share of the longer side, from which sides do: 13 real linear clips have at most 0.11, zoomed sectors 0.15."""


def odd_layout(frames: np.ndarray, found: Lit) -> str:
    """Why frames (T, H, W) uint8, of which `found` lights up, show no single upright picture; empty if they may."""
    columns = np.sqrt(frames.max(axis=0)).mean(axis=0)
    gap = np.zeros(len(columns), bool)
    gap[2:-2] = columns[2:-2] < _GAP * np.minimum(columns[:-4], columns[4:])
    if _parts(np.where(gap, 0, found.lit.sum(axis=0))) is not None:
        return TWO_PICTURES
    # Dark pictures have rows without light too, so that a strip must fill a rectangle; what stands still in it is taken for writing.
    below = _parts(found.lit.sum(axis=1))
    if below is not None and any(_fills(light[below:]) for light in (found.lit, found.lit | found.written)):
        return STRIP
    lean = leaning(outline(found), max(found.lit.shape))
    return lean if lean in (UPSIDE_DOWN, STEERED) else ""


def _parts(light: np.ndarray) -> int | None:
    """Which column or row without light divides the light (N,) most evenly, none if it leaves too little on one side."""
    before = light.cumsum() / max(light.sum(), 1)
    smaller = np.where(light == 0, np.minimum(before, 1 - before), 0)
    best = int(smaller.argmax())
    return best if smaller[best] > _PART else None


def _fills(lit: np.ndarray) -> bool:
    """Whether the hull of what lights up fills a rectangle."""
    points = cv2.findNonZero(lit.astype(np.uint8))
    _, _, width, height = cv2.boundingRect(points)
    return bool(cv2.contourArea(cv2.convexHull(points)) > _FILLED * (width - 1) * (height - 1))


def leaning(edges: Outline, size: int) -> str:
    """Why what lights up in a picture of `size` pixels is no rectangle though it fills one, empty if its sides are upright or not seen."""
    rays = [longest_ray(edges, side, size, angles=_LEANS) for side in ("left", "right")]
    left, right = (ray.angle if ray else 0.0 for ray in rays)
    if max(abs(left), abs(right)) < LEAN:
        return LEANING if _slanted(edges) > _SLANTED * size else ""
    if max(left, right) < -LEAN:
        return UPSIDE_DOWN
    return STEERED if min(abs(left), abs(right)) > LEAN and abs(left + right) < LEAN else LEANING


def _slanted(edges: Outline) -> int:
    """How many points of the left or of the right side lean one way, also where they are too few for a line or turn into a straight cut."""
    most = 0
    for side in ("left", "right"):
        points = edges.points[side][edges.firm[side]]
        across, down = (points[WINDOW - 1 :] - points[: 1 - WINDOW]).T
        leans = (np.abs(across) > 2 * LEAN * down) & (down < 1.5 * WINDOW)
        most = max(most, *(int((leans & (across * sign > 0)).sum()) for sign in (-1, 1)))
    return most
