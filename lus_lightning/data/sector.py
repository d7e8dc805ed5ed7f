"""The sector that outlines what lights up: two rays at one angle to the probe's axis and two arcs, all from one apex.

A sector's edge is a bound: nothing lights up beyond it, while much within may stay dark. So an apex is good if much of the outline lies
on its rays and arcs, and nothing beyond. A grid of apexes is searched with histograms of angles and radii, then refined by least squares.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import least_squares

from lus_lightning.data.lit import SIDES, Outline

WEIGHTS: Final = {"left": 1.0, "right": 1.0, "outer": 0.6, "inner": 0.4}
"""Ends of what is bright are more often arcs (a pleural line and its echoes) than rays from the apex."""
_LEAST: Final = {"left": 12, "right": 12, "outer": 15, "inner": 12}
_STARTS: Final = 32
_REFINED: Final = 6
_WIDEST: Final = 1.2
_STEPS: Final = np.array([1, 1, 0.01, 1, 1])


@dataclass(frozen=True)
class Sector:
    """A fitted sector, in pixels and radians: `apex` (column, row), half the opening `angle`, radii `outer` and `inner`.

    `seen` names the sides on which it rests; the other values mean nothing. `apex_sd` is the apex's standard error in pixels, `explained`
    the share of the outline that lies on those sides, `score` its points on the sector less those beyond. `bowed` if its rays are no lines.
    `met` if the apex is where the lines within the picture meet, rather than told by the edges alone.
    """

    apex: tuple[float, float]
    angle: float
    outer: float
    inner: float
    seen: frozenset[str]
    apex_sd: float
    explained: float
    score: float
    bowed: bool
    met: bool = False


def fit_sector(found: Outline, shape: tuple[int, int], angle: float | None = None) -> Sector | None:
    """The best sector for the outline in a picture of (H, W), none if no two sides agree; of half an opening `angle` if that is known."""
    height, width = shape
    scale = float(max(shape))
    if sum(map(len, found.points.values())) < 40:
        return None
    columns = width / 2 + np.linspace(-0.35, 0.35, 29) * width
    rows = np.concatenate([np.linspace(-1.6, -0.8, 16)[:-1], np.linspace(-0.8, 0.35, 47)]) * height
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    cell = np.stack(np.meshgrid(np.linspace(-1, 1, 5) * 0.015 * width, np.linspace(-1, 1, 7) * 0.02 * height), axis=-1).reshape(-1, 2)
    total, _ = search(found, grid, scale, 3.0, angle)
    starts = []
    for _ in range(_STARTS):
        k = int(total.argmax())
        score, values = search(found, grid[k] + cell, scale, 1.0, angle)
        j = int(score.argmax())
        starts.append((float(score[j]), np.concatenate([grid[k] + cell[j], values[j]])))
        total[np.abs((grid - grid[k]) / (0.04 * width, 0.05 * height)).max(axis=1) < 1] = -np.inf
    starts.sort(key=lambda start: -start[0])
    apart: list[np.ndarray] = []
    for _, start in starts:
        if all(np.abs((start - other)[:2] / (0.05 * width, 0.15 * height)).sum() > 1 for other in apart):
            apart.append(start)
    fits = [_refine(found, start, scale, angle) for start in apart[:_REFINED]]
    return max((fit for fit in fits if fit), key=lambda fit: fit.score, default=None)


def search(found: Outline, apexes: np.ndarray, scale: float, coarse: float, known: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """How well each apex (K, 2) outlines what is lit, (K,), and the best (or the known) angle, outer and inner radius, (K, 3)."""
    radius_step = coarse * scale / 110
    middle = np.concatenate(list(found.points.values())).mean(axis=0)
    angle_step = coarse * scale / 150 / np.maximum(np.hypot(*(middle - apexes).T), 0.3 * scale)[:, None]
    radius_bins, angle_bins = int(3.5 * scale / radius_step), int(_WIDEST / angle_step.min()) + 4
    counts = {}
    for side in SIDES:
        points, firm = _thinned(found.points[side], found.firm[side])
        x, y = points[:, 0] - apexes[:, :1], points[:, 1] - apexes[:, 1:]
        if side in ("left", "right"):
            bends, bins = np.arctan2(x if side == "right" else -x, y), angle_bins
            index = np.where(bends < _WIDEST, bends / angle_step, bins)
        else:
            radius, bins = np.hypot(x, y) / radius_step, radius_bins
            index = np.where(y > 0, radius if side == "outer" else bins - radius, bins)
        counts[side] = counts_of(index[:, firm], bins), counts_of(index, bins)
    at = None if known is None else (known / angle_step[:, 0]).astype(int)
    both, every = (a + b for a, b in zip(counts["left"], counts["right"], strict=True))
    rays, bent = peak(both, every, at)
    below, outer = peak(*counts["outer"])
    above, inner = peak(*counts["inner"])
    score = rays + WEIGHTS["outer"] * below + WEIGHTS["inner"] * np.maximum(above, 0)
    angle = bent * angle_step[:, 0] if known is None else np.full(len(bent), known)
    return score, np.stack([angle, outer * radius_step, (radius_bins - inner) * radius_step], axis=1)


def _thinned(points: np.ndarray, firm: np.ndarray, most: int = 110) -> tuple[np.ndarray, np.ndarray]:
    kept = np.unique(np.linspace(0, max(len(points) - 1, 0), min(len(points), most)).round().astype(int))
    return points[kept], firm[kept]


def counts_of(index: np.ndarray, bins: int) -> np.ndarray:
    """Histograms (K, bins) of the rows of (K, N), the last bin for all beyond."""
    place = np.clip(index.astype(np.int32), 0, bins - 1) + np.arange(len(index), dtype=np.int32)[:, None] * bins
    return np.bincount(place.ravel(), minlength=len(index) * bins).reshape(-1, bins).astype(np.float32)


def peak(firm: np.ndarray, every: np.ndarray, at: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """For each row of (K, bins) the bin (or that of `at`) around which most lie while few lie in higher ones: score and bin, each (K,)."""
    padded = np.pad(firm, ((0, 0), (1, 1)))
    near = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    beyond = np.pad(every[:, ::-1].cumsum(axis=1)[:, ::-1][:, 2:], ((0, 0), (0, 2)))
    score = near - 2 * beyond
    score[:, -3:] = -np.inf
    best = score.argmax(axis=1) if at is None else at
    return score[np.arange(len(firm)), best], best + 0.5


def offsets(q: np.ndarray, side: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (N,) of points beyond a side of the sector (column, row, angle, outer, inner), their gradient (N, 5), and the cosine of the
    side's normal to the raster's axis along which the points were found (N,)."""
    x, y = points[:, 0] - q[0], points[:, 1] - q[1]
    slope = np.zeros((len(points), 5))
    if side in ("left", "right"):
        sign, cos, sin = (-1 if side == "left" else 1), np.cos(q[2]), np.sin(q[2])
        slope[:, 0], slope[:, 1], slope[:, 2] = -sign * cos, sin, -sign * x * sin - y * cos
        return sign * x * cos - y * sin, slope, np.full(len(x), cos)
    sign, radius = (1 if side == "outer" else -1), np.hypot(x, y)
    slope[:, 0], slope[:, 1], slope[:, 3 if side == "outer" else 4] = -sign * x / radius, -sign * y / radius, -sign
    return sign * (radius - q[3 if side == "outer" else 4]), slope, np.maximum(y / radius, 0.2)


def _refine(found: Outline, q: np.ndarray, scale: float, angle: float | None = None) -> Sector | None:
    """Least squares on the firm points near the sector, nearer and nearer."""
    unit = max(1.0, scale / 224)
    chosen: dict[str, np.ndarray] = {}
    for reach in (4.5 * unit, 2.7 * unit, 1.5 * unit, 1.2 * unit):
        chosen = sides_on(found, q, reach, unit)
        if not chosen:
            return None
        q, slopes = _least_squares(q, chosen, 1, angle, loss="soft_l1", f_scale=0.5 * unit, max_nfev=30)
        if angle is None and not {"left", "right"} & chosen.keys():  # arcs alone leave the angle to where the light ends
            q[2] = search(found, q[None, :2], scale, 1.0)[1][0, 0]
        if np.abs(q[:2]).max() > 4 * scale or not 0 < q[2] < 1.4:
            return None
    q, spread = _sharpened(q, chosen, angle), max(0.3, float(np.sqrt(np.mean(_residuals(q, chosen, 1) ** 2))))
    errors = np.diag(np.linalg.pinv(slopes.T @ slopes))
    sd = spread * float(np.sqrt(max(errors[0] + errors[1], 0))) if len(chosen) > 1 or "outer" in chosen else np.inf
    return described(found, q, chosen, sd, unit)


def sides_on(found: Outline, q: np.ndarray, reach: float, unit: float) -> dict[str, np.ndarray]:
    """The sides of the sector (column, row, angle, outer, inner) with enough firm points within `reach` pixels, and those points (N, 2)."""
    near = {s: found.points[s][found.firm[s] & (np.abs(offsets(q, s, found.points[s])[0]) < reach)] for s in SIDES}
    chosen = {s: points for s, points in near.items() if len(points) >= _LEAST[s]}
    if "outer" in chosen and reach < 3 * unit and not _is_edge(found, q, unit):
        del chosen["outer"]
    return chosen


def outer_arc(found: Outline, apex: np.ndarray, angle: float, size: int) -> tuple[int, float]:
    """How many points of the outline lie on a sector's outer arc, 0 where that is no edge, and its radius in pixels."""
    if not len(found.points["outer"]):
        return 0, 0.0
    unit = max(1.0, size / 224)
    q = np.array([*apex, *search(found, apex[None], float(size), 1.0, angle)[1][0]])
    radii = np.hypot(*(found.points["outer"] - apex).T)
    if (near := found.firm["outer"] & (np.abs(radii - q[3]) < 3 * unit)).any():
        q[3] = np.median(radii[near])
    points = sides_on(found, q, 1.5 * unit, unit).get("outer")
    if points is None or (offsets(q, "outer", found.points["outer"])[0] > 2 * unit).sum() > 0.1 * len(points):
        return 0, 0.0
    return len(points), float(np.median(np.hypot(*(points - apex).T)))


def described(found: Outline, q: np.ndarray, seen: Collection[str], sd: float, unit: float, met: bool = False) -> Sector:
    """The sector (column, row, angle, outer, inner) that rests on the sides `seen`, with what speaks for it."""
    score = 0.0
    for side in SIDES:
        off = offsets(q, side, found.points[side])[0]
        score += WEIGHTS[side] * (side in seen) * (found.firm[side] & (np.abs(off) < 1.2 * unit)).sum().item()
        score -= WEIGHTS[side] * 2 * int((off > 2 * unit).sum()) * (side in seen or side in ("left", "right"))
    every = np.concatenate(list(found.points.values()))
    explained = float(np.mean(np.min([np.abs(offsets(q, side, every)[0]) for side in seen], axis=0) < 1.5 * unit))
    column, row, angle, outer, inner = map(float, q)
    return Sector((column, row), angle, outer, inner, frozenset(seen), sd, explained, score, is_bowed(found, q, seen, unit), met)


def _least_squares(
    q: np.ndarray, chosen: dict[str, np.ndarray], power: int, angle: float | None, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The fitted sector and the slopes (N, 5 or 4) there; without the angle where that is known."""
    free = np.array([True, True, angle is None, True, True])

    def whole(part: np.ndarray) -> np.ndarray:
        every = np.where(free, 0, angle or 0.0)
        every[free] = part
        return every

    fit = least_squares(
        lambda part: _residuals(whole(part), chosen, power),
        q[free],
        lambda part: _jacobian(whole(part), chosen, power)[:, free],
        x_scale=_STEPS[free],
        **options,
    )
    return whole(fit.x), fit.jac


def is_bowed(found: Outline, q: np.ndarray, seen: Collection[str], unit: float) -> bool:
    """Whether every ray that is seen is a piece of a smooth curve, as of a disc or an ellipse of light."""
    curves = []
    for side in {"left", "right"} & set(seen):
        points = found.points[side][found.firm[side]]
        off = offsets(q, side, points)[0]
        near = np.abs(off) < 6 * unit
        along, off = points[near, 1] - q[1], off[near]
        place = 2 * (along - along.min()) / max(np.ptp(along), 1) - 1
        line, curve = (np.polyval(c := np.polyfit(place, off, degree), place) for degree in (1, 2))
        curves.append(c[0] < -1.2 * unit and np.std(off - curve) < 0.4 * np.std(off - line))
    return bool(curves) and all(curves)


def _is_edge(found: Outline, q: np.ndarray, unit: float) -> bool:
    """Whether the outer arc is an edge rather than the ragged end of what is bright: much of the outline on it, and close to it."""
    points = found.points["outer"]
    within = np.abs(np.arctan2(points[:, 0] - q[0], points[:, 1] - q[1])) <= q[2]
    off = np.abs(offsets(q, "outer", points[within])[0])
    near, close = (off < 1.2 * unit).sum(), (off < 0.6 * unit).sum()
    return bool(close**2 > 0.19 * near * max(len(off), 1))


def _residuals(q: np.ndarray, chosen: dict[str, np.ndarray], power: int) -> np.ndarray:
    parts = [offsets(q, side, points) for side, points in chosen.items()]
    return np.concatenate([off if power == 1 else (2 * off / cos) ** power for off, _, cos in parts])


def _jacobian(q: np.ndarray, chosen: dict[str, np.ndarray], power: int) -> np.ndarray:
    parts = [offsets(q, side, points) for side, points in chosen.items()]
    if power == 1:
        return np.concatenate([slope for _, slope, _ in parts])
    return np.concatenate([(power * (2 * off / cos) ** (power - 1) * 2 / cos)[:, None] * slope for off, slope, cos in parts])


def _sharpened(q: np.ndarray, chosen: dict[str, np.ndarray], angle: float | None) -> np.ndarray:
    """Where the outline is as sharp as the raster its error is even within half a pixel along it, so that the sixth power fits it best."""
    share = np.mean(np.abs(_residuals(q, chosen, 3)) < 1.2**3)
    if share < 0.8:
        return q
    sharp = {s: p[np.abs(_residuals(q, {s: p}, 3)) < 1.6**3] for s, p in chosen.items()}
    return _least_squares(q, sharp, 3, angle, max_nfev=60)[0]
