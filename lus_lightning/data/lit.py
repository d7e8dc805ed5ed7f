"""What lights up over a clip, without what is written over it, and the outline of that."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

MAX_FRAMES: Final = 32
SIDES: Final = ("left", "right", "outer", "inner")
WINDOW: Final = 13
"""Points over which an outline is straight where it is a sector's edge, and ragged where it is only the end of what is bright."""
BRIGHT_WRITING: Final = 60
TALLEST_WRITING: Final = 0.1
_BAR: Final = 0.1
"""Greatest width of a bar, as a share of the longer side: what is wider and stands still is a frozen picture."""
_STRAY: Final = 0.02
"""Share of what stands still that may move all the same, as beside a codec's blocks."""
_MOVING: Final = 0.2
"""Share of what lights up that moves where there is a picture beside what stands still."""


@dataclass(frozen=True)
class Lit:
    """What lights up over a clip.

    `lit` (H, W) bool is without text, rulers and logos; `written` (H, W) bool is where those are and two pixels around.
    """

    lit: np.ndarray
    written: np.ndarray


@dataclass(frozen=True)
class Outline:
    """Where the lit region ends: the outermost point of each row (left, right) and column (outer: below, inner: above).

    `points[side]` (N, 2) are columns and rows, half a pixel outside the last lit one; none at the picture's border, along a straight cut or
    beside writing. `firm[side]` (N,) bool is where the outline is locally straight. `window` (left, top, right, bottom) in pixels is what
    the picture's border and straight cuts leave to be seen. `ends[side]` (rows or columns,) are all the outermost lit pixels.
    """

    points: dict[str, np.ndarray]
    firm: dict[str, np.ndarray]
    window: tuple[int, int, int, int]
    ends: dict[str, np.ndarray]


def lit_region(frames: np.ndarray, threshold: int) -> Lit:
    """What departs from the background by more than `threshold` grey levels in any of up to 32 frames of (T, H, W) uint8."""
    few = frames[np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int))]
    high, low = few.max(axis=0), few.min(axis=0)
    moving = len(few) >= 3
    level = _background(high, low, moving)
    lit = (high > level + threshold) | (low < level - threshold)
    written = np.zeros(lit.shape, np.uint8)
    if moving:
        calm = high - low <= 6
        bright = high >= BRIGHT_WRITING
        drawn = _writing(lit & calm & bright, ~lit | calm & ~bright) | _bars(lit, calm)
        written = cv2.dilate(drawn, np.ones((3, 3), np.uint8))
    bare = cv2.medianBlur((lit & (written == 0)).astype(np.uint8), 3)
    joined = cv2.morphologyEx(bare, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.flatnonzero(areas >= 0.05 * areas.max(initial=0)) + 1
    return Lit((bare > 0) & np.isin(labels, kept), cv2.dilate(written, np.ones((5, 5), np.uint8)) > 0)


def _writing(still: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """What of the bright pixels that stand still (H, W) is letters, rulers and logos, (H, W) uint8: low, and on plain ground (H, W).

    What goes on in a line with two such letters is writing too, whatever it is written over.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(still.astype(np.uint8))
    grown = cv2.dilate(labels.astype(np.float32), np.ones((5, 5), np.uint8)).astype(int)
    ring = (labels == 0) & (grown > 0)
    around = np.bincount(grown[ring], minlength=count)
    on_plain = np.bincount(grown[ring & plain], minlength=count)
    low = stats[:, cv2.CC_STAT_HEIGHT] <= TALLEST_WRITING * len(still)
    low[0] = False
    letters = low & (on_plain > 0.6 * around)
    left, top, width, height = stats[:, :4].T
    tall = np.flatnonzero(letters & (height >= 4))
    aligned = np.abs(np.subtract.outer((top + height)[tall], (top + height)[tall])) <= 1
    apart = np.maximum.outer(left[tall], left[tall]) - np.minimum.outer((left + width)[tall], (left + width)[tall])
    for k, beside in zip(tall, aligned & (apart > 0) & (apart < 2 * height[tall]), strict=True):
        if beside.any():
            letters |= _line(labels, stats, low, int(k))
    return letters[labels].astype(np.uint8)


def _bars(lit: np.ndarray, calm: np.ndarray) -> np.ndarray:
    """Bars of greys and lines drawn beside a moving picture, (H, W) uint8: narrow, alone, and all of them still. None, if nothing moves."""
    moving = lit & ~calm
    count, labels, stats, _ = cv2.connectedComponentsWithStats(lit.astype(np.uint8))
    width, height, area = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_AREA]
    thin = (np.minimum(width, height) <= _BAR * max(lit.shape)) & (np.maximum(width, height) > TALLEST_WRITING * len(lit))
    bars = thin & (np.bincount(labels[moving], minlength=count) <= _STRAY * area)
    bars[0] = False
    return (bars[labels] & (moving.sum() > _MOVING * lit.sum())).astype(np.uint8)


def _line(labels: np.ndarray, stats: np.ndarray, low: np.ndarray, letter: int) -> np.ndarray:
    """Which components go on in the line of a letter: within its rows but for one above and two below, less than two heights apart."""
    _, top, _, height, _ = stats[letter]
    rows = slice(max(0, top - 1), top + height + 2)
    within = low & (stats[:, 1] >= rows.start) & (stats[:, 1] + stats[:, 3] <= rows.stop)
    line, more = np.arange(len(stats)) == letter, np.zeros(len(stats), bool)
    while (line != more).any():
        more = line
        near = cv2.dilate(line[labels[rows]].any(axis=0).astype(np.uint8)[None], np.ones((1, 4 * height + 1), np.uint8))[0] > 0
        line = line | within & (np.bincount(labels[rows][:, near].ravel(), minlength=len(stats)) > 0)
    return line


def _background(high: np.ndarray, low: np.ndarray, moving: bool) -> int:
    """Grey level around the field of view: what stands still in the upper corners, else in the lower ones; 0 if both are lit."""
    side = max(4, min(high.shape) // 30)
    for rows in (slice(None, side), slice(-side, None)):
        brightest, darkest = (np.concatenate([m[rows, :side].ravel(), m[rows, -side:].ravel()]) for m in (high, low))
        values = brightest[(brightest - darkest <= 4) & (brightest < 120)]
        mode = int(np.bincount(values).argmax()) if len(values) else 0
        if (np.abs(values.astype(int) - mode) <= 1).sum() > (0.25 if moving else 0.4) * len(brightest):
            return mode
    return 0


def outline(found: Lit) -> Outline:
    """The outline of what lights up."""
    lit = found.lit
    height, width = lit.shape
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    first_x, last_x = lit[rows].argmax(axis=1), width - 1 - lit[rows, ::-1].argmax(axis=1)
    first_y, last_y = lit[:, columns].argmax(axis=0), height - 1 - lit[::-1, columns].argmax(axis=0)
    raw = (
        ("left", first_x, rows, first_x, -1, 0, 0.25),
        ("right", last_x, rows, last_x, 1, width - 1, 0.25),
        ("outer", columns, last_y, last_y, 1, height - 1, 0.5),
        ("inner", columns, first_y, first_y, -1, 0, 0.5),
    )
    points, firm, window = {}, {}, {}
    unit = max(1.0, max(lit.shape) / 224)
    for side, x, y, across, outward, border, flat in raw:
        extreme = across.max() if outward > 0 else across.min()
        at_cut = np.abs(across - extreme) <= 1
        cut = at_cut.mean() > flat
        window[side] = int(extreme) if cut else border
        free = (np.abs(across - border) > 1) & ~found.written[y, x] & ~(cut & at_cut)
        shift = (0.5 * outward, 0) if side in ("left", "right") else (0, 0.5 * outward)
        points[side] = (np.stack([x, y], axis=1) + shift)[free]
        firm[side] = _firm(points[side], 1 if side in ("left", "right") else 0, unit)
    ends = {side: across for side, _, _, across, *_ in raw}
    return Outline(points, firm, (window["left"], window["inner"], window["right"], window["outer"]), ends)


def _firm(points: np.ndarray, along: int, unit: float) -> np.ndarray:
    """Which of the points (N, 2) lie on a locally straight line; (N,) bool."""
    good = np.zeros(len(points), bool)
    if len(points) < WINDOW:
        return good
    windows = np.lib.stride_tricks.sliding_window_view(points, WINDOW, axis=0)
    base = np.stack([np.ones(WINDOW), np.linspace(-1, 1, WINDOW)], axis=1)
    off = np.abs(windows[:, 1 - along] @ (np.eye(WINDOW) - base @ np.linalg.pinv(base)))
    straight = (np.median(off, axis=1) < 0.45 * unit) & (windows[:, along, -1] - windows[:, along, 0] < 1.5 * WINDOW)
    for k in range(WINDOW):
        good[k : k + len(windows)] |= straight & (off[:, k] < 1.2 * unit)
    return good
