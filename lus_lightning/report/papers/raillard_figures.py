"""Raillard et al. 2022: drawings of Figs. 2-4, and the paper's way of averaging confusion matrices."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_auc_score, roc_curve

from lus_lightning.evaluation.metrics import confusion
from lus_lightning.labels import SCORES
from lus_lightning.report.figures import Theme, heat
from lus_lightning.report.tables import Table


def fold_mean_confusion(rows: pd.DataFrame) -> np.ndarray:
    """(4, 4) share of each label's images (row) given each score: by fold, then the mean of the folds that have the label; NaN: none."""
    folds = []
    for _, fold in rows.groupby("fold"):
        counts = confusion(fold["target"].to_numpy(), fold["pred"].to_numpy(), len(SCORES))
        of = counts.sum(axis=1, keepdims=True)
        folds.append(np.divide(counts[:, :-1], of, out=np.full((len(SCORES),) * 2, np.nan), where=of > 0))
    stack = np.stack(folds)
    there = (~np.isnan(stack)).sum(axis=0)
    return np.divide(np.nansum(stack, axis=0), there, out=np.full(there.shape, np.nan), where=there > 0)


def zone_bars(table: Table, theme: Theme) -> Canvas:
    """Grouped bars, a group a zone (row) and a bar a network (column), with intervals."""
    lines, columns = list(table.lines()), table.columns
    canvas = Canvas(figsize=(8.8, 3.6), layout="constrained")
    ax = canvas.subplots()
    width, colours = 0.8 / len(columns), theme["series"][1:]
    for i, column in enumerate(columns):
        of = [cells[i] for _, cells in lines]
        at = np.arange(len(lines)) + (i - (len(columns) - 1) / 2) * width
        height = np.array([c.here for c in of])
        ax.bar(at, height, width * 0.92, color=colours[i % len(colours)], label=column)
        spread = np.abs(np.array([[c.here - c.low, c.high - c.here] for c in of])).T
        ax.errorbar(at, height, spread, fmt="none", ecolor=theme["ink"], elinewidth=0.9, alpha=0.75)
    long = max(len(row) for row, _ in lines) > 4
    ax.set_xticks(np.arange(len(lines)), [row.replace("-", "\n") if long else row for row, _ in lines], fontsize=8 if long else 10)
    ax.set(ylim=(0, 1.02), ylabel="share scored right")
    ax.grid(axis="y")
    ax.tick_params(axis="x", length=0)
    canvas.legend(loc="outside upper left", ncols=len(columns), frameon=False)
    return canvas


def curves_and_matrices(networks: Mapping[str, pd.DataFrame], theme: Theme) -> Canvas:
    """A row for each network: left the ROC curves of the scores, right the mean confusion matrix of the folds."""
    canvas = Canvas(figsize=(7.6, 3.2 * len(networks)), layout="constrained")
    axes = canvas.subplots(len(networks), 2, squeeze=False)
    names = [str(c) for c in SCORES]
    for (left, right), (name, rows) in zip(axes, networks.items(), strict=True):
        left.plot([0, 1], [0, 1], color=theme["grid"], lw=1)
        for c, style in zip(SCORES, ("-", "--", "-.", ":"), strict=True):
            positive = rows["target"] == c
            if 0 < positive.sum() < len(rows):
                area = roc_auc_score(positive, rows[f"p_{c}"])
                wrong, right_share, _ = roc_curve(positive, rows[f"p_{c}"])
                colour = (*theme["series"][1:], theme["ink"])[c]
                left.plot(wrong, right_share, style, color=colour, lw=1.8, label=f"score {c}, area {area:.3f}")
        left.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal", xlim=(-0.01, 1), ylim=(0, 1.01))
        left.set_title(name, loc="left")
        left.legend(loc="lower right", frameon=False, fontsize=8.5)
        heat(right, fold_mean_confusion(rows), names, names, theme, digits=2)
        right.set(xlabel="predicted", ylabel="label")
    return canvas


def sums(exams: Mapping[str, pd.DataFrame], theme: Theme) -> Canvas:
    """Predicted against labelled sum of each exam; a dot's area is the number of exams there."""
    canvas = Canvas(figsize=(2.9 * len(exams), 3.7), layout="constrained")
    top = max(float(e[["sum_target", "sum_pred"]].max().max()) for e in exams.values()) + 1
    for i, (ax, (name, table)) in enumerate(zip(canvas.subplots(1, len(exams), squeeze=False)[0], exams.items(), strict=True)):
        dots = table.dropna(subset=["sum_target", "sum_pred"]).groupby(["sum_target", "sum_pred"]).size().reset_index(name="n")
        ax.plot([-1, top], [-1, top], color=theme["soft"], lw=1)
        ax.scatter(dots["sum_target"], dots["sum_pred"], s=28 * dots["n"], color=theme["series"][-1], alpha=0.75, lw=0)
        ax.set(xlim=(-1, top), ylim=(-1, top), aspect="equal", xlabel="labelled sum", ylabel="predicted sum" if i == 0 else "")
        ax.set_title(name.replace(", here ", ",\nhere "), loc="left")
        ax.grid()
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return canvas
