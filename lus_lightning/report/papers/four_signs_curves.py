"""Several signs at once: what each does as its threshold moves."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from sklearn.metrics import roc_auc_score, roc_curve

from lus_lightning.evaluation.metrics import metrics
from lus_lightning.report.figures import Figure, Theme
from lus_lightning.report.papers.base import Section
from lus_lightning.report.tables import Here, Table, cells

THRESHOLDS: Final = tuple(round(0.05 * i, 2) for i in range(1, 20))
CURVES: Final = {"Precision": "precision_1", "Recall": "sensitivity_1", "Specificity": "specificity_1"}


def curves_section(rows: pd.DataFrame, names: Mapping[str, str]) -> Section:
    """Precision, recall and specificity over the threshold, and ROC curves, of the labelled rows of a member."""
    table = threshold_table(rows, names)
    text = (
        "At a threshold a sign counts as present where its probability is at least that high. They stand here to be looked at: a threshold"
        " that is chosen by the tested patients flatters itself.",
    )
    over = Figure("thresholds", "Precision, recall and specificity over the threshold", "Three curves for each sign",
                  partial(threshold_curves, table), table)  # fmt: skip
    roc = Figure("roc", "ROC curve of each sign", "True positive rate over false positive rate for each sign",
                 partial(roc_curves, dict(_by_sign(rows, names))))  # fmt: skip
    return Section("Thresholds", text, (), (over, roc))


def threshold_table(rows: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """One row per sign and threshold."""
    entries = []
    for name, of in _by_sign(rows, names):
        target, p = of["target"].to_numpy(), of["p_1"].to_numpy()
        for threshold in THRESHOLDS:
            # Probabilities are float32: their 0.3 is greater than Python's.
            found = metrics(target, (p >= np.float32(threshold)).astype(int), None, 2, ordered=False)
            entries += [
                (f"{name} · {threshold:.2f}", column, None, Here(found[key], n=len(of), n_patients=of["patient"].nunique()))
                for column, key in CURVES.items()
            ]
    note = "A sign with no image above the threshold has precision 0."
    return Table("thresholds", "Each sign at each threshold", "", cells(entries), digits=2, notes=(note,))


def threshold_curves(table: Table, theme: Theme) -> Canvas:
    """One panel a sign, a line for each measure."""
    by_sign: dict[str, list] = {}
    for row, line in table.lines():
        by_sign.setdefault(row.rpartition(" · ")[0], []).append([cell.here for cell in line])
    canvas = Canvas(figsize=(2.6 * len(by_sign) + 0.6, 2.9), layout="constrained")
    axes = canvas.subplots(1, len(by_sign), sharey=True, squeeze=False)[0]
    for ax, (sign, values) in zip(axes, by_sign.items(), strict=True):
        for column, line, colour, style in zip(CURVES, np.array(values).T, theme["series"][1:], ("-", "--", ":"), strict=True):
            ax.plot(THRESHOLDS, line, style, color=colour, label=column, lw=1.8)
        ax.set_title(sign, loc="left")
        ax.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        ax.grid()
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(CURVES), frameon=False)
    return canvas


def roc_curves(by_sign: Mapping[str, pd.DataFrame], theme: Theme) -> Canvas:
    """One line a sign; a sign that is everywhere or nowhere has none."""
    canvas = Canvas(figsize=(5.6, 4.2), layout="constrained")
    ax = canvas.subplots()
    ax.plot([0, 1], [0, 1], color=theme["soft"], lw=1)
    for (sign, rows), colour, style in zip(by_sign.items(), theme["series"], ("-", "--", ":", "-."), strict=False):
        if rows["target"].nunique() == 2:
            false, true, _ = roc_curve(rows["target"], rows["p_1"])
            area = roc_auc_score(rows["target"], rows["p_1"])
            ax.plot(false, true, style, color=colour, lw=1.8, label=f"{sign}, area {area:.2f}")
    ax.set(xlabel="1 − specificity", ylabel="recall", xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    ax.legend(loc="lower right", frameon=False)
    return canvas


def _by_sign(rows: pd.DataFrame, names: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    return ((name, rows[rows["sign"] == sign]) for sign, name in names.items() if (rows["sign"] == sign).any())
