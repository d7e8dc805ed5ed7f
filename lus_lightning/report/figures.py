"""The report's figures, each drawn twice: for light and for dark pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure as Canvas

from lus_lightning.data.identity import whole_file
from lus_lightning.report.tables import Table

THEMES: Final = {
    "": {
        "paper": "#ffffff",
        "ink": "#1f2933",
        "soft": "#8794a1",
        "grid": "#e3e8ee",
        "series": ("#b9c4cf", "#8fb8de", "#e0b26b", "#0f766e"),
    },
    "-dark": {
        "paper": "#171c22",
        "ink": "#e4e9ee",
        "soft": "#93a1ae",
        "grid": "#2b343d",
        "series": ("#5c6976", "#5d8fbd", "#c1924b", "#3fc1b0"),
    },
}
"""Colours by the file name's suffix; the last of `series` is this run's."""
Theme = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A picture of the page: `draw(theme)` makes it, `alt` tells it, `table` holds its numbers."""

    name: str
    title: str
    alt: str
    draw: Callable[[Theme], Canvas]
    table: Table | None = None


def save(figure: Figure, folder: Path) -> None:
    """Write `<name>.png` and `<name>-dark.png`."""
    for suffix, theme in THEMES.items():
        style: dict[Any, Any] = {"font.size": 10, "axes.titlesize": 10.5, "axes.spines.top": False, "axes.spines.right": False}
        style |= {"axes.edgecolor": theme["soft"], "grid.color": theme["grid"], "axes.axisbelow": True}
        style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), theme["ink"])
        style |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme["paper"])
        with mpl.rc_context(style):
            canvas = figure.draw(theme)
            with whole_file(folder / f"{figure.name}{suffix}.png") as fresh:
                canvas.savefig(fresh, format="png", dpi=160)


def dots(table: Table, column: str, theme: Theme) -> Canvas:
    """Each row's printed value as a ring, this run's as a dot with its interval."""
    lines = [(row, cells[table.columns.index(column)]) for row, cells in table.lines()]
    canvas = Canvas(figsize=(8.4, 0.42 * len(lines) + 1.1), layout="constrained")
    ax = canvas.subplots()
    for y, (_, cell) in enumerate(lines):
        if np.isfinite(cell.low):
            ax.plot([cell.low, cell.high], [y, y], color=theme["series"][-1], lw=5, alpha=0.35, solid_capstyle="round")
    rows = np.arange(len(lines))
    ax.plot([c.here for _, c in lines], rows, "o", color=theme["series"][-1], ms=7, label="here, with 95 % interval over patients")
    ax.plot([c.printed for _, c in lines], rows, "o", mfc="none", mec=theme["ink"], mew=1.4, ms=8, label="printed in the paper")
    ax.set_yticks(rows, [row for row, _ in lines])
    ax.set(ylim=(len(lines) - 0.4, -0.6), xlabel=f"{column} ({table.unit})")
    if table.unit == "%":
        ax.set_xlim(right=101)
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    canvas.legend(loc="outside upper left", ncols=2, frameon=False)
    return canvas


def bars(table: Table, theme: Theme) -> Canvas:
    """Grouped bars, one group a column: left as printed, right this run's with intervals."""
    lines, columns = list(table.lines()), table.columns
    canvas = Canvas(figsize=(8.8, 3.5), layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True)
    width = 0.8 / len(lines)
    for ax, what in ((left, "printed"), (right, "here")):
        for i, (row, cells) in enumerate(lines):
            at = np.arange(len(columns)) + (i - (len(lines) - 1) / 2) * width
            height = np.array([getattr(c, what) for c in cells], dtype=float)
            ax.bar(at, height, width * 0.92, color=theme["series"][i % len(theme["series"])], label=row)
            if what == "here":
                spread = np.abs(np.array([[c.here - c.low, c.high - c.here] for c in cells], dtype=float)).T
                ax.errorbar(at, height, spread, fmt="none", ecolor=theme["ink"], elinewidth=0.9, capsize=0, alpha=0.75)
        ax.set_xticks(np.arange(len(columns)), columns)
        ax.set_title(what, loc="left")
        ax.grid(axis="y")
        ax.tick_params(axis="x", length=0)
    left.set(ylim=(0, 105), ylabel=f"correct ({table.unit})")
    canvas.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(lines), frameon=False)
    return canvas


def heat(ax: Axes, counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], theme: Theme, digits: int = 0) -> None:
    """A confusion matrix: colour is the share of the row, the number the count (or what stands there, with `digits` decimals)."""
    share = np.nan_to_num(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    colours = LinearSegmentedColormap.from_list("share", [theme["paper"], theme["series"][-1]])
    ax.imshow(share, cmap=colours, vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(counts):
        bright = np.dot(to_rgb(colours(share[i, j])), (0.3, 0.59, 0.11)) > 0.5
        text = "–" if np.isnan(value) else f"{value:,.{digits}f}"
        ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color="#1f2933" if bright else "#ffffff")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def confusions(matrices: Mapping[str, np.ndarray], theme: Theme, names: Sequence[str]) -> Canvas:
    """Matrices (C, C + 1) of the classes `names` side by side, the last column abstentions."""
    words = max(map(len, names)) > 1
    canvas = Canvas(figsize=((3.9 if words else 2.5) * len(matrices) + 0.4, 3.4 if words else 2.6), layout="constrained")
    for i, (ax, (title, counts)) in enumerate(zip(canvas.subplots(1, len(matrices), squeeze=False)[0], matrices.items(), strict=True)):
        heat(ax, counts, names, [*names, "none"], theme)
        ax.tick_params(axis="x", rotation=30 if words else 0)
        ax.set_title(title, loc="left")
        ax.set(xlabel="predicted", ylabel="label" if i == 0 else "")
    return canvas


def pairs(table: Table, theme: Theme) -> Canvas:
    """One score against the rest: a 2 x 2 matrix for each row of a table with the columns TP, FN, FP, TN; printed above, here below."""
    lines = list(table.lines())
    canvas = Canvas(figsize=(2.1 * len(lines) + 0.6, 4.3), layout="constrained")
    axes = canvas.subplots(2, len(lines), squeeze=False)
    for above, what in enumerate(("printed", "here")):
        for ax, (row, cells) in zip(axes[above], lines, strict=True):
            value = dict(zip(table.columns, (getattr(c, what) for c in cells), strict=True))
            heat(ax, np.array([[value["TP"], value["FN"]], [value["FP"], value["TN"]]]), ["score", "rest"], ["score", "rest"], theme)
            ax.set_title(row if above == 0 else "", loc="left")
        axes[above][0].set_ylabel(f"{what}\nlabel")
    for ax in axes[1]:
        ax.set_xlabel("predicted")
    return canvas
