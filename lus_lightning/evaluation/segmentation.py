"""How well masks agree, clip by clip: overlap of each class, and how far the pleural line is from the true one.

A clip is counted once (`clip_counts`), as a few sums over its frames that a table keeps; every figure follows from the table.

Conventions. A clip's Dice and IoU come from the sums over its frames, so that a frame in which a class hardly shows weighs little.
Clips that truly have the class are averaged: of a clip without it Dice knows only 1 (nothing found) and 0 (one pixel found). What was
found there is told apart, as `false_share` (Reinke et al. 2024, "Understanding metric-related pitfalls in image analysis validation",
Nat. Methods 21:182, on empty references). Intervals draw the patients that have a value.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from lus_lightning.evaluation.intervals import patient_bootstrap
from lus_lightning.evaluation.metrics import Resampled, Statistic
from lus_lightning.labels import MASK_CLASSES

LINE: Final = "pleural_line"
_KEYS: Final[list[str]] = ["clip", "patient", "class"]
_AREAS: Final = ["intersection", "predicted", "true", "pixels"]
_LINES: Final = ["lines_true", "lines_predicted", "lines_both", "distance_samples", "distance_mm"]


def clip_counts(
    pred: np.ndarray, true: np.ndarray, clip: str, patient: str, sample_mm: float | None = None, classes: Sequence[str] = MASK_CLASSES
) -> pd.DataFrame:
    """What the figures need of a clip, one row per class; counts of parts of a clip may stand in one table, they add up.

    Args:
        pred, true: masks in beam space (T, scan lines, depth samples) uint8, bit i set where `labels.MASK_CLASSES[i]` is.
        clip, patient: whose.
        sample_mm: distance of two depth samples in mm, or none where it is not known.
        classes: to count, of `labels.MASK_CLASSES`.

    Returns:
        `clip`, `patient`, `class`; in pixels `intersection`, `predicted`, `true`, `pixels`. Of the pleural line also, in scan lines of
        all frames, `lines_true`, `lines_predicted`, `lines_both`, and the sum over `lines_both` of the distance between the middles of
        what is marked there, `distance_samples` and `distance_mm` (NaN where `sample_mm` is none). Of other classes these are NaN.

    Raises:
        ValueError: the shapes differ.
    """
    if pred.shape != true.shape:
        raise ValueError(f"predicted masks {pred.shape} and true masks {true.shape} differ in shape")
    rows = []
    for name in classes:
        bit = np.uint8(1 << MASK_CLASSES.index(name))
        p, t = pred & bit > 0, true & bit > 0
        areas = dict(zip(_AREAS, ((p & t).sum(), p.sum(), t.sum(), p.size), strict=True))
        rows.append({"clip": clip, "patient": patient, "class": name} | areas | (_line_counts(p, t, sample_mm) if name == LINE else {}))
    return pd.DataFrame(rows, columns=[*_KEYS, *_AREAS, *_LINES])


def _line_counts(pred: np.ndarray, true: np.ndarray, sample_mm: float | None) -> dict[str, float]:
    both = pred.any(axis=-1) & true.any(axis=-1)
    distance = np.abs(_middle(pred[both]) - _middle(true[both])).sum()
    return {
        "lines_true": true.any(axis=-1).sum(),
        "lines_predicted": pred.any(axis=-1).sum(),
        "lines_both": both.sum(),
        "distance_samples": distance,
        "distance_mm": np.nan if sample_mm is None else distance * sample_mm,
    }


def _middle(lines: np.ndarray) -> np.ndarray:
    """Mean position (N,) of what is marked on scan lines (N, depth samples), in samples."""
    return lines @ np.arange(lines.shape[-1], dtype=np.float64) / lines.sum(axis=-1)


def clip_values(counts: pd.DataFrame) -> pd.DataFrame:
    """The figures of each clip and class, NaN where it has none.

    Args:
        counts: as `clip_counts` makes it, of many clips.

    Returns:
        `clip`, `patient`, `class`, `true` (pixels); `dice`, `iou` where the class truly is; `false_share`, of the pixels of a clip that
        truly lacks the class, those said to be of it; of the pleural line `distance_samples` and `distance_mm` (mean over the scan
        lines where both are), `lines_missed` (share of the true ones that lack a prediction), `lines_false` (share of the predicted
        ones where truly none is).
    """
    table = counts.groupby(_KEYS, sort=False)[_AREAS + _LINES].sum(min_count=1).reset_index()
    has = table["true"] > 0
    union = table["predicted"] + table["true"]
    return table[[*_KEYS, "true"]].assign(
        dice=(2 * table["intersection"] / union).where(has),
        iou=(table["intersection"] / (union - table["intersection"])).where(has),
        false_share=(table["predicted"] / table["pixels"]).where(~has),
        distance_samples=table["distance_samples"] / table["lines_both"].replace(0, np.nan),
        distance_mm=table["distance_mm"] / table["lines_both"].replace(0, np.nan),
        lines_missed=1 - table["lines_both"] / table["lines_true"].replace(0, np.nan),
        lines_false=1 - table["lines_both"] / table["lines_predicted"].replace(0, np.nan),
    )


def mean_statistic(column: str) -> Statistic:
    """The mean of a column over rows, for `intervals.patient_bootstrap` and `intervals.paired_difference`; NaN takes no part."""

    def statistic(table: pd.DataFrame, units: np.ndarray) -> Resampled:
        values = table[column].to_numpy(dtype=float)
        known, n_units = ~np.isnan(values), int(units.max(initial=0)) + 1
        sums = np.bincount(units[known], weights=values[known], minlength=n_units)
        rows = np.bincount(units[known], minlength=n_units)

        def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
            drawn = np.asarray(weights, dtype=np.float64)[:, :n_units]
            with np.errstate(invalid="ignore"):
                return {column: (drawn @ sums) / (drawn @ rows)}

        return resampled

    return statistic


def segmentation_metrics(counts: pd.DataFrame, seed: int = 0, replicates: int = 1000) -> dict[str, dict[str, Any]]:
    """Each class's figures: means over clips, with 95 % intervals over patients.

    Args:
        counts: as `clip_counts` makes it, of many clips.
        seed: of the resamples of patients; `replicates`: how many.

    Returns:
        class -> the values of `clip_values` that it has, each `<name>` with `<name>_ci` ([low, high], or None where there is none) and
        `<name>_n` (clips that have a value); `n` and `n_patients` (clips and patients that truly have the class), `n_clips` (all).
        Dice and IoU are None where no clip has the class.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, rows in clip_values(counts).groupby("class", sort=False):
        has = rows[rows["true"] > 0]
        record: dict[str, Any] = {"n": len(has), "n_patients": has["patient"].nunique(), "n_clips": len(rows)}
        for column in rows.columns.drop([*_KEYS, "true"]):
            known = rows.dropna(subset=column)
            if len(known):
                ci = patient_bootstrap(known, mean_statistic(column), replicates, seed)[column]
                record[column] = float(known[column].mean())
                record[f"{column}_ci"] = None if np.isnan(ci.low) else [ci.low, ci.high]
                record[f"{column}_n"] = len(known)
        found[str(name)] = {"dice": None, "iou": None} | record
    return found
