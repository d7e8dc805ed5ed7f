"""Corso: drawings of lengths (Figs. 3 and 4), curves (6 and 7), errors (8 and 9), and of where the network looks (10)."""

from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from lus_lightning.labels import SCORES
from lus_lightning.report.figures import Theme, heat

COLOURS: Final = "inferno"
STRENGTH: Final = 0.55
"""How much of an overlaid pixel is colour, the rest picture."""
TILE: Final = 220
"""Height of a drawn frame (pixels)."""
GAP: Final = 8


def bins_of(clips: pd.DataFrame) -> np.ndarray:
    """Edges of about 20 bins of whole frames that hold every length."""
    low, high = int(clips["frames"].min()), int(clips["frames"].max())
    step = max(1, -(-(high - low + 1) // 20))
    return np.arange(low, high + step + 1, step) - 0.5


def lengths_by_score(clips: pd.DataFrame, theme: Theme) -> Canvas:
    """A histogram for each score, one above the other."""
    canvas = Canvas(figsize=(8.4, 5.2), layout="constrained")
    axes = canvas.subplots(len(SCORES), 1, sharex=True, sharey=True)
    bins = bins_of(clips)
    for ax, score in zip(axes, SCORES, strict=True):
        own = clips.loc[clips["score"] == score, "frames"]
        ax.hist(own, bins, color=theme["series"][-1], rwidth=0.92)
        if len(own):
            ax.axvline(own.median(), color=theme["ink"], lw=1.2, ls="--")
        ax.set_title(f"score {score} ({len(own)} clips)", loc="left")
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.grid(axis="y")
    axes[-1].set(xlabel="length of the clip (frames); dashed: median")
    canvas.supylabel("clips", fontsize=10, color=theme["ink"])
    return canvas


def lengths_by_patient(clips: pd.DataFrame, theme: Theme) -> Canvas:
    """A histogram for each patient, as a row of squares, the patients with the shortest clips first; tested ones are marked."""
    order = clips.groupby("patient")["frames"].median().sort_values().index
    bins = bins_of(clips)
    counts = np.stack([np.histogram(clips.loc[clips["patient"] == p, "frames"], bins)[0] for p in order])
    split = clips.drop_duplicates("patient").set_index("patient")["split"]
    held = split.nunique() > 1
    height = min(0.2, 8.5 / len(order))
    canvas = Canvas(figsize=(8.4, height * len(order) + 1.2), layout="constrained")
    ax = canvas.subplots()
    colours = LinearSegmentedColormap.from_list("clips", [theme["paper"], theme["series"][-1]])
    drawn = ax.pcolormesh(bins, np.arange(len(order) + 1) - 0.5, counts, cmap=colours, edgecolors=theme["grid"], lw=0.4, vmin=0)
    names = [f"{p} (test)" if held and split[p] == "test" else str(p) for p in order]
    ax.set_yticks(range(len(order)), names, fontsize=min(10, 56 * height))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="length of the clip (frames)", ylabel="patient")
    bar = canvas.colorbar(drawn, ax=ax, label="clips", pad=0.01, aspect=max(8, 1.2 * len(order)))
    bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar.outline.set_visible(False)  # type: ignore[operator]
    return canvas


def curves(folds: Mapping[int, pd.DataFrame], chosen: Mapping[int, int], theme: Theme) -> Canvas:
    """Left the accuracy (and F1 and weighted kappa where watched), right the losses, over the epochs; a ring marks the chosen epoch."""
    first = next(iter(folds.values()))
    right = [c for c in ("val/loss", "train/loss") if c in first]
    left = [c for c in ("val/accuracy", "val/f1", "val/qwk") if c in first]
    canvas = Canvas(figsize=(8.8, 3.4), layout="constrained")
    axes = canvas.subplots(1, 2)
    colours = (theme["series"][-1], theme["series"][2], theme["series"][1])
    for ax, columns, title in zip(axes, (left, right), ("accuracy", "loss"), strict=True):
        for column, colour in zip(columns, colours, strict=False):
            for i, (fold, own) in enumerate(folds.items()):
                thin = {"lw": 1.8, "alpha": 1.0} if len(folds) == 1 else {"lw": 1.0, "alpha": 0.6}
                mark = "." if len(own) == 1 else ""
                ax.plot(own["epoch"], own[column], marker=mark, color=colour, label=column if i == 0 else None, **thin)
                at = own[own["epoch"] == chosen.get(fold, -1)]
                ax.plot(at["epoch"], at[column], "o", mfc="none", mec=theme["ink"], ms=8 if len(folds) == 1 else 5)
        ax.set_title(title if columns else f"{title}: not watched", loc="left")
        ax.set(xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.grid()
        if columns:
            ax.legend(frameon=False, fontsize=8.5)
    if chosen:
        axes[0].plot([], [], "o", mfc="none", mec=theme["ink"], ms=6, ls="", label="chosen epoch")
        axes[0].legend(frameon=False, fontsize=8.5)
    return canvas


def matrices(counts: Mapping[str, np.ndarray], theme: Theme) -> Canvas:
    """Confusion matrices (4, 4) side by side."""
    canvas = Canvas(figsize=(8.8, 3.0), layout="constrained")
    names = [str(c) for c in SCORES]
    for i, (ax, (title, matrix)) in enumerate(zip(canvas.subplots(1, len(counts), squeeze=False)[0], counts.items(), strict=True)):
        heat(ax, matrix, names, names, theme)
        ax.set_title(title, loc="left")
        ax.set(xlabel="predicted", ylabel="label" if i == 0 else "")
    return canvas


def error_bars(counts: Mapping[str, np.ndarray], theme: Theme) -> Canvas:
    """Wrong clips of each score, filled, before all clips of it, outlined."""
    canvas = Canvas(figsize=(8.8, 3.0), layout="constrained")
    for i, (ax, (title, matrix)) in enumerate(zip(canvas.subplots(1, len(counts), squeeze=False)[0], counts.items(), strict=True)):
        of, wrong = matrix.sum(axis=1), matrix.sum(axis=1) - np.diag(matrix)
        ax.bar(SCORES, of, 0.7, fill=False, edgecolor=theme["soft"], label="clips")
        ax.bar(SCORES, wrong, 0.7, color=theme["series"][0 if i == 0 else -1])
        for score, value in zip(SCORES, wrong, strict=True):
            ax.annotate(f"{value:.0f}", (score, value), (0, 2), textcoords="offset points", ha="center", fontsize=8.5)
        ax.set_title(title, loc="left")
        ax.set_xticks(SCORES)
        ax.set(xlabel="score", ylabel="wrong clips (outline: all)" if i == 0 else "")
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.margins(y=0.12)
        ax.tick_params(axis="x", length=0)
    return canvas


def scaled(frames: np.ndarray, height: int = TILE) -> np.ndarray:
    """Pictures (K, H, W) uint8 at one height and with an even width, as a video needs it."""
    width = max(2, 2 * round(frames.shape[2] * height / frames.shape[1] / 2))
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames])


def overlay(pictures: np.ndarray, attention: np.ndarray, most: float) -> np.ndarray:
    """Attention over pictures: (K, H, W, 3) uint8 RGB.

    Args:
        pictures: (K, H, W) uint8.
        attention: (K, h, w) from 0, laid over the whole picture.
        most: what the brightest colour stands for.
    """
    table = np.round(mpl.colormaps[COLOURS](np.arange(256))[:, :3] * 255).astype(np.uint8)
    drawn = np.empty((*pictures.shape, 3), np.uint8)
    for at, (picture, mask) in enumerate(zip(pictures, attention, strict=True)):
        smooth = cv2.resize(mask.astype(np.float32) * (255 / max(most, 1e-9)), picture.shape[::-1], interpolation=cv2.INTER_LINEAR)
        colours = table[np.clip(smooth, 0, 255).astype(np.uint8)]
        drawn[at] = cv2.addWeighted(colours, STRENGTH, cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), 1 - STRENGTH, 0)
    return drawn


def strip(pictures: np.ndarray, attention: np.ndarray, most: float) -> np.ndarray:
    """Frames above, with the attention below: (H, W, 4) uint8 RGBA, the gaps transparent; arguments as of `overlay`."""
    rows = [np.repeat(pictures[..., None], 3, axis=3), overlay(pictures, attention, most)]
    opaque = [np.pad(row, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=255) for row in rows]
    lines = [np.concatenate(list(np.pad(row, ((0, 0), (0, GAP), (0, GAP), (0, 0)))), axis=1) for row in opaque]
    return np.concatenate(lines, axis=0)[:-GAP, :-GAP]


def colour_bar() -> np.ndarray:
    """The overlay's colours over black, 0 on the left: (20, 256, 3) uint8 RGB."""
    return overlay(np.zeros((1, 20, 256), np.uint8), np.linspace(0, 1, 256)[None, None], 1)[0]


def looks(clips: Sequence[Mapping[str, np.ndarray | str]], theme: Theme) -> Canvas:
    """One frame of each clip with its attention, four in a row, and one colour bar.

    Args:
        clips: `picture` (H, W, 3) uint8 RGB, `title`.
        theme: colours.
    """
    rows, tallest = -(-len(clips) // 4), max(np.shape(clip["picture"])[0] / np.shape(clip["picture"])[1] for clip in clips)
    canvas = Canvas(figsize=(9.2, (2.2 * tallest + 0.45) * rows + 0.6), layout="constrained")
    axes = canvas.subplots(rows, 4, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, clip in zip(axes.flat, clips, strict=False):
        ax.imshow(clip["picture"])
        ax.set_title(str(clip["title"]), fontsize=7.5, loc="left", wrap=True)
    strength = LinearSegmentedColormap.from_list("drawn", colour_bar()[0] / 255)
    bar = canvas.colorbar(mpl.cm.ScalarMappable(cmap=strength), ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02, ticks=[0, 1])
    bar.ax.set_xticklabels(["0", "the clip's highest attention"], color=theme["ink"])
    bar.outline.set_visible(False)  # type: ignore[operator]
    return canvas
