"""Xing et al. 2022, stage 1: its networks (Table 3), what it keeps (Table 4), and on simulated clips whether it keeps the right ones."""

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from lus_lightning.evaluation.intervals import patient_bootstrap
from lus_lightning.evaluation.metrics import metrics, score_statistic
from lus_lightning.labels import SCORES
from lus_lightning.report.papers.base import Results, Section
from lus_lightning.report.tables import Here, Table, beside, bounded, cells, estimate


def selection_section(results: Results) -> list[Section]:
    """Tables 3 and 4; nothing where the run has no stage 1."""
    selection = results.run.selection
    if selection is None:
        return []
    tables = [kept_table(results, selection), share_table(results, selection)]
    text = (
        "A training image is kept if the network that did not see it gives its label. Table 4 is of the training patients, Table 3 of the"
        " test patients.",
    )
    if results.run.truth is not None:
        tables.append(truth_table(results, selection, results.run.truth))
    tables = [replace(table, split="oof") for table in (*tables, patients_table(selection))]
    return [Section("Stage 1: the selection (Tables 3 and 4)", text, (fold_networks_table(results), *tables))]


def fold_networks_table(results: Results) -> Table:
    """Table 3: the networks of stage 1 on the test set."""
    here: dict[tuple[str, str], Here] = {}
    folds = [m for m in results.members if m.startswith("fold")]
    for member in folds:
        record, column = results.members[member]["frame"], str(int(member.removeprefix("fold")) + 1)
        here |= {(f"Score {c}", column): estimate(record, f"sensitivity_{c}", 100) for c in SCORES}
        here["Average", column] = estimate(record, "sensitivity", 100)
    notes = ("Average: mean over the scores. The printed numbers are not of 250 images a score; see the errata.",)
    return beside("table_3", results.published.tables["table_3"], here, notes)


def kept_table(results: Results, selection: pd.DataFrame) -> Table:
    """Table 4: images kept per fold and score."""
    here: dict[tuple[str, str], Here] = {}
    columns = {str(fold + 1): selection["fold"] == fold for fold in sorted(selection["fold"].unique())} | {"All": selection["fold"] >= 0}
    rows = {f"Score {c}": selection["target"] == c for c in SCORES} | {"Sum": selection["target"] >= 0}
    for column, row in product(columns, rows):
        of = selection[columns[column] & rows[row]]
        here[row, column] = Here(int(of["kept"].sum()), n=len(of), n_patients=of["patient"].nunique())
    note = f"Kept here: {int(selection['kept'].sum()):,} of {len(selection):,} images; in the paper 12,949 of 18,330."
    return beside("table_4", results.published.tables["table_4"], here, (note,), digits=0, noun="training images")


def share_table(results: Results, selection: pd.DataFrame) -> Table:
    """Share of each score's training images that is kept: the recall of the out-of-fold predictions."""
    rows = selection[["patient", "target", "pred"]]
    intervals = patient_bootstrap(rows, score_statistic, results.replicates)
    values = metrics(rows["target"].to_numpy(), rows["pred"].to_numpy())
    here = {("All", "Kept"): bounded(values["accuracy"], intervals["accuracy"], rows, 100)}
    for c in SCORES:
        metric = f"sensitivity_{c}"
        here[f"Score {c}", "Kept"] = bounded(values[metric], intervals[metric], rows[rows["target"] == c], 100)
    note = "All: stage 1's out-of-fold accuracy."
    return beside("kept_share", results.published.tables["kept_share"], here, (note,), noun="training images")


def truth_table(results: Results, selection: pd.DataFrame, truth: pd.DataFrame) -> Table:
    """Whether the selection removes the wrong labels: simulated clips know the clean score of each image.

    A wrong label is the class to find, removing an image is finding it; the out-of-fold probability of the image's own label ranks.
    """
    rows = with_truth(selection, truth)
    removal = pd.DataFrame(
        {
            "patient": rows["patient"],
            "target": (rows["target"] != rows["truth_score"]).astype(int),
            "pred": (~rows["kept"]).astype(int),
            "p_0": rows["p_own"],
            "p_1": 1 - rows["p_own"],
        }
    )
    two = partial(score_statistic, n_classes=2)
    found = metrics(removal["target"].to_numpy(), removal["pred"].to_numpy(), removal[["p_0", "p_1"]].to_numpy(), 2)
    bounds = patient_bootstrap(removal, two, results.replicates)
    untouched = removal.assign(pred=0)
    before = metrics(untouched["target"].to_numpy(), untouched["pred"].to_numpy(), None, 2)["accuracy"]
    before_bounds = patient_bootstrap(untouched, two, results.replicates)["accuracy"]
    entries = [("Right labels before the selection (share)", bounded(before, before_bounds, removal))]
    right, kept = removal["target"] == 0, removal["pred"] == 0
    for row, metric, hits, of in (
        ("Right labels among the kept (share)", "precision_0", right, kept),
        ("Wrong labels removed (share)", "sensitivity_1", ~kept, ~right),
        ("Right labels kept (share)", "sensitivity_0", kept, right),
    ):
        entries.append((f"{row}: {int((hits & of).sum()):,} of {int(of.sum()):,}", bounded(found[metric], bounds[metric], removal[of])))
    told = "Own-label probability tells wrong from right (ROC-AUC)"
    entries.append((told, bounded(found["auroc_1"], bounds["auroc_1"], removal)))
    wrong = f"{int(removal['target'].sum()):,} of {len(removal):,}"
    note = f"{wrong} training images carry a wrong label; only this report reads the clean scores, never the training."
    title = "Does the selection remove the wrong labels? (simulated clean scores)"
    return Table("selection_truth", title, "", cells((row, "Here", None, here) for row, here in entries), "", 2, (note,), "training images")


def with_truth(selection: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The selection with `truth_score`, the image's own or else its clip's (frame -1); rows without one are left out."""
    own = selection.merge(truth, on=["clip", "frame"], how="left")["truth_score"]
    clip = selection.merge(truth.loc[truth["frame"] == -1, ["clip", "truth_score"]], on="clip", how="left")["truth_score"]
    score = np.where(own.isna(), clip, own)
    return selection.assign(truth_score=score).dropna(subset="truth_score")


def patients_table(selection: pd.DataFrame) -> Table:
    """Share kept, by patient and score."""
    groups = selection.groupby(["patient", "target"])["kept"].agg(["mean", "size"])
    here = {(str(p), t): Here(100 * mean, n=int(n), n_patients=1) for (p, t), mean, n in groups.itertuples()}
    patients = dict.fromkeys(patient for patient, _ in here)
    entries = [(patient, f"Score {c}", None, here.get((patient, c), Here(np.nan))) for patient in patients for c in SCORES]
    noun = "training images of a patient and score"
    return Table("kept_by_patient", "Share kept, by patient and score", "%", cells(entries), digits=0, noun=noun)
