"""What clips of one probe share: half an opening angle, and the few sectors that a scanner draws into pictures of one size.

A clip that shows too little of its own edges is looked at again with what the others agree on, then with the sectors of its own exam, whose
clips are seldom zoomed differently (COVID-BLUES, 48 exams: the apex ranges over 10 pixels of 350 in half of them and 21 in all but one).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from lus_lightning.data.geometry import Geometry
from lus_lightning.data.lit import SIDES, Lit, Outline
from lus_lightning.data.sector import WEIGHTS, offsets

SURE: Final = 0.9
"""Estimates above are told on; those below are looked at again."""
CLIPS: Final = 10
AGREEING: Final = 0.8
TOLERANCE: Final = float(np.radians(1.5))
_ALIKE: Final = np.array([0.01, 0.02, np.radians(1), 0.015, 0.02])
_SAME: Final = 3
"""Column, row, angle, outer and inner radius (shares of the longer side; radians) within which this many clips show the same sector."""


FULL: Final = {"sector": 0.4, "exam": 0.125}
"""Points of the outline on a sector, as a share of the picture's longer side, that make it sure: fewer where the exam's own clips show it.

What is just enough (0.05 and 0.16 of the side) a sector whose apex is off by 10 to 21 pixels of 350 finds on a single ray in 10 and 3 % of
trials: 69 COVID-BLUES clips, each ray alone, 3 such sectors, 3 thresholds.
"""


@dataclass(frozen=True)
class Shared:
    """Half the opening `angle` in radians; `sectors` (column, row, angle, outer, inner), pixels and radians, the most frequent first.

    `by` is whose sectors they are: of the probe's clips ("sector") or of the same "exam"; `sure`, 0-1, how sure the least sure of them is.
    """

    angle: float
    sectors: tuple[tuple[float, ...], ...]
    by: str = "sector"
    sure: float = 1.0

    def agrees(self, geometry: Geometry) -> bool:
        """Whether a sector opens as the others do, within 1.5 degrees."""
        return geometry.probe != "linear" and abs(geometry.aperture - self.angle) <= TOLERANCE

    def reduced(self, factor: float) -> "Shared":
        """The same in a picture that is `factor` times smaller."""

        def smaller(sector: tuple[float, ...]) -> tuple[float, ...]:
            column, row, angle, outer, inner = sector
            return (column + 0.5) / factor - 0.5, (row + 0.5) / factor - 0.5, angle, outer / factor, inner / factor

        return replace(self, sectors=tuple(map(smaller, self.sectors)))


def agreed(geometries: Iterable[Geometry]) -> Shared | None:
    """What sure estimates in pictures of one size agree on, none if fewer than ten, or fewer than 80 % within 1.5 degrees, do."""
    each = list(geometries)
    if len(each) < CLIPS:
        return None
    left = np.array(sectors_of(each))
    angle = float(np.median(left[:, 2]))
    if (np.abs(left[:, 2] - angle) <= TOLERANCE).mean() < AGREEING:
        return None
    left = left[np.abs(left[:, 2] - angle) <= TOLERANCE / 3]  # an angle that is too wide or too narrow moves the apex along the axis
    size = max(each[0].height, each[0].width)
    sectors: list[tuple[float, ...]] = []
    while len(left):
        near = (np.abs(left[:, None] - left) <= _ALIKE * (size, size, 1, size, size)).all(axis=2)
        most = near[near.sum(axis=1).argmax()]
        if most.sum() < _SAME:
            break
        sectors.append(tuple(np.median(left[most], axis=0).round(6).tolist()))
        left = left[~most]
    return Shared(round(angle, 6), tuple(sectors))


def sectors_of(geometries: Iterable[Geometry]) -> list[tuple[float, ...]]:
    """The sectors (column, row, angle, outer, inner) of geometries in pixels, in one order whatever theirs is."""
    return sorted((*g.apex_px(), g.aperture, g.radius_mm + g.depth_mm, g.radius_mm) for g in geometries)


def best_sector(edges: Outline, sectors: Iterable[tuple[float, ...]], size: int) -> tuple[float, tuple[float, ...], tuple[str, ...]]:
    """The sector on whose rays and outer arc most of the outline lies while little lies beyond: its support, itself, the sides it has.

    The support is in points of the outline, as shares of `size`, the picture's longer side.
    """
    unit, found = max(1.0, size / 224), []
    for sector in sectors:
        q, support, seen = np.array(sector), 0.0, []
        for side in SIDES:
            off = offsets(q, side, edges.points[side])[0]
            on = int((np.abs(off) < 1.3 * unit).sum())
            seen += [side] * (on >= 0.05 * size)
            if side != "inner":
                support += WEIGHTS[side] * on - 2 * int((off > 2 * unit).sum())
        found.append((support / size, sector, tuple(sorted(seen))))
    return max(found, default=(0.0, (), ()))


def astray(found: Lit, mask: np.ndarray) -> float:
    """The share of what lights up that lies outside the field of view (H, W), but for two pixels around."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return float((found.lit & ~near).mean() / found.lit.mean())
