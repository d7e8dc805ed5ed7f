"""The field of view of a clip, estimated from what lights up: a sector or a rectangle, how sure that is, or why it is refused."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Final

import cv2
import numpy as np

from lus_lightning.data.focus import are_parallel, gradients
from lus_lightning.data.geometry import Geometry, scan_maps
from lus_lightning.data.layout import leaning, odd_layout
from lus_lightning.data.lit import MAX_FRAMES, Lit, Outline, lit_region, outline
from lus_lightning.data.ray import AGREE, longest_ray, sector_on
from lus_lightning.data.sector import Sector, fit_sector, outer_arc
from lus_lightning.data.shared import FULL, SURE, Shared, astray, best_sector

THRESHOLDS: Final = (8, 3, 0)
"""Grey levels above the background, tried in turn until one is sure: real clips end in the codec's ripples, simulated pictures sharply."""
SURE_ENOUGH: Final = 0.4
PHASED_BELOW: Final = 0.12
"""A probe whose face is so small beside the depth is called phased, where nobody says what it is."""
_LARGEST: Final = 400
_LEAST_LIT: Final = 0.02
_NO_EDGE: Final = "no edge of the field of view is seen: the picture is lit from border to border, or nothing in it is straight"


@dataclass(frozen=True)
class Estimate:
    """A field of view estimated from a clip, or read from its data.

    `geometry` is none where it is refused, for `reason`. `confidence` 0-1. `seen` names the sides of the field of view that are seen
    (left, right, outer, inner); the other ones are put where the last light is; "lines" if the apex, or that there is none, is told by
    those within the picture, as the edges leave it open. `overlap` is the intersection over union of the convex hulls of the field of view
    in the picture and of what lights up, at the one of the `THRESHOLDS` where they agree best: what lies in shadow, or where the probe does
    not touch, never lights up. `shared` says what other clips of the probe told: nothing, its "angle", the whole "sector", or that of the
    same "exam".
    """

    geometry: Geometry | None
    confidence: float
    reason: str = ""
    seen: tuple[str, ...] = ()
    overlap: float = 0.0
    shared: str = ""


def estimate_geometry(
    frames: np.ndarray | Iterable[np.ndarray], probe: str | None = None, shared: Shared | None = None, count: int | None = None
) -> Estimate:
    """Where the scan lines of a clip lie, from what lights up in (T, H, W) uint8, in pixels; `probe` (convex, phased, linear) if known.

    Frames that are read one by one need their `count`.

    A sector is taken to be symmetric to a vertical axis. With what the probe's other clips have `shared` one of their sectors is taken if
    the edges that are seen lie on it, otherwise one of their angle. Where the edges leave the apex open, it is where the lines within the
    picture meet, if one ray is seen. A picture that is lit from border to border shows no edge: it is a linear field of view if the probe
    is said to be, or if nobody says what it is and those lines run side by side; otherwise it is refused.
    """
    few, factor, size = _reduced(frames, len(frames) if isinstance(frames, np.ndarray) else count or 0)
    lit = cache(partial(lit_region, few))
    if reason := next(filter(None, (_odd(few, lit(threshold)) for threshold in THRESHOLDS[:2])), ""):
        return Estimate(None, 0.0, reason)
    angle = shared.angle if shared else None
    best = _most_sure(lit, partial(_recalled, probe=probe, shared=shared.reduced(factor))) if shared else None
    if shared and shared.by == "exam" and best and best.geometry is None:
        return best  # all else has been tried before
    if best is None or best.geometry is None:
        best = _most_sure(lit, partial(_estimate, probe=probe, angle=angle))
    if best.confidence <= SURE and best.shared not in FULL and probe != "linear" and not _is_linear(best):
        met = _most_sure(lit, partial(_met, frames=few, probe=probe, angle=angle), SURE_ENOUGH, faint_first=True)
        best = max(best, met, key=_sureness) if _apart(best, met) else best
    if best.geometry is None and probe is None:
        best = _most_sure(lit, partial(_parallel, frames=few, refused=best), SURE_ENOUGH, faint_first=True)
    if (geometry := best.geometry) is None:
        return best
    outlines = [(found, outline(found)) for found in map(lit, THRESHOLDS)]
    if not _is_linear(best) and "outer" not in best.seen and (deeper := _deepened(geometry, [edges for _, edges in outlines])):
        best, geometry = replace(best, seen=(*best.seen, "outer")), deeper
    overlap = max(_overlap(_in_window(geometry, edges), found.lit) for found, edges in outlines)
    return replace(best, geometry=_enlarged(geometry, factor, size), overlap=overlap)


def _odd(frames: np.ndarray, found: Lit) -> str:
    """Why what lights up is no single upright picture, empty if it may be one."""
    return odd_layout(frames, found) if found.lit.mean() > _LEAST_LIT else ""


def _deepened(geometry: Geometry, outlines: list[Outline]) -> Geometry | None:
    """With the outer arc, where that is an edge at another threshold: faint noise may end there, deeper than what is bright."""
    size, depth = max(geometry.height, geometry.width), geometry.radius_mm + geometry.depth_mm
    points, outer = max(outer_arc(edges, np.array(geometry.apex_px()), geometry.aperture, size) for edges in outlines)
    return replace(geometry, depth_mm=outer - geometry.radius_mm) if points and outer >= depth else None


def _most_sure(lit: Callable[[int], Lit], estimate: Callable[[Lit], Estimate], enough: float = SURE, faint_first: bool = False) -> Estimate:
    """The best estimate over the thresholds, above each of which `lit` gives what lights up; the first that is sure `enough`."""
    best = Estimate(None, 0.0, "nothing lights up")
    for threshold in THRESHOLDS[::-1] if faint_first else THRESHOLDS:
        found = lit(threshold)
        if found.lit.mean() > _LEAST_LIT:
            best = max(estimate(found), best, key=lambda e: e.confidence)
        if best.confidence > enough:
            break
    return best


def _recalled(found: Lit, probe: str | None, shared: Shared) -> Estimate:
    """The best of the sectors that other clips show, refused if too little of the outline lies on it."""
    edges = outline(found)
    support, sector, seen = best_sector(edges, shared.sectors, max(found.lit.shape))
    if support <= 0 or not {"left", "right"} & set(seen):
        return Estimate(None, 0.0, _NO_EDGE)
    column, row, angle, outer, inner = sector
    if shared.by == "exam":  # whose clips may have told no more of the outer arc than where their last light is
        y, x = np.nonzero(found.lit)
        outer, seen = max(outer, float(np.percentile(np.hypot(x - column, y - row), 99.9))), tuple(side for side in seen if side != "outer")
    geometry = _geometry(_kind(probe, inner, outer), (column, row), angle, inner, outer, found.lit.shape)
    mask = _in_window(geometry, edges)
    sure = min(shared.sure, support / FULL[shared.by]) * float(np.clip(1 - astray(found, mask) / 0.06, 0, 1))
    overlap = _overlap(mask, found.lit)
    if sure < SURE_ENOUGH:
        return Estimate(None, sure, _NO_EDGE, seen, overlap)
    return Estimate(geometry, sure, "", seen, overlap, shared.by)


def _reduced(frames: Iterable[np.ndarray], count: int) -> tuple[np.ndarray, float, tuple[int, ...]]:
    """At most 32 frames of at most 400 pixels a side, how many times smaller they are, and the size they had."""
    wanted, few, factor, size = set(np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(int)), [], 1.0, ()
    for number, frame in enumerate(frames):
        if number in wanted:
            size, factor = frame.shape, max(1.0, max(frame.shape) / _LARGEST)
            small = cv2.resize(frame, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA) if factor > 1 else frame
            few.append(small)
    return np.stack(few), factor, size


def _estimate(found: Lit, probe: str | None, angle: float | None) -> Estimate:
    edges = outline(found)
    tried = [] if probe not in (None, "linear") else [_rectangle(found, edges, probe)]
    if probe != "linear":
        sector = fit_sector(edges, found.lit.shape, angle)
        tried.insert(0, _judged(found, edges, sector, probe, angle) if sector else Estimate(None, 1e-6, _NO_EDGE))
    return max(tried, key=lambda e: e.confidence)


def _met(found: Lit, frames: np.ndarray, probe: str | None, angle: float | None) -> Estimate:
    """A sector of one ray, whose apex is where the lines within the picture meet."""
    edges, size = outline(found), max(found.lit.shape)
    rays = [ray for side in ("left", "right") if (ray := longest_ray(edges, side, size, angle))]
    seen = gradients(frames, found, edges) if rays else []
    sectors = [sector_on(ray, edges, seen, size) for ray in rays if seen]
    judged = [_judged(found, edges, sector, probe, angle) for sector in sectors if sector]
    return max(judged, key=_sureness, default=Estimate(None, 0.0, _NO_EDGE))


def _parallel(found: Lit, frames: np.ndarray, refused: Estimate) -> Estimate:
    """A rectangle if the lines within the picture run side by side, whatever is seen of its edges; otherwise as `refused`."""
    edges = outline(found)
    if not are_parallel(gradients(frames, found, edges), found.lit.shape):
        return refused
    linear = _rectangle(found, edges, "linear")
    return replace(linear, seen=(*linear.seen, "lines"))


def _is_linear(estimate: Estimate) -> bool:
    return estimate.geometry is not None and estimate.geometry.probe == "linear"


def _apart(one: Estimate, other: Estimate) -> bool:
    """Whether two estimates put the apex at different places; where they agree that from more edges is the more precise."""
    if one.geometry is None or other.geometry is None:
        return True
    away = np.subtract(one.geometry.apex_px(), other.geometry.apex_px())
    return bool(np.hypot(*away) > AGREE * max(one.geometry.height, one.geometry.width))


def _sureness(estimate: Estimate) -> tuple[bool, float]:
    return estimate.geometry is not None, estimate.confidence


def _enlarged(small: Geometry, factor: float, shape: tuple[int, ...]) -> Geometry:
    column, row = ((value + 0.5) * factor - 0.5 for value in small.apex_px())
    aperture = small.aperture * (factor if small.probe == "linear" else 1)
    radii = small.radius_mm * factor, (small.radius_mm + small.depth_mm) * factor
    return _geometry(small.probe, (column, row), aperture, *radii, (shape[0], shape[1]))


def _geometry(probe: str, apex: tuple[float, float], aperture: float, inner: float, outer: float, shape: tuple[int, int]) -> Geometry:
    left = float((shape[1] - 1) / 2 - apex[0])
    height, width = shape
    return Geometry(probe, float(aperture), float(inner), float(outer - inner), height, width, 1.0, -float(apex[1]), left, scaled=False)


def _rectangle(found: Lit, edges: Outline, probe: str | None) -> Estimate:
    """The field of view as a rectangle; without the word that the probe is linear, a side must be seen upright."""
    lit = found.lit
    height, width = lit.shape
    left, top = (_bound(edges.ends[side], False) for side in ("left", "inner"))
    right, bottom = (_bound(edges.ends[side], True) for side in ("right", "outer"))
    mask = np.zeros(lit.shape, bool)
    mask[top : bottom + 1, left : right + 1] = True
    free = {"left": left > 1, "right": right < width - 2, "outer": bottom < height - 2, "inner": top > 1}
    upright = [(np.abs(edges.ends[side] - at) <= 1).mean() for side, at in (("left", left), ("right", right)) if free[side]]
    overlap = _overlap(mask, lit)
    sure = float(np.clip((overlap - 0.6) / 0.35, 0, 1)) * (1.0 if probe else float(np.clip(2 * max(upright, default=0) - 0.2, 0, 1)))
    seen = tuple(side for side, is_free in free.items() if is_free)
    if reason := leaning(edges, max(lit.shape)):
        return Estimate(None, 1e-3 * sure, reason, seen, overlap)
    if sure < SURE_ENOUGH:
        return Estimate(None, sure, f"only {overlap:.0%} of a rectangle lights up" if probe else _NO_EDGE, seen, overlap)
    geometry = _geometry("linear", ((left + right) / 2, top - 0.5), (right - left + 1) / 2, 0, bottom - top + 1, lit.shape)
    return Estimate(geometry, sure, "", seen, overlap)


def _bound(ends: np.ndarray, last: bool) -> int:
    """Where what lights up in the rows (or columns) ends most often while in few it goes on: an edge is a bound, as in `sector.peak`."""
    counts = np.pad(np.bincount(ends), 2)[:: 1 if last else -1]
    near, beyond = np.convolve(counts, np.ones(3), "same"), counts.sum() - counts.cumsum()
    best = 1 + int((near - 2 * np.roll(beyond, -1))[1:-1].argmax())
    place = best - 1 + int(counts[best - 1 : best + 2].argmax())
    return (place if last else len(counts) - 1 - place) - 2


def _judged(found: Lit, edges: Outline, sector: Sector, probe: str | None, angle: float | None) -> Estimate:
    """How sure a fitted sector is; sides that it does not rest on go where the last light is."""
    geometry = _completed(found, sector, probe)
    mask = _in_window(geometry, edges)
    overlap, off = _overlap(mask, found.lit), astray(found, mask)
    marks = {
        "no side is seen that opens as the probe's other clips do": 1.0 if angle is None or {"left", "right"} & sector.seen else 0.0,
        "the sides of what lights up are bowed, as no sector's are": 0.0 if sector.bowed else 1.0,
        f"only {sector.explained:.0%} of the outline of what lights up lies on the edges of the best sector":
            1.0 if sector.met else float(np.clip((sector.explained - 0.1) / 0.1, 0, 1)),
        "too little of the edges is seen to tell the apex" + (f" (within {sector.apex_sd:.0f} pixels)" if sector.apex_sd < 1e3 else ""):
            1 / (1 + (sector.apex_sd / (0.03 * max(mask.shape))) ** 2),
        f"the best sector and what lights up overlap by {overlap:.0%} only": float(np.clip((overlap - 0.45) / 0.4, 0, 1)),
        f"{off:.0%} of what lights up lies outside the best sector": float(np.clip(1 - off / 0.06, 0, 1)),
    }  # fmt: skip
    sure, seen = float(np.prod(list(marks.values()))), (*sorted(sector.seen), *["lines"] * sector.met)
    if sure < SURE_ENOUGH:
        return Estimate(None, sure, min(marks, key=marks.__getitem__), seen, overlap)
    sure = min(sure, SURE) if sector.met else sure  # other clips of the probe may know better
    return Estimate(geometry, sure, "", seen, overlap, "" if angle is None else "angle")


def _completed(found: Lit, sector: Sector, probe: str | None) -> Geometry:
    rows, columns = np.nonzero(found.lit)
    x, y = columns - sector.apex[0], rows - sector.apex[1]
    radius, angle = np.hypot(x, y), np.abs(np.arctan2(x, y))
    aperture = sector.angle if {"left", "right"} & sector.seen else min(float(np.percentile(angle, 99.9)), 1.4)
    inside = radius[angle <= aperture + 0.01] if (angle <= aperture + 0.01).any() else radius
    outer = sector.outer if "outer" in sector.seen else float(np.percentile(inside, 99.9))
    inner = sector.inner if "inner" in sector.seen else float(np.percentile(inside, 0.1))
    inner = float(np.clip(inner, 0, 0.9 * outer))
    return _geometry(_kind(probe, inner, outer), sector.apex, aperture, inner, outer, found.lit.shape)


def _kind(probe: str | None, inner: float, outer: float) -> str:
    return probe or ("phased" if inner < PHASED_BELOW * outer else "convex")


def _in_window(geometry: Geometry, edges: Outline) -> np.ndarray:
    """The field of view (H, W) as far as borders and straight cuts leave it to be seen."""
    mask = scan_maps.__wrapped__(geometry)[0] > -1e3  # no need to remember the maps of every candidate
    left, top, right, bottom = edges.window
    mask[:top] = mask[bottom + 1 :] = False
    mask[:, :left] = mask[:, right + 1 :] = False
    return mask


def _overlap(mask: np.ndarray, lit: np.ndarray) -> float:
    """Intersection over union of two masks' convex hulls: a sector is convex but for the probe's face, and much within it may be dark."""
    a, b = _hull(mask), _hull(lit)
    return float((a & b).sum() / max((a | b).sum(), 1))


def _hull(mask: np.ndarray) -> np.ndarray:
    drawn = np.zeros(mask.shape, np.uint8)
    if (points := cv2.findNonZero(mask.astype(np.uint8))) is not None:
        cv2.fillConvexPoly(drawn, cv2.convexHull(points), 1)
    return drawn > 0
