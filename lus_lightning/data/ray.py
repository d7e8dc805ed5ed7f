"""A sector of which one ray is seen: the ray tells the angle, and where on it the lines within the picture meet is the apex."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lus_lightning.data.focus import Gradients, energies, sharpest
from lus_lightning.data.lit import Outline
from lus_lightning.data.sector import Sector, counts_of, described, is_bowed, offsets, peak, search, sides_on

ANGLES: Final = np.linspace(0.25, 1.1, 171)
LEAST: Final = 0.09
"""Points of the outline on a ray, as a share of the picture's longer side, from which it is one."""
HIGHEST: Final = -1.6
"""The apex's highest row, as a share of the longer side."""
BENT: Final = 3.0
"""How far (pixels of 224) from one end of a ray to the other its points may depart from a known angle."""
AGREE: Final = 0.03
"""How near (share of the longer side) two places of the apex are the same."""


@dataclass(frozen=True)
class Ray:
    """One ray: its `side` (left, right), a point (column, row) on it and its `angle` to the axis in radians."""

    side: str
    point: np.ndarray
    angle: float

    @property
    def down(self) -> np.ndarray:
        """Its direction away from the apex (column, row)."""
        return np.array([-np.sin(self.angle) if self.side == "left" else np.sin(self.angle), np.cos(self.angle)])


def longest_ray(found: Outline, side: str, size: int, angle: float | None = None, angles: np.ndarray = ANGLES) -> Ray | None:
    """The line on which most firm points of a side lie while few lie beyond, at an `angle` if known; none if few do or it is bowed.

    Only lines at one of the `angles` are looked for, in radians from the vertical, positive where the line leads outwards as it goes down.
    """
    points, firm = found.points[side], found.firm[side]
    if firm.sum() < LEAST * size:
        return None
    angles = angles if angle is None else np.array([angle])
    sign, unit = (-1 if side == "left" else 1), max(1.0, size / 224)
    beyond = sign * np.outer(np.cos(angles), points[:, 0]) - np.outer(np.sin(angles), points[:, 1])
    low, bins = beyond.min(), int(np.ptp(beyond) / unit) + 4
    score, place = peak(*(counts_of((beyond[:, kept] - low) / unit, bins) for kept in (firm, firm | True)))
    best = int(score.argmax())
    slope, offset = sign * np.tan(angles[best]), (place[best] * unit + low) * sign / np.cos(angles[best])
    for reach in (2.0, 1.2, 1.2):
        near = points[firm & (np.abs(points[:, 0] - slope * points[:, 1] - offset) < reach * unit)]
        if len(near) < LEAST * size:
            return None
        slope, offset = np.polyfit(near[:, 1], near[:, 0], 1)
    if angle is not None:
        if abs(sign * slope - np.tan(angle)) * np.ptp(near[:, 1]) > BENT * unit:
            return None
        slope = sign * np.tan(angle)
    angle_seen, middle = float(np.arctan(sign * slope)), near.mean(axis=0)
    bowed = is_bowed(found, np.array([*middle, angle_seen, 0, 0]), [side], unit)
    return Ray(side, middle, angle_seen) if angles.min() - 0.05 < angle_seen < angles.max() + 0.05 and not bowed else None


def sector_on(ray: Ray, found: Outline, seen: list[Gradients], size: int) -> Sector | None:
    """The sector of one ray in a picture whose longer side is `size`, none if the lines within meet where it would leave light outside.

    Nothing lights up beyond the other ray, so that the apex lies at or above the place from which that one touches what lights up. If the
    lines meet near that place, both say the same, and the touch is the more exact.
    """
    unit, sign = max(1.0, size / 224), 1 if ray.side == "left" else -1
    points = found.points["right" if ray.side == "left" else "left"] - ray.point
    beyond = sign * points[:, 0] * np.cos(ray.angle) - points[:, 1] * np.sin(ray.angle)
    touch = ray.point - beyond.max() / np.sin(2 * ray.angle) * ray.down if len(points) else ray.point
    steps = np.arange((HIGHEST * size - touch[1]) / ray.down[1], AGREE * size, 4 * unit)
    if len(steps) < 3:
        return None
    energy = energies(seen, touch + steps[:, None] * ray.down)
    lowest, near = steps[1], steps[energy.sum(axis=1).argmax()] + np.arange(-4, 4.1, 0.5) * unit
    energy, steps = np.concatenate([energy, energies(seen, touch + near[:, None] * ray.down)]), np.concatenate([steps, near])
    (best,), sd = sharpest(energy, steps[:, None])
    if not lowest < best < 0.9 * AGREE * size:
        return None
    if len(points) and abs(best) < AGREE * size:
        best, sd = 0.0, min(sd, max(0.5, abs(best)))
    apex = touch + best * ray.down
    q = np.array([*apex, ray.angle, *search(found, apex[None], float(size), 1.0, ray.angle)[1][0, 1:]])
    sides = {side for side in sides_on(found, q, 1.5 * unit, unit) if (offsets(q, side, found.points[side])[0] > 2 * unit).mean() < 0.05}
    return described(found, q, {ray.side} | sides, sd, unit, met=True)
