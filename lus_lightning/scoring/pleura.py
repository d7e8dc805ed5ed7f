"""From masks in beam space to a score: how much of the visible pleura is affected, and what that means by a named standard.

After Muñoz et al. ("From Segmentation to Score"): the scan lines with B-lines, divided by those where the pleura is visible, mapped to 0-3.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np

from lus_lightning.data.geometry import Geometry
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES, SCORES, STANDARDS
from lus_lightning.scoring.levels import RULES


@dataclass(frozen=True)
class Criteria:
    """Numbers that the papers leave open or print once. Shares are of the visible pleura, lengths in mm.

    `white_share`: more B-lines than this is score 3 (Muñoz et al., section 2: more than 50 %). `coalescent_mm`: B-lines this near are
    coalescent (Xing et al., section 2.3: 3 mm). `severe_break_share`: a line this broken is severely broken (ours; Xing et al. give none).
    `few_b_lines`: as many are still score 0 by `raillard` (Lung Ultrasound Score: at most two).
    """

    white_share: float = 0.5
    coalescent_mm: float = 3.0
    severe_break_share: float = 0.15
    few_b_lines: int = 2


@dataclass(frozen=True)
class Rule(Criteria):
    """How masks become a score: the standard, its criteria, and what reading them off a grid needs; these are all ours.

    `b_line_mm` is a usual B-line's width: nearer than `coalescent_mm` between centres leaves less than the difference clear between them.
    `single_mm`: no single B-line is wider, so a wider stretch is coalescent; B-lines are counted this far apart. `confluent_mm`: from
    this width on it counts in `raillard` whatever the number. `indent_mm`: a dent this deep is one, against the line `indent_span_mm`
    around it. `break_mm`, `consolidation_mm`: a narrower gap of the line, a narrower consolidation is none; `long_mm`: nor is a B-line or
    a rib's shadow that is shorter. `start_mm`: nor is a B-line that starts deeper below the pleura, from which B-lines arise (infinite:
    it may start anywhere). `gap_mm`: a wider gap, or one at the edge of the view, is not a break: there the pleura is not visible.
    Infinite where masks mark rib shadows; 8 where they do not (a rib's shadow is 9 mm or wider).

    Raises:
        UserError: an unknown standard.
    """

    standard: str = "soldati"
    b_line_mm: float = 1.5
    single_mm: float = 2.8
    confluent_mm: float = 5.0
    indent_mm: float = 0.5
    indent_span_mm: float = 8.0
    break_mm: float = 1.5
    consolidation_mm: float = 1.0
    long_mm: float = 5.0
    start_mm: float = float("inf")
    gap_mm: float = float("inf")

    def __post_init__(self) -> None:
        if self.standard not in STANDARDS:
            raise UserError(f"no scoring standard is called {self.standard!r}: choose from {', '.join(STANDARDS)}")


@dataclass(frozen=True)
class Scale:
    """Distance of two scan lines at the pleura and of two depth samples, mm."""

    line_mm: float
    sample_mm: float


@dataclass(frozen=True)
class AffectedPleura:
    """What a clip's masks show in each frame: arrays (T,). Shares are of the visible scan lines, NaN where there are none.

    `visible_lines`: scan lines not behind a rib, broken ones included. `affected_lines`: those with a B-line, `share` theirs. `b_lines`:
    how many single ones fit in. `stretch_mm`: the widest of B-lines that merge or nearly touch. `breaks` of the pleural line, and
    `broken_share`. `indent_mm`: its deepest dent. `consolidation_share`: with a consolidation under the pleura.
    """

    visible_lines: np.ndarray
    affected_lines: np.ndarray
    share: np.ndarray
    b_lines: np.ndarray
    stretch_mm: np.ndarray
    breaks: np.ndarray
    broken_share: np.ndarray
    indent_mm: np.ndarray
    consolidation_share: np.ndarray

    def __getitem__(self, frames: slice | np.ndarray) -> "AffectedPleura":
        """Some of the frames."""
        return AffectedPleura(*(getattr(self, f.name)[frames] for f in fields(self)))


def measure(masks: np.ndarray, scale: Scale | None = None, rule: Rule = Rule()) -> AffectedPleura:
    """Measure the pleura of a clip's frames, all at once.

    What masks cannot tell: what lies behind a rib or outside the view, of which a scene's score may know (the centre of a B-line whose
    edge alone shows), and a dent under a break.

    Args:
        masks: (T, scan lines, depth samples) uint8, bit i for `labels.MASK_CLASSES[i]`.
        scale: of the clip, see `scale_of`; none (nobody knows) assumes the median field of view of the simulated study munoz, 87 mm
            wide at the pleura and 105 mm deep.
        rule: its lengths in mm.
    """
    scale = scale or _assumed(masks)
    pleura, solid = (_length(masks, name) > 0 for name in ("pleural_line", "consolidation"))
    visible, affected = counted_lines(masks, scale, rule)
    broken, solid = (
        lines & (_run(lines) * scale.line_mm >= width)
        for lines, width in ((~pleura & visible, rule.break_mm), (solid & visible, rule.consolidation_mm))
    )
    clear = int((rule.coalescent_mm - rule.b_line_mm) / scale.line_mm)
    merged = affected | _between(affected) & (_run(~affected) <= clear)
    n = visible.sum(axis=1)

    def share(lines: np.ndarray) -> np.ndarray:
        return np.divide(lines.sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)

    return AffectedPleura(
        visible_lines=n,
        affected_lines=affected.sum(axis=1),
        share=share(affected),
        b_lines=_fit(affected, int(np.ceil(rule.single_mm / scale.line_mm))),
        # Between the outermost scan lines: a B-line of less than this width cannot cover them.
        stretch_mm=np.maximum(_run(merged).max(axis=1) - 1, 0) * scale.line_mm,
        breaks=(np.diff(broken.astype(np.int8), axis=1, prepend=0) == 1).sum(axis=1),
        broken_share=share(broken),
        indent_mm=_deepest_indent_mm(masks, pleura & visible, scale, rule.indent_span_mm),
        consolidation_share=share(solid),
    )


def counted_lines(masks: np.ndarray, scale: Scale | None = None, rule: Rule = Rule()) -> tuple[np.ndarray, np.ndarray]:
    """Which scan lines are counted as visible, and which of them as affected: two (T, scan lines) bool; arguments as of `measure`."""
    scale = scale or _assumed(masks)
    surface = (_length(masks, "pleural_line") > 0) | (_length(masks, "consolidation") > 0)
    b, shaded = (_length(masks, name) >= max(1, rule.long_mm / scale.sample_mm) for name in ("b_line", "rib_shadow"))
    if np.isfinite(rule.start_mm):
        b &= _starts(masks) <= rule.start_mm / scale.sample_mm
    surface &= ~shaded
    missing = ~surface & ~shaded
    if np.isfinite(rule.gap_mm):
        missing &= _between(surface) & (_run(missing) * scale.line_mm <= rule.gap_mm)
    visible = (surface | missing) & surface.any(axis=1, keepdims=True)
    return visible, b & visible


def _starts(masks: np.ndarray) -> np.ndarray:
    """(T, L): how many samples below the pleura, or the consolidation under it, the B-lines of a scan line start; large where none does."""
    line, b, solid = ((masks & _bit(name)) > 0 for name in ("pleural_line", "b_line", "consolidation"))
    surface = _drawn_through(line.argmax(axis=2).astype(np.float32), line.max(axis=2))
    ends = np.where(solid.any(axis=2), masks.shape[2] - 1 - solid[..., ::-1].argmax(axis=2), 0)
    return np.where(b.any(axis=2), b.argmax(axis=2) - np.maximum(surface, ends), masks.shape[2])


def _assumed(masks: np.ndarray) -> Scale:
    """The scale where nobody knows it; see `measure`."""
    return Scale(87 / (masks.shape[1] - 1), 105 / masks.shape[2])


def score(affected: AffectedPleura, rule: Rule = Rule()) -> np.ndarray:
    """Score of each frame, (T,) int64: 0-3 by the rule's standard, -1 (not assessable) where no pleura is visible.

    On the true masks of 5,004 simulated frames (other scenes than the lengths of `Rule` were set on) it equals the scene's score in
    98.3 % (soldati), 98.3 % (xing) and 96.2 % (raillard): the rest are signs that a rib or the view's edge hides in part, narrow gaps,
    dents and B-lines that run together, and shares at a threshold. Without rib shadows in the masks (`gap_mm` 8): 95.5 % (soldati).
    """
    a = affected
    white, solid = a.share > rule.white_share, a.consolidation_share > 0
    coalescent, some_b, broken = a.stretch_mm > rule.single_mm, a.affected_lines > 0, a.broken_share > 0
    indented = a.indent_mm >= rule.indent_mm
    if rule.standard == "xing":
        three, two, one = white, coalescent | (a.broken_share >= rule.severe_break_share), some_b | broken | indented
    elif rule.standard == "soldati":
        three, two, one = white, broken | solid | coalescent, some_b | indented
    else:
        three, two = white | (a.consolidation_share > rule.white_share), broken | solid
        one = (a.b_lines > rule.few_b_lines) | (a.stretch_mm >= rule.confluent_mm) | indented
    return np.select([a.visible_lines == 0, three, two, one], [-1, 3, 2, 1], 0).astype(np.int64)


def clip_score(frame_scores: np.ndarray) -> int:
    """A clip's score from those of its frames, (T,) in 0-3 or -1: the highest that at least 1 % of the assessable frames, and at least
    one, have (Muñoz et al., "Experimental Setup and Evaluation Metrics"; as the rule `one_percent` of `levels.py`); -1 if none is.
    """  # fmt: skip
    known = frame_scores[frame_scores >= 0]
    return int(RULES["one_percent"](np.bincount(known, minlength=len(SCORES))[None], np.array([len(known)]))[0])


def scale_of(masks: np.ndarray, geometry: Geometry) -> Scale | None:
    """A clip's scale, from its masks (T, scan lines, depth samples) and its geometry; none where that is not in mm.

    Scan lines fan out, so their distance is taken at the median depth of the chest wall's end: the pleural line, or the fluid above it.
    """
    if not geometry.scaled:
        return None
    end = (masks & (_bit("pleural_line") | _bit("effusion"))) > 0
    sample_mm = geometry.depth_mm / masks.shape[2]
    depths = end.argmax(axis=2)[end.any(axis=2)]
    depth_mm = (float(np.median(depths)) + 0.5) * sample_mm if len(depths) else 0.25 * geometry.depth_mm
    return Scale(2 * geometry.arc_half_mm(depth_mm) / (masks.shape[1] - 1), sample_mm)


def _bit(name: str) -> np.uint8:
    return np.uint8(1 << MASK_CLASSES.index(name))


def _length(masks: np.ndarray, name: str) -> np.ndarray:
    """(T, L) int: on how many depth samples of each scan line a class is."""
    return np.count_nonzero(masks & _bit(name), axis=2)


def _run(on: np.ndarray) -> np.ndarray:
    """(T, L) bool to (T, L) int: the length of the run in which each True stands, 0 elsewhere."""
    place = np.arange(on.shape[1])
    before = np.maximum.accumulate(np.where(on, -1, place), axis=1)
    behind = np.minimum.accumulate(np.where(on, on.shape[1], place)[:, ::-1], axis=1)[:, ::-1]
    return np.where(on, behind - before - 1, 0)


def _between(on: np.ndarray) -> np.ndarray:
    """(T, L) bool: between the first and the last True of each row."""
    return np.logical_or.accumulate(on, axis=1) & np.logical_or.accumulate(on[:, ::-1], axis=1)[:, ::-1]


def _fit(on: np.ndarray, apart: int) -> np.ndarray:
    """(T,) the most True of each row that lie at least `apart` from each other: unlike the number of runs, it never falls as more join."""
    count, last = np.zeros(len(on), int), np.full(len(on), -apart)
    for place in range(on.shape[1]):
        new = on[:, place] & (place - last >= apart)
        count, last = count + new, np.where(new, place, last)
    return count


def _deepest_indent_mm(masks: np.ndarray, line: np.ndarray, scale: Scale, span_mm: float) -> np.ndarray:
    """(T,) how far the pleural line dips below its own course at most: below its grey opening over `span_mm`, which leaves slopes alone.

    The line's depth is the middle of its samples, averaged over three scan lines, as a segmentation is rough by a sample. Over ribs and
    breaks it is drawn straight, and at both ends mirrored point by point.
    A line shorter than the span has no course.
    """
    there = (masks & _bit("pleural_line")) > 0
    depth = there @ np.arange(masks.shape[2], dtype=np.float32) / np.maximum(there.sum(axis=2), 1)
    lines = line.shape[1]
    span = 2 * min(int(span_mm / scale.line_mm / 2), lines // 4) + 1
    course = np.pad(_drawn_through(depth.astype(np.float32), line), ((0, 0), (span, span)), mode="reflect", reflect_type="odd")
    course = cv2.blur(course, (3, 1))
    opened = cv2.morphologyEx(course, cv2.MORPH_OPEN, np.ones((1, span), np.uint8))
    dips = np.where(line, (course - opened)[:, span : span + lines], 0)
    return np.where(line.sum(axis=1) > span, dips.max(axis=1), 0) * scale.sample_mm


def _drawn_through(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(T, L): unknown values drawn straight between the nearest known ones, level beyond the first and last."""
    place = np.arange(values.shape[1])
    left = np.maximum.accumulate(np.where(known, place, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, place, len(place))[:, ::-1], axis=1)[:, ::-1]
    left, right = np.where(left < 0, right, left), np.where(right == len(place), left, right)
    left, right = left.clip(0, len(place) - 1), right.clip(0, len(place) - 1)
    a, b = np.take_along_axis(values, left, 1), np.take_along_axis(values, right, 1)
    return a + (b - a) * np.divide(place - left, right - left, out=np.zeros_like(a), where=right > left)
