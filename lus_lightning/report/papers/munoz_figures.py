"""Muñoz et al.: drawings of masks in beam space, and Bland and Altman's figure of the affected share."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from lus_lightning.labels import MASK_CLASSES
from lus_lightning.report.figures import Theme
from lus_lightning.report.tables import Table


class Look(NamedTuple):
    """How a class is drawn: colour (Okabe and Ito 2008, told apart by the colour-blind), and outline and filling in words."""

    name: str
    rgb: tuple[int, int, int]
    style: str


LOOKS: Final = {
    "pleural_line": Look("Pleural line", (240, 228, 66), "closed outline"),
    "a_line": Look("A-line", (86, 180, 233), "dashed outline"),
    "b_line": Look("B-line", (230, 120, 0), "closed outline, upright stripes"),
    "consolidation": Look("Consolidation", (0, 190, 140), "closed outline, slanting stripes"),
    "effusion": Look("Effusion", (214, 140, 190), "closed outline, dots"),
    "rib_shadow": Look("Rib shadow", (255, 255, 255), "dotted outline"),
}
CLASS_NAMES: Final = {name: look.name for name, look in LOOKS.items()}
TILE: Final = 256
"""Side of a drawn frame (pixels): beam space 128 x 256 with each scan line twice as wide, about as wide as deep in mm."""
GAP: Final = 8
BAND: Final = 7
"""Height of each of the two bars above a frame: visible scan lines, and those affected."""
GREY: Final = (200, 200, 200)


def pattern(name: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where a class's outline and its filling are drawn: two (H, W) bool."""
    y, x = np.indices(shape)
    everywhere, nowhere = np.ones(shape, bool), np.zeros(shape, bool)
    fills = {"b_line": x % 8 == 0, "consolidation": (x + y) % 10 == 0, "effusion": (x % 7 < 2) & (y % 7 < 2)}
    edges = {"a_line": (x + y) // 5 % 2 == 0, "rib_shadow": (x + y) % 4 < 2}
    return edges.get(name, everywhere), fills.get(name, nowhere)


def upright(frames: np.ndarray) -> np.ndarray:
    """Frames or masks (K, scan lines, samples) as drawn: (K, 256, 256), depth downwards."""
    return np.stack([cv2.resize(f.T, (TILE, TILE), interpolation=cv2.INTER_NEAREST) for f in frames])


def overlay(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Outlines of masks on pictures, both (K, 256, 256) uint8: (K, 256, 256, 3) uint8 RGB."""
    drawn = np.repeat(pictures[..., None], 3, axis=3)
    for bit, name in enumerate(MASK_CLASSES):
        edges, fills = pattern(name, (TILE, TILE))
        for picture, mask in zip(drawn, masks >> bit & 1, strict=True):
            if mask.any():
                inner = cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0) > 0
                picture[(mask > 0) & ~inner & edges | inner & fills] = LOOKS[name].rgb
    return drawn


def bars(visible: np.ndarray, affected: np.ndarray) -> np.ndarray:
    """Two bars above each frame, (K, 2 * BAND + 2, 256, 3): which of the scan lines (K, L) bool are visible, and which affected."""
    drawn = np.full((len(visible), 2 * BAND + 2, TILE, 3), 24, np.uint8)
    for on, top, colour in ((visible, 0, GREY), (affected, BAND + 1, LOOKS["b_line"].rgb)):
        wide = np.stack([cv2.resize(lines.astype(np.uint8)[None], (TILE, 1), interpolation=cv2.INTER_NEAREST)[0] for lines in on]) > 0
        drawn[:, top : top + BAND] = np.where(wide[:, None, :, None], np.array(colour, np.uint8), 24)
    return drawn


def strip(kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """A clip's picture strip, (H, W, 4) uint8 RGBA: above the frames, below them with the found masks, then with the true ones.

    Args:
        kept: `image`, `mask` and perhaps `true` (K, scan lines, samples) uint8; perhaps, for each of the masks, the scan lines counted,
            (K, scan lines) bool: `visible` and `affected`, `true_visible` and `true_affected`.
    """
    pictures = upright(kept["image"])
    rows = [np.repeat(pictures[..., None], 3, axis=3)]
    for mask, prefix in (("mask", ""), ("true", "true_")):
        if mask in kept:
            drawn = overlay(pictures, upright(kept[mask]))
            if f"{prefix}visible" in kept:
                drawn = np.concatenate([bars(kept[f"{prefix}visible"], kept[f"{prefix}affected"]), drawn], axis=1)
            rows.append(drawn)
    opaque = [np.pad(row, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=255) for row in rows]
    lines = [np.concatenate(list(np.pad(row, ((0, 0), (0, GAP), (0, GAP), (0, 0)))), axis=1) for row in opaque]
    return np.concatenate(lines, axis=0)[:-GAP, :-GAP]


def png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) RGB or (H, W, 4) RGBA as the bytes of a PNG file."""
    turned = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    return bytes(cv2.imencode(".png", turned, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1])


def swatch(name: str) -> np.ndarray:
    """A class as the legend shows it: (48, 64, 3) uint8 RGB."""
    mask = np.zeros((1, TILE, TILE), np.uint8)
    mask[0, 8:40, 8:56] = 1 << MASK_CLASSES.index(name)
    return overlay(np.full((1, TILE, TILE), 90, np.uint8), mask)[0, :48, :64]


def bland_altman(clips: pd.DataFrame, table: Table, theme: Theme) -> Canvas:
    """Each clip's `sum_pred` less `sum_target` (affected share, %) against the mean of both; bias and limits with intervals."""
    canvas = Canvas(figsize=(8.4, 4.4), layout="constrained")
    ax = canvas.subplots()
    lines = {row: cells[0] for row, cells in table.lines()}
    for (row, cell), style in zip(lines.items(), ("-", "--", "--"), strict=True):
        if np.isfinite(cell.low):
            ax.axhspan(cell.low, cell.high, color=theme["soft"], alpha=0.16, lw=0)
        ax.axhline(cell.here, color=theme["soft"], ls=style, lw=1.2)
        told, place = f"{row}: {cell.here:.1f}".replace("-", "−"), ("axes fraction", "data")
        ax.annotate(told, (1, cell.here), (-4, 3), place, "offset points", ha="right", fontsize=8.5)
    ax.axhline(0, color=theme["ink"], lw=0.7)
    colours = dict(zip((None, "longitudinal", "transversal"), theme["series"][1:], strict=True))
    ways = clips["orientation"].where(clips["orientation"].isin(list(colours)), None)
    for (way, colour), marker in zip(colours.items(), "sov", strict=True):
        own = clips[ways.isna() if way is None else ways == way]
        if len(own):
            middle, gap = (own["sum_pred"] + own["sum_target"]) / 2, own["sum_pred"] - own["sum_target"]
            ax.plot(middle, gap, marker, color=colour, ms=6, alpha=0.8, mew=0, label=way or "orientation unknown")
    ax.set(xlabel="mean of both shares (%)", ylabel="segmenter less true masks\n(percentage points)", xlim=(-2, 102))
    ax.grid()
    canvas.legend(loc="outside upper left", ncols=3, frameon=False)
    return canvas
