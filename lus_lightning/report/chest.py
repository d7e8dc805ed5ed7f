"""Where each protocol's zones lie in a drawing of the chest, seen from the front and from the back. A scheme, not an anatomy."""

from typing import Final, NamedTuple

from lus_lightning.labels import ZONES

WIDTH: Final = 200
HEIGHT: Final = 205
TOP: Final = 58
BOTTOM: Final = 172
GAP: Final = 3
COLUMNS: Final = {
    "anterior": (102, 34),
    "lateral": (139, 34),
    "posterior": (102, 50),
    "upper BLUE point": (102, 50),
    "lower BLUE point": (118, 50),
    "PLAPS point": (106, 50),
}
"""Left edge and width of a region's column in the half of the drawing that lies right of the middle (x = 100)."""
SHORT: Final = {"anterior": "ant.", "lateral": "lat.", "posterior": "post."}
BEHIND: Final = ("posterior", "PLAPS point")


class Cell(NamedTuple):
    """A zone in the drawing: in which view, its rectangle (of WIDTH x HEIGHT), short lines of text and the name in words."""

    view: str
    x: float
    y: float
    width: float
    height: float
    label: tuple[str, ...]
    name: str


def views_of() -> tuple[str, str]:
    """The drawing's views, from left to right."""
    return "front", "back"


def place(zone: str, protocol: str) -> tuple[str, str, int, int]:
    """Side (L or R), region (of `COLUMNS`), level (0: the uppermost) and number of levels of a zone of `labels.ZONES`."""
    number = ZONES[protocol].index(zone)
    if protocol == "6":  # Lichtenstein 2014
        return zone[0], ("upper BLUE point", "lower BLUE point", "PLAPS point")[number % 3], int(number % 3 > 0), 2
    if protocol == "12":
        side, region, level = zone.split("-")
        return side, region, ("upper", "lower").index(level), 2
    # Soldati et al. 2020: on each side from below upwards, the right side first.
    if number < 6:
        return "RL"[number // 3], "posterior", 2 - number % 3, 3
    return "RL"[(number - 6) // 2 % 2], "lateral" if number < 10 else "anterior", 1 - number % 2, 2


def cell_of(zone: str, protocol: str | None) -> Cell | None:
    """A zone's cell; None without a known protocol. Seen from the front the left lung is on the right, from the back on the left."""
    if not isinstance(protocol, str):
        return None
    side, region, level, levels = place(zone, protocol)
    view = views_of()[region in BEHIND]
    x, width = COLUMNS[region]
    x = x if (side == "L") == (view == "front") else WIDTH - x - width
    height = (BOTTOM - TOP - GAP * (levels - 1)) / levels
    word = ("upper", "lower") if levels == 2 else ("upper", "middle", "lower")
    name = " ".join(["left" if side == "L" else "right", region, *([] if "point" in region else [word[level]])])
    label = (SHORT[region], word[level]) if protocol == "12" else (zone,)
    return Cell(view, x, round(TOP + level * (height + GAP), 1), width, round(height, 1), label, name)
