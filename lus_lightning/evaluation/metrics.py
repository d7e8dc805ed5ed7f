"""Every quoted metric, as a function of weights over units, so that a bootstrap of all of them is a few matrix products.

A unit (a patient) contributes its confusion matrix, and for ROC-AUC its counts of (positive, negative) pairs against every other unit;
a resample is a vector of weights over units. The plain value is the resample that takes each unit once.

Conventions. Rows without a target (-1) take no part. An abstention (pred -1) is an error in accuracy, a miss in sensitivity, no alarm in
specificity and precision, and outside kappa, which knows no such category; ROC-AUC ranks every row. What belongs to a class without
targets is NaN and takes no part in macro means; a class that has targets and is never predicted has precision 0 (scikit-learn's default).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lus_lightning.scoring.levels import probabilities

Resampled = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Weights (R, U) of U units in R resamples -> name -> (R,) values, NaN where a resample leaves one undefined."""
Statistic = Callable[[pd.DataFrame, np.ndarray], Resampled]
"""A table and the unit (N,) of each of its rows, 0..U-1 and each of them there -> the function of weights."""


def metrics(
    target: np.ndarray, pred: np.ndarray, probs: np.ndarray | None = None, n_classes: int = 4, ordered: bool = True
) -> dict[str, float]:
    """All metrics of one table of predictions; the module's text says what absent classes and abstentions do.

    Args:
        target: (N,) int, a class or -1 (unknown, left out).
        pred: (N,) int, a class or -1 (abstained).
        probs: (N, C) in [0, 1], or None for no ROC-AUC.
        n_classes: C.
        ordered: whether the classes have an order, as severity has and signs have not.

    Returns:
        `accuracy`, `coverage` (share not abstained), `kappa` (Cohen's, unweighted), and as macro mean and `<name>_<class>`: `sensitivity`,
        `specificity`, `precision`, `f1`, `auroc` (one against the rest); `accuracy_<class>` (one against the rest). Of ordered classes
        also `accuracy_within_1` and `qwk` (quadratic weighted kappa); of four `auroc_severe` (2-3 against 0-1, ranked by p_2 + p_3).
    """
    units = np.zeros(len(target), dtype=np.int64)
    resampled = _resampled(np.asarray(target), np.asarray(pred), None if probs is None else np.asarray(probs), units, n_classes, ordered)
    return {name: float(value[0]) for name, value in resampled(np.ones((1, 1))).items()}


def confusion(target: np.ndarray, pred: np.ndarray, n_classes: int) -> np.ndarray:
    """(C, C + 1) int: rows are targets, columns predictions, the last column abstentions; unknown targets left out."""
    return _unit_confusion(np.asarray(target), np.asarray(pred), np.zeros(len(target), dtype=np.int64), 1, n_classes)[0]


def score_statistic(table: pd.DataFrame, units: np.ndarray, n_classes: int = 4, ordered: bool = True) -> Resampled:
    """`metrics` of a predictions table, for `intervals.patient_bootstrap`; without columns `p_*`, or numbers in them, no ROC-AUC."""
    probs = known_probabilities(table, n_classes)
    return _resampled(table["target"].to_numpy(), table["pred"].to_numpy(), probs, units, n_classes, ordered)


def known_probabilities(table: pd.DataFrame, n_classes: int) -> np.ndarray | None:
    """(N, C) of a predictions table, None where it has no probability at all, as of a rule."""
    probs = probabilities(table)[:, :n_classes]
    return None if np.isnan(probs).all() else probs


def rank_statistic(column: str, other: str = "target") -> Statistic:
    """Spearman's rank correlation of two columns, for `intervals.patient_bootstrap`; NaN where either does not vary."""

    def statistic(table: pd.DataFrame, units: np.ndarray) -> Resampled:
        values = table[[column, other]].to_numpy(dtype=np.float64)

        def correlation(drawn: np.ndarray) -> float:
            rows = np.repeat(values, drawn[units], axis=0)
            return float(stats.spearmanr(rows).statistic) if len(rows) > 2 and np.ptp(rows, axis=0).all() else np.nan

        return lambda weights: {column: np.array([correlation(drawn) for drawn in np.asarray(weights).astype(np.int64)])}

    return statistic


def exam_metrics(exams: pd.DataFrame) -> dict[str, float]:
    """Agreement of the sums over zones, predicted against labelled.

    Args:
        exams: a table of `levels.aggregate(..., "exam")`; exams without both sums are left out.

    Returns:
        `sum_icc`: ICC(2,1), two-way random effects, absolute agreement, one rater (Shrout and Fleiss 1979); `sum_bias`, the mean of
        predicted minus labelled in points; `sum_loa_low`, `sum_loa_high`, bias -+ 1.96 standard deviations (Bland and Altman 1986).
        NaN for fewer than two exams, and the ICC where nothing varies.
    """
    resampled = exam_statistic(exams, np.zeros(len(exams), dtype=np.int64))
    return {name: float(value[0]) for name, value in resampled(np.ones((1, 1))).items()}


def exam_statistic(exams: pd.DataFrame, units: np.ndarray) -> Resampled:
    """`exam_metrics` for `intervals.patient_bootstrap`: all of it follows from first and second moments, which add over patients."""
    pred, target = exams["sum_pred"].to_numpy(dtype=float), exams["sum_target"].to_numpy(dtype=float)
    both = ~(np.isnan(pred) | np.isnan(target))
    level, gap = (pred + target)[both] / 2, (pred - target)[both]
    columns = (np.ones(both.sum()), level, level**2, gap, gap**2)
    n_units = int(units.max(initial=0)) + 1
    moments = np.stack([np.bincount(units[both], weights=c, minlength=n_units) for c in columns], axis=1)  # (U, 5)

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        n, sum_level, sum_level2, sum_gap, sum_gap2 = (weights @ moments).T
        with np.errstate(divide="ignore", invalid="ignore"):
            bias, freedom = sum_gap / n, np.where(n > 1, n - 1, np.nan)
            ms_rows = 2 * (sum_level2 - sum_level**2 / n) / freedom
            ms_error = (sum_gap2 - sum_gap**2 / n) / 2 / freedom
            ms_columns = n * bias**2 / 2
            icc = (ms_rows - ms_error) / (ms_rows + ms_error + 2 * (ms_columns - ms_error) / n)
            half = 1.96 * np.sqrt(np.maximum(2 * ms_error, 0))
        return {"sum_icc": icc, "sum_bias": bias, "sum_loa_low": bias - half, "sum_loa_high": bias + half}

    return resampled


def _resampled(
    target: np.ndarray, pred: np.ndarray, probs: np.ndarray | None, units: np.ndarray, n_classes: int, ordered: bool
) -> Resampled:
    n_units = int(units.max(initial=0)) + 1
    counts = _unit_confusion(target, pred, units, n_units, n_classes)
    present = counts.sum(axis=(0, 2)) > 0
    rankings = {} if probs is None else _rankings(target, probs, units, n_units, n_classes, ordered)

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        weights = np.asarray(weights, dtype=np.float64)[:, :n_units]  # units behind the table's last have no row in it
        values = _from_counts((weights @ counts.reshape(n_units, -1)).reshape(-1, n_classes, n_classes + 1), present, ordered)
        areas = {name: _area(weights, *ranking) for name, ranking in rankings.items()}
        if areas:
            each = np.stack([areas[f"auroc_{c}"] for c in range(n_classes)], axis=1)
            areas["auroc"] = _macro(each, present)
        return values | areas

    return resampled


def _unit_confusion(target: np.ndarray, pred: np.ndarray, units: np.ndarray, n_units: int, n_classes: int) -> np.ndarray:
    """(U, C, C + 1) int64."""
    known = target >= 0
    column = np.where(pred < 0, n_classes, pred)[known]
    cell = (units[known] * n_classes + target[known]) * (n_classes + 1) + column
    shape = (n_units, n_classes, n_classes + 1)
    return np.bincount(cell.astype(np.int64), minlength=int(np.prod(shape))).reshape(shape)


def _macro(each: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(R, C) -> (R,): the mean over the classes that the whole table has; NaN in a resample that lacks one of them."""
    return each[:, present].mean(axis=1) if present.any() else np.full(len(each), np.nan)


def _from_counts(counts: np.ndarray, present: np.ndarray, ordered: bool) -> dict[str, np.ndarray]:
    """The metrics that follow from confusion matrices.

    Args:
        counts: (R, C, C + 1), one confusion matrix per resample.
        present: (C,) bool, the classes that the whole table has.
        ordered: whether the classes have an order.
    """
    n_classes = counts.shape[1]
    square, n = counts[..., :n_classes], counts.sum(axis=(1, 2))
    distance = np.abs(np.subtract.outer(np.arange(n_classes), np.arange(n_classes)))
    hit = np.diagonal(square, axis1=1, axis2=2)
    support, predicted = counts.sum(axis=2), square.sum(axis=1)
    seen, rows = square.sum(axis=(1, 2)), square.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappas = {"kappa": distance > 0} | ({"qwk": distance**2} if ordered else {})
        chance = {name: np.einsum("ri,ij,rj->r", rows, weight, predicted) / seen for name, weight in kappas.items()}
        there = np.where(support > 0, 1.0, np.nan)
        per_class = {
            "sensitivity": hit / support,
            "specificity": there * (n[:, None] - support - predicted + hit) / (n[:, None] - support),
            "precision": there * np.where(predicted > 0, hit / predicted, 0.0),
            "f1": 2 * hit / (support + predicted) * there,
        }
        values: dict[str, Any] = {
            "accuracy": hit.sum(axis=1) / n,
            "coverage": seen / n,
            **{name: 1 - (square * weight).sum(axis=(1, 2)) / chance[name] for name, weight in kappas.items()},
        }
        if ordered:
            values["accuracy_within_1"] = (square * (distance <= 1)).sum(axis=(1, 2)) / n
        right = there * (n[:, None] - support - predicted + 2 * hit) / n[:, None]
        values |= {f"accuracy_{c}": right[:, c] for c in range(n_classes)}
    for name, each in per_class.items():
        values[name] = _macro(each, present)
        values |= {f"{name}_{c}": each[:, c] for c in range(n_classes)}
    return values


def _rankings(target: np.ndarray, probs: np.ndarray, units: np.ndarray, n_units: int, n_classes: int, ordered: bool) -> dict[str, tuple]:
    known = target >= 0
    target, probs, units = target[known], np.asarray(probs, dtype=np.float64)[known], units[known]
    rankings = {f"auroc_{c}": _pairs(target == c, probs[:, c], units, n_units) for c in range(n_classes)}
    if n_classes == 4 and ordered:
        rankings["auroc_severe"] = _pairs(target >= 2, probs[:, 2] + probs[:, 3], units, n_units)
    return rankings


def _pairs(positive: np.ndarray, score: np.ndarray, units: np.ndarray, n_units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often a positive of unit i outranks a negative of unit j (ties count half): (U, U), with the positives and negatives (U,)."""
    if np.isnan(score).any():
        score = np.zeros(0)
        positive, units = np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)
    values, rank = np.unique(score, return_inverse=True)
    cell, shape = rank * n_units + units, (len(values), n_units)
    of = [np.bincount(cell[which], minlength=len(values) * n_units).reshape(shape).astype(np.float64) for which in (positive, ~positive)]
    wins = of[0].T @ (of[1].cumsum(axis=0) - of[1] / 2)
    return wins, of[0].sum(axis=0), of[1].sum(axis=0)


def _area(weights: np.ndarray, wins: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(R,) area under the ROC curve of weighted units: the share of (positive, negative) pairs in the right order."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((weights @ wins) * weights).sum(axis=1) / ((weights @ positives) * (weights @ negatives))
