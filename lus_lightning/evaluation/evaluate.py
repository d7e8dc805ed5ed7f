"""The figures of a run: members x levels, each with its interval, in the structure of `metrics.json`."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from lus_lightning.errors import UserError
from lus_lightning.evaluation import audits
from lus_lightning.evaluation.intervals import FEW_PATIENTS, patient_bootstrap
from lus_lightning.evaluation.metrics import (
    Resampled,
    confusion,
    exam_metrics,
    exam_statistic,
    known_probabilities,
    metrics,
    score_statistic,
)
from lus_lightning.labels import SCORES, SIGNS
from lus_lightning.scoring.levels import LEVELS, aggregate

QUOTED = ("test", "oof", "val", "train")
"""Which split is a member's quoted one: the first of these that it has."""


def evaluate(
    predictions: pd.DataFrame,
    split: pd.DataFrame | None = None,
    truth: pd.DataFrame | None = None,
    seed: int = 0,
    replicates: int = 1000,
    rule: str = "mean",
    zone_rule: str = "worst",
    task: str = "score",
) -> dict[str, Any]:
    """Every metric of every member at every level, as plain JSON values (NaN is None).

    Args:
        predictions: the predictions table of a run.
        split: the run's `split.csv`, to check that no patient is on two sides.
        truth: simulated data's clean labels, `clip`, `frame` (-1: the whole clip), `truth_score`.
        seed: of the resamples of patients; `replicates`: how many.
        rule, zone_rule: see `levels.aggregate`.
        task: what the classes are, `score` (0-3) or `sign` (places in `labels.SIGNS`, which have no order); rows that name a `sign`
            say themselves that they are of several signs.

    Returns:
        `members` -> member -> level -> (sign tasks: sign ->) {metric: value, metric_ci: [low, high] or None, `n`, `n_patients`,
        `confusion` (rows: targets, last column: abstained), `patients_per_class`, `resamples_lacking_a_class` (share)};
        `split_of` -> member -> the split that is quoted there (see `QUOTED`); `by_split` -> split -> members as above, for
        what else the table holds; `truth` -> `members`, against the clean labels, if given; `scoring` (rules, resamples); `warnings`.

    Raises:
        UserError: what `audits.check_predictions`, `audits.check_split` and `levels.aggregate` refuse; two clean labels of one frame; a
            task that the table is not of.
    """
    audits.check_predictions(predictions)
    task = "signs" if task == "score" and predictions["sign"].notna().all() else task
    _check_task(predictions, task)
    warnings = audits.check_split(split, predictions) if split is not None else []
    warnings += _label_warnings(predictions, task)
    split_of = {str(m): next(s for s in QUOTED if s in set(g["split"])) for m, g in predictions.groupby("member", sort=False)}
    quoted = predictions["split"] == predictions["member"].map(split_of)

    def members(table: pd.DataFrame) -> dict[str, Any]:
        return _members(table, seed, replicates, rule, zone_rule, task, warnings)

    result: dict[str, Any] = {"members": members(predictions[quoted]), "split_of": split_of}
    result["by_split"] = {str(s): members(g) for s, g in predictions[~quoted].groupby("split", sort=False)}
    if truth is not None and task == "score":  # the clean labels are scores
        result["truth"] = {"members": members(_with_truth(predictions[quoted], truth, warnings))}
    resampling = {"replicates": replicates, "seed": seed, "interval": "95 % expanded percentile over patients"}
    result["scoring"] = {"task": task, "rule": rule, "zone_rule": zone_rule} | resampling
    result["warnings"] = list(dict.fromkeys(warnings))
    return _plain(result)


def _check_task(predictions: pd.DataFrame, task: str) -> None:
    """Refuse a table that is not of the task."""
    each = predictions["sign"].notna()
    if task not in ("score", "sign", "signs") or each.any() != each.all() or each.any() != (task == "signs"):
        held = "several signs at once" if each.all() else "one class a sample" if not each.any() else "both"
        raise UserError(f"The predictions table is of {held}, and the task is {task!r}: test with the method that was trained.")
    if task == "sign" and predictions["standard"].notna().any():
        raise UserError("The predictions table names a scoring standard, so its classes are severity scores and not signs.")


def _members(table: pd.DataFrame, seed: int, replicates: int, rule: str, zone_rule: str, task: str, warnings: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {str(m): {} for m in table["member"].unique()}
    for level in LEVELS if task == "score" else LEVELS[:2]:  # only severity has a worst zone
        scored = aggregate(table[table["frame"] >= 0] if level == "frame" else table, level, rule, zone_rule, task != "sign")
        for member, sign, rows in _groups(scored):
            labelled = rows[rows["target"] >= 0]
            if labelled.empty:
                warnings.append(f"{member}, {level} level{f', {sign}' if sign else ''}: no row has a label, so there are no figures.")
                continue
            record = _record(labelled, level, seed, replicates, task, warnings)
            if sign:
                found[member].setdefault(level, {})[sign] = record
            else:
                found[member][level] = record
    return found


def _groups(table: pd.DataFrame) -> Iterator[tuple[str, str | None, pd.DataFrame]]:
    for (member, sign), rows in table.groupby(["member", "sign"], dropna=False, sort=False):
        yield str(member), sign if isinstance(sign, str) else None, rows


def _record(rows: pd.DataFrame, level: str, seed: int, replicates: int, task: str, warnings: list[str]) -> dict[str, Any]:
    """One member's figures at one level (of several signs: of one of them)."""
    names = {"score": tuple(map(str, SCORES)), "sign": SIGNS, "signs": ("absent", "present")}[task]
    n_classes, ordered = len(names), task == "score"

    def statistic(table: pd.DataFrame, units: np.ndarray) -> Resampled:
        return score_statistic(table, units, n_classes, ordered)

    target, pred = rows["target"].to_numpy(), rows["pred"].to_numpy()
    values = metrics(target, pred, known_probabilities(rows, n_classes), n_classes, ordered)
    intervals = patient_bootstrap(rows, statistic, replicates, seed)
    if level == "exam":
        values |= exam_metrics(rows)
        intervals |= patient_bootstrap(rows, exam_statistic, replicates, seed)
    n_patients, lacking = rows["patient"].nunique(), intervals["sensitivity"].undefined
    if n_patients < FEW_PATIENTS:
        warnings.append(f"Only {n_patients} patients ({rows['split'].iloc[0]}): from fewer than {FEW_PATIENTS} an interval is too narrow.")
    if intervals["accuracy"].low == intervals["accuracy"].high:
        warnings.append("An interval without width means that all patients gave the same value, not that it is certain.")
    if lacking > 0:
        warnings.append(
            "Some resamples of patients lack a class; macro and that class's intervals come from the others, and are left out where they "
            "are more than 5 % (resamples_lacking_a_class in metrics.json)."
        )
    record: dict[str, Any] = dict(values)
    for name, interval in intervals.items():
        record[f"{name}_ci"] = None if np.isnan(interval.low) else [interval.low, interval.high]
    if task == "sign":  # a class goes by its name
        record = {re.sub(r"_(\d)(?=_ci$|$)", lambda c: f"_{SIGNS[int(c[1])]}", name): value for name, value in record.items()}
    per_class = [rows.loc[target == c, "patient"].nunique() for c in range(n_classes)]
    return record | {
        "n": len(rows),
        "n_patients": n_patients,
        "classes": list(names),
        "confusion": confusion(target, pred, n_classes),
        "patients_per_class": per_class,
        "resamples_lacking_a_class": lacking,
    }


def _label_warnings(predictions: pd.DataFrame, task: str) -> list[str]:
    """What a reader must know about the labels, the standard and the zones of a table."""
    samples = predictions.drop_duplicates(["split", "clip", "frame", "sign"])
    known = samples["target"] >= 0
    found = []
    if not known.all():
        found.append(f"{(~known).sum()} of {len(samples)} samples have no label and take no part in the figures.")
    clips = samples[known & (samples["frame"] >= 0)].groupby(["split", "clip", "sign"], dropna=False)
    if (clips.size() > 1).any() and (clips["target"].nunique() == 1).all():
        found.append("All frames of a clip have one target: where only clips are labelled, a frame's target is its clip's.")
    if task != "score":
        return found
    if predictions["standard"].isna().any():
        found.append("Some scores do not say which standard they follow: 0-3 mean different things in different standards.")
    unzoned = predictions[predictions["zone"].isna()]
    if len(unzoned):
        exams = unzoned.drop_duplicates(["patient", "exam"])
        found.append(
            f"{len(exams)} exams have clips without a zone: such a clip counts for the exam's worst like a zone, and enters no sum."
        )
    return found


def _with_truth(predictions: pd.DataFrame, truth: pd.DataFrame, warnings: list[str]) -> pd.DataFrame:
    """Predictions whose targets are the clean labels: the frame's, else its clip's."""
    if truth.duplicated(["clip", "frame"]).any():
        row = truth[truth.duplicated(["clip", "frame"])].iloc[0]
        raise UserError(f"The clean labels give clip {row['clip']}, frame {row['frame']} twice: keep one row for each frame.")
    known = truth.dropna(subset="truth_score").set_index(["clip", "frame"])["truth_score"]
    own = known.reindex(pd.MultiIndex.from_frame(predictions[["clip", "frame"]])).to_numpy(dtype=float)
    whole = known.reindex(pd.MultiIndex.from_arrays([predictions["clip"], [-1] * len(predictions)])).to_numpy(dtype=float)
    target = np.where(np.isnan(own), whole, own)
    if np.isnan(target).any():
        warnings.append(f"{int(np.isnan(target).sum())} of {len(target)} predictions have no clean label and take no part in `truth`.")
    return predictions.assign(target=np.nan_to_num(target, nan=-1).astype(np.int64))


def _plain(value: Any) -> Any:
    """Only what JSON knows: NumPy becomes Python, NaN becomes None."""
    simple: dict[type, Callable[[Any], Any]] = {
        dict: lambda v: {k: _plain(x) for k, x in v.items()},
        list: lambda v: [_plain(x) for x in v],
        np.ndarray: lambda v: v.tolist(),
    }
    if type(value) in simple:
        return simple[type(value)](value)
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return int(value) if isinstance(value, np.integer) else value
