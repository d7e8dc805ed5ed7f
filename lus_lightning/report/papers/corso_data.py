"""Corso: the clips (Table I), their lengths (Figs. 3 and 4), and how the training went (Figs. 6 and 7)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from lus_lightning.data.tables import read_own
from lus_lightning.evaluation.intervals import patient_bootstrap
from lus_lightning.evaluation.metrics import rank_statistic
from lus_lightning.labels import SCORES
from lus_lightning.report.figures import Figure
from lus_lightning.report.papers.base import Results, Section
from lus_lightning.report.papers.corso_figures import curves, lengths_by_patient, lengths_by_score
from lus_lightning.report.run import Run
from lus_lightning.report.tables import Here, Table, beside, bounded, cells

PARTS: Final = {"train": "Train Set", "test": "Test Set", "val": "Validation"}
"""Parts of a split and their rows in Table I; the report has no validation part."""


def labelled_clips(run: Run) -> pd.DataFrame | None:
    """Every labelled clip: `clip`, `patient`, `split`, `score`, `frames` (its length) and `fold`; None if the run kept none.

    In a cross-validated run (`folds` in its `run.json`) every clip is tested, in its fold; else the fold is -1.
    """
    path = run.folder / "lengths.csv"
    if not path.is_file():
        return None
    clips = read_own(path).drop(columns="fold", errors="ignore")
    if not run.info.get("folds"):
        return clips.assign(fold=-1)
    return clips.assign(split="test", fold=clips["clip"].map(run.split.set_index("clip")["fold"]))


def best_of(run: Run) -> list[dict[str, Any]]:
    """What chose the tested weights: `monitor`, `value`, `epoch`, in a cross-validated run for each fold; empty for the last epoch's."""
    best = run.info.get("best") or []
    return [best] if isinstance(best, dict) else list(best)


def data_section(results: Results) -> list[Section]:
    """Table I and the lengths, where the run kept them."""
    clips = labelled_clips(results.run)
    if clips is None:
        return []
    text = (
        "The paper pads every video to the longest with frames of zeros, having looked whether lengths tell scores or patients (Figs. 3 and"
        " 4, pictures without numbers). Here the network sees no padding."
    )
    tables = (table_1(results, clips), data_table(results, clips), rank_table(results, clips))
    by_score = Figure("fig_3", "Fig. 3: lengths and scores", "Histograms of the clips' lengths, one for each score",
                      partial(lengths_by_score, clips), lengths_table("lengths_by_score", "Score", clips, "score"))  # fmt: skip
    by_patient = Figure("fig_4", "Fig. 4: lengths and patients", "Number of clips by patient (row) and length (column)",
                        partial(lengths_by_patient, clips), lengths_table("lengths_by_patient", "Patient", clips, "patient"))  # fmt: skip
    return [Section("Data (Table I, Figs. 3 and 4)", (text,), tables, (by_score, by_patient))]


def table_1(results: Results, clips: pd.DataFrame) -> Table:
    """Clips by score in each part; in a cross-validated run of each fold too."""
    rows = {name: clips[clips["split"] == part] for part, name in PARTS.items()}
    rows |= {f"Fold {fold}": clips[clips["fold"] == fold] for fold in sorted(clips["fold"].unique()) if fold >= 0}
    here: dict[tuple[str, str], Here] = {}
    for name, own in rows.items():
        of = {"n": len(own), "n_patients": own["patient"].nunique()}
        if len(own):
            here |= {(name, f"Score {c}"): Here(float((own["score"] == c).sum()), **of) for c in SCORES}
            here[name, "Total"] = Here(float(len(own)), **of)
    notes = ["Here: every labelled clip of the data."]
    notes += ["Every clip is tested once, in its fold; a network is trained on the clips of the other folds."] if "Fold 0" in rows else []
    return beside("table_1", results.published.tables["table_1"], here, notes, digits=0, noun="clips")


def data_table(results: Results, clips: pd.DataFrame) -> Table:
    """How many clips and patients there are."""
    n = {"Clips": len(clips), "Patients": clips["patient"].nunique()}
    here = {("All data", column): Here(float(value), n=len(clips), n_patients=n["Patients"]) for column, value in n.items()}
    note = "Table I has 246 videos (see the errata)."
    return beside("data", results.published.tables["data"], here, (note,), digits=0, noun="clips")


def rank_table(results: Results, clips: pd.DataFrame) -> Table:
    """Whether the length tells the score, which the paper denies by eye."""
    statistic = rank_statistic("frames", "score")
    value = float(statistic(clips, np.zeros(len(clips), dtype=np.int64))(np.ones((1, 1)))["frames"][0])
    bounds = patient_bootstrap(clips, statistic, results.replicates)["frames"]
    entries = [("All clips", "Spearman's ρ", None, bounded(value, bounds, clips))]
    note = "The paper says from Fig. 3, by eye, that the score is independent of the length. 0: no common order, which is less than that."
    return Table("length_rank", "Does the length tell the score?", "", cells(entries), digits=2, notes=(note,), noun="clips")


def lengths_table(name: str, word: str, clips: pd.DataFrame, by: str) -> Table:
    """Number of clips and shortest, median and longest length of each group."""
    entries = []
    for key, own in clips.groupby(by):
        told = {"Clips": len(own), "Shortest": own["frames"].min(), "Median": own["frames"].median(), "Longest": own["frames"].max()}
        here = {"n": len(own), "n_patients": own["patient"].nunique()}
        entries += [(f"{word} {key}", column, None, Here(float(value), **here)) for column, value in told.items()]
    return Table(name, f"Lengths by {word.lower()}", "clips, then frames", cells(entries), digits=0, noun="clips")


def curves_section(results: Results) -> list[Section]:
    """Loss and accuracy by epoch, where the run kept them; they are for watching, and no quoted number comes from them."""
    path = results.run.folder / "curves.csv"
    if not path.is_file():
        return []
    epochs = read_own(path).assign(epoch=lambda t: t["epoch"].astype(int) + 1)  # logged from 0, the paper counts 35
    parts = epochs.groupby("fold") if "fold" in epochs else [(0, epochs)]
    folds = {int(str(fold)): own for fold, own in parts}
    chosen = {int(b.get("fold", i)): int(b["epoch"]) + 1 for i, b in enumerate(best_of(results.run))}
    alt = "Loss and accuracy by epoch, of training and validation patients; the chosen epoch is marked"
    figure = Figure("fig_6_7", "Figs. 6 and 7: accuracy and loss by epoch", alt, partial(curves, folds, chosen), epochs_table(folds))
    text = (
        "The paper draws accuracy and loss of the test set and takes its best network from them. Here they are of validation patients; the"
        " tested patients are seen once, after the training."
    )
    return [Section("Curves (Figs. 6 and 7)", (text,), (ends_table(results, folds, chosen),), (figure,))]


def ends_table(results: Results, folds: Mapping[int, pd.DataFrame], chosen: Mapping[int, int]) -> Table:
    """Loss and accuracy of the last and of the chosen epoch."""
    here: dict[tuple[str, str], Here] = {}
    for fold, own in folds.items():
        ends = {"last epoch": own.tail(1)}
        ends |= {f"chosen epoch ({chosen[fold]})": own[own["epoch"] == chosen[fold]]} if fold in chosen else {}
        for name, epoch in ends.items():
            row = f"Fold {fold}, {name}" if len(folds) > 1 else name.capitalize()
            for column, logged in {"Loss": "val/loss", "Accuracy": "val/accuracy"}.items():
                if logged in epoch and len(epoch):
                    here[row, column] = Here(float(epoch[logged].iloc[0]))
    notes = (
        "Printed: of the test set. Here: of validation patients, for watching; a quoted number comes from the predictions alone.",
        "Losses compare only where SORD's distances are the same; equal probabilities for all scores give 1.39.",
    )
    return beside("last_epoch", results.published.tables["last_epoch"], here, notes, digits=3)


def epochs_table(folds: Mapping[int, pd.DataFrame]) -> Table:
    """What was logged of each epoch."""
    entries = [
        (f"{f'Fold {fold}, epoch' if len(folds) > 1 else 'Epoch'} {row['epoch']:.0f}", str(column), None, Here(float(row[column])))
        for fold, own in folds.items()
        for row in own.to_dict("records")
        for column in own
        if column not in ("epoch", "fold")
    ]
    return Table("curves", "Each epoch", "", cells(entries), digits=3)
