"""Checks on a run's own tables (`split.csv`, `predictions.parquet`), independent of the code that made them."""

from pathlib import Path

import numpy as np
import pandas as pd

from lus_lightning.data.tables import read_own
from lus_lightning.errors import UserError
from lus_lightning.scoring.levels import probabilities

KEY = ["row", "frame", "member", "sign", "split"]
COLUMNS = [*KEY, "clip", "patient", "exam", "zone", "protocol", "fold", "target", "pred", "p_0", "p_1", "standard"]
SIDES = {"train": "train", "val": "val", "test": "test", "oof": "train"}
"""The side of the split on which the rows of each `split` of the predictions table lie."""


def check_predictions(predictions: pd.DataFrame) -> None:
    """Whether a predictions table can be scored.

    Raises:
        UserError: no rows, a missing column, a row without a patient or of an unknown split, duplicates, two standards, a target or
            prediction that is no class, a probability outside [0, 1], whole-clip and frame rows of one member and clip, or an exam
            with two zone protocols.
    """
    absent = [c for c in COLUMNS if c not in predictions.columns]
    if absent:
        raise UserError(f"The predictions table has no column {', '.join(absent)}: make it again with `test`.")
    if predictions.empty:
        raise UserError("The predictions table has no rows: run `test` first.")
    _refuse(predictions, predictions["patient"].isna(), "names no patient: name the patient of each clip in the index")
    _refuse(predictions, ~predictions["split"].isin(SIDES), f"has a split that is none of {', '.join(SIDES)}: evaluate tested rows only")
    _refuse(predictions, predictions.duplicated(KEY), "stands there twice: de-duplicate the table on " + ", ".join(KEY))
    standards = sorted(predictions["standard"].dropna().unique())
    if len(standards) > 1:
        raise UserError(
            f"One table mixes the scoring standards {' and '.join(standards)}, in which 0-3 mean different things: evaluate each apart."
        )
    probs = probabilities(predictions)
    n_classes = np.where(predictions["sign"].isna(), probs.shape[1], 2)
    for column in ("target", "pred"):
        value = predictions[column]
        wrong = value.isna() | (value < -1) | (value >= n_classes)
        _refuse(predictions, wrong, f"has a {column} that is neither a class nor -1: mend the table")
    _refuse(predictions, np.isinf(probs).any(axis=1) | (probs < 0).any(axis=1) | (probs > 1).any(axis=1), "has a probability outside 0-1")
    clip = ["split", "member", "sign", "row"]
    kinds = predictions.assign(whole=predictions["frame"] < 0).groupby(clip, dropna=False)["whole"].transform("nunique")
    _refuse(predictions, kinds > 1, "belongs to a clip that has both whole-clip (frame -1) and frame rows: keep one kind")
    protocols = predictions.groupby(["patient", "exam"], dropna=False)["protocol"].transform("nunique")
    _refuse(predictions, protocols > 1, "belongs to an exam with two zone protocols: name the exams apart in the index")


def patients_on_two_sides(split: pd.DataFrame, predictions: pd.DataFrame | None = None) -> pd.DataFrame:
    """Patients that are in more than one of train, val and test, or in more than one fold.

    Args:
        split: a run's `split.csv` (`clip`, `patient`, `split`, `fold`).
        predictions: the run's predictions table, whose rows lie on the side that its column `split` says (`oof`: train, in its `fold`).

    Returns:
        A table `patient`, `where` (text), empty when all is well.
    """
    tables = [split[["patient", "split", "fold"]]]
    if predictions is not None:
        sides = predictions.drop_duplicates(["patient", "split", "fold"]).assign(split=lambda t: t["split"].map(SIDES))
        # Only out-of-fold rows lie in a fold; a test row's `fold` says which network spoke.
        tables.append(sides.loc[(sides["split"] != "train") | (sides["fold"] >= 0), ["patient", "split", "fold"]])
    places = pd.concat([t.astype({"patient": "string"}) for t in tables], ignore_index=True)
    places["where"] = places["split"] + np.where(places["split"] == "train", " fold " + places["fold"].astype(str), "")
    places = places.drop_duplicates(["patient", "where"]).sort_values(["patient", "where"])
    where = places.groupby("patient")["where"].agg(list)
    return where[where.map(len) > 1].str.join(" and ").reset_index()


def audit_run(folder: str | Path) -> str:
    """Check a run's `split.csv` and `predictions.parquet`; one sentence on what was found in order.

    Raises:
        UserError: a missing file, whatever `check_predictions` refuses, or a patient on two sides of a split by patient.
    """
    paths = [Path(folder) / name for name in ("split.csv", "predictions.parquet")]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is not there: give the folder of a run that has been tested.")
    split, predictions = read_own(paths[0]), pd.read_parquet(paths[1])
    check_predictions(predictions)
    warnings = check_split(split, predictions)
    patients, clips = split["patient"].nunique(), predictions["clip"].nunique()
    found = f"{patients} patients, {clips} predicted clips, {len(predictions)} rows without duplicates."
    return " ".join([found, *(warnings or ["No patient is on two sides."])])


def check_split(split: pd.DataFrame, predictions: pd.DataFrame) -> list[str]:
    """A warning for every table where the unit of the split is not the patient.

    Raises:
        UserError: a split by patient that has a patient on two sides.
    """
    twice = patients_on_two_sides(split, predictions)
    unit = " and ".join(sorted(split["unit"].astype(str).unique()))
    if unit != "patient":
        share = f"{len(twice)} of {split['patient'].nunique()} patients"
        return [f"Split by {unit}, not by patient: {share} are on two sides, so the figures flatter."]
    if len(twice):
        shown = "; ".join(f"{r.patient} ({r.where})" for r in twice.head(3).itertuples())
        raise UserError(f"{len(twice)} patients are on two sides of a split by patient: {shown}. Split again, and train again.")
    return []


def _refuse(predictions: pd.DataFrame, bad: pd.Series | np.ndarray, what: str) -> None:
    """Raise a UserError that shows the first bad row of the predictions table."""
    at = np.flatnonzero(np.asarray(bad, dtype=bool))
    if len(at):
        row = predictions.iloc[at[0]]
        raise UserError(f"Row {at[0]} of the predictions table (clip {row['clip']}, frame {row['frame']}, member {row['member']}) {what}.")
