"""Xing et al. 2022: Tables 3-6 and Figs. 9-11, printed beside here."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from lus_lightning.errors import UserError
from lus_lightning.evaluation.intervals import paired_difference, patient_bootstrap
from lus_lightning.labels import SCORES
from lus_lightning.report.figures import Figure, bars, dots, pairs
from lus_lightning.report.papers.base import Paper, Results, Section
from lus_lightning.report.papers.xing_selection import selection_section
from lus_lightning.report.run import Run
from lus_lightning.report.tables import Here, Table, beside, bounded, estimate

PAPER_NETWORKS: Final = ("ResNet-50", "Vgg-19", "GoogLeNet")
AVERAGE_NOTE: Final = "Average: mean over the scores, as in the paper, whose test set has 250 images of each."


def sections(results: Results) -> list[Section]:
    """The paper's tables and figures.

    Raises:
        UserError: the run's networks are not three, or the initial run was tested on other images.
    """
    if len(results.run.networks) != len(PAPER_NETWORKS):
        raise UserError(f"{results.run.folder / 'run.json'} names {len(results.run.networks)} networks, but the vote has three: fit again")
    return [methods_section(results), *selection_section(results), networks_section(results), vote_section(results)]


def _renamed(run: Run) -> dict[str, str]:
    """The paper's networks, each with the name of the one that stands for it here, where that differs."""

    def plain(name: str) -> str:
        return name.lower().replace("-", "")

    both = zip(PAPER_NETWORKS, run.networks, strict=True)
    return {theirs: theirs if plain(theirs) == plain(ours) else f"{theirs}, here {ours}" for theirs, ours in both}


def _by_score(record: dict[str, Any]) -> dict[str, Here]:
    """Share of each score's images that were scored right, and its mean over scores, in %."""
    here = {f"Score {c}": estimate(record, f"sensitivity_{c}", 100) for c in SCORES}
    return here | {"Average": estimate(record, "sensitivity", 100)}


def methods_section(results: Results) -> Section:
    """Fig. 11 and what the selection adds."""
    methods = methods_table(results)
    figure = Figure("fig_11_dots", "Fig. 11: ten methods", "Accuracy of ten methods, printed and here", partial(dots, methods, "Accuracy"))
    tables = [methods] + ([gain_table(results)] if "initial" in results.others else [])
    text = "Methods 3–6 train on all images, methods 7–10 on those that stage 1 kept; all are tested on the same images."
    if "initial" not in results.others:
        text += " Methods 3–6 were not run here: give the folder of a run with select: false as --initial."
    return Section("Ten methods (Fig. 11)", (text,), tuple(tables), (figure,))


def methods_table(results: Results) -> Table:
    """Fig. 11: accuracy, and beside it the mean over scores, which in the paper's balanced test set is the same."""
    printed, run = results.published.tables["fig_11"], results.run
    rows = list(printed.rows)
    columns = {"Accuracy": "accuracy", "Mean over scores": "sensitivity"}
    folds = [member for member in results.members if member.startswith("fold")]
    here = {(rows[1], column): number for column, number in _mean_of(results, folds, columns).items()}
    for first, members in ((2, results.other_members.get("initial", {})), (6, results.members)):
        for row, member in zip(rows[first:], [*run.networks, "vote"], strict=False):
            if member in members:
                here |= {(row, column): estimate(members[member]["frame"], metric, 100) for column, metric in columns.items()}
    ours = {theirs: named.removeprefix(theirs) for theirs, named in _renamed(run).items()}
    names = {row: row + next((ours[n] for n in PAPER_NETWORKS if n in row), "") for row in rows}
    often = 100 * run.of("vote")["target"].value_counts(normalize=True).max()
    notes = [
        *printed.remarks,
        "Mean over scores: macro sensitivity; in the paper's test set, 250 images a score, it equals the accuracy.",
        f"Always saying the most frequent score would give an accuracy of {often:.1f} % here and 25 % in the paper.",
    ]
    return beside("fig_11", printed, here, notes, names)


def _mean_of(results: Results, members: list[str], columns: Mapping[str, str]) -> dict[str, Here]:
    """Means of metrics over members, none without members; each has the same rows, so all rows together have the mean as their value."""
    if not members:
        return {}
    stacked = pd.concat([results.run.of(member) for member in members])
    intervals = patient_bootstrap(stacked, replicates=results.replicates)
    n = results.members[members[0]]["frame"]["n"]

    def mean(metric: str) -> Here:
        value = float(np.mean([results.members[member]["frame"][metric] for member in members]))
        return bounded(value, intervals[metric], stacked, 100)._replace(n=n)

    return {column: mean(metric) for column, metric in columns.items()}


def gain_table(results: Results) -> Table:
    """Accuracy of the selected run less that of the initial one, on the same images and the same resamples of patients."""
    run, initial = results.run, results.others["initial"]
    same = run.info["data"].get("fingerprint") == initial.info["data"].get("fingerprint")
    if not same or run.networks != initial.networks:
        raise UserError(f"{initial.folder} has other data or networks than {run.folder}: fit both with the same data, seed and networks")
    members = {**dict(zip(PAPER_NETWORKS, ([n] for n in run.networks), strict=True)), "Mean of the three": run.networks, "Vote": ["vote"]}
    here = {}
    for row, ours in members.items():
        ours_rows, theirs_rows = (pd.concat([r.of(m) for m in ours]) for r in (run, initial))
        found = paired_difference(ours_rows, theirs_rows, replicates=results.replicates)["accuracy"]
        n = len(run.of(ours[0]))
        here[row, "Selected - initial"] = bounded(found.value, found, ours_rows, 100)._replace(n=n)
    printed = results.published.tables["selection_gain"]
    note = "Intervals are paired: both runs on the same resamples."
    return beside("selection_gain", printed, here, [*printed.remarks, note], _renamed(run))


def networks_section(results: Results) -> Section:
    """Table 5 and Fig. 9."""
    names = _renamed(results.run)
    here = {
        (row, column): number
        for row, member in zip((*PAPER_NETWORKS, "Vote"), (*results.run.networks, "vote"), strict=True)
        for column, number in _by_score(results.members[member]["frame"]).items()
    }
    three = {key: number for key, number in here.items() if key[0] != "Vote"}
    table = beside("table_5", results.published.tables["table_5"], three, (AVERAGE_NOTE,), names)
    chart = beside("fig_9", results.published.tables["fig_9"], here, (AVERAGE_NOTE,), names)
    title, alt = "Fig. 9: the three networks and the vote", "Share of right scores by score and network"
    figure = Figure("fig_9_bars", title, alt, partial(bars, chart), chart)
    return Section("Stage 2: three networks (Table 5, Fig. 9)", (), (table,), (figure,))


def vote_section(results: Results) -> Section:
    """Table 6 and Fig. 10."""
    record, rows = results.members["vote"]["frame"], results.run.of("vote")
    against_rest = patient_bootstrap(rows, one_against_rest, results.replicates)
    whole = one_against_rest(rows, np.zeros(len(rows), dtype=np.int64))(np.ones((1, 1)))
    counts = _pair_counts(np.array(record["confusion"]))
    columns = {"Sensitivity": "sensitivity", "Specificity": "specificity", "Precision": "precision", "F1": "f1"}
    here: dict[tuple[str, str], Here] = {}
    cells: dict[tuple[str, str], Here] = {}
    for row, suffix in [(f"Score {c}", f"_{c}") for c in SCORES] + [("Average", "")]:
        name = f"accuracy{suffix}"
        here[row, "Accuracy"] = bounded(float(whole[name][0]), against_rest[name], rows, 100)
        here |= {(row, column): estimate(record, metric + suffix, 100) for column, metric in columns.items()}
    for c in SCORES:
        cells |= {(f"Score {c}", name): Here(float(counts[name][c]), n=len(rows), n_patients=rows["patient"].nunique()) for name in counts}
    notes = ("Accuracy: one score against the rest (equation 3). The paper prints recall as ACC, precision as SEN and no specificity.",)
    table = beside("table_6", results.published.tables["table_6_corrected"], here, notes)
    chart = beside("fig_10", results.published.tables["fig_10"], cells, ("An abstention counts as “not this score”.",), digits=0)
    title, alt = "Fig. 10: one score against the rest", "Confusion of each score with the rest, printed and here"
    figure = Figure("fig_10_pairs", title, alt, partial(pairs, chart), chart)
    text = f"The vote gave a score to {100 * record['coverage']:.1f} % of the images here, in the paper to 998 of 1000 (see the errata)."
    return Section("The vote, score by score (Table 6, Fig. 10)", (text,), (table,), (figure,))


def _pair_counts(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """TP, FN, FP, TN (C,) of each class against the rest, from (C, C + 1)."""
    square = confusion[:, : len(confusion)]
    tp, support, predicted = np.diagonal(square), confusion.sum(axis=1), square.sum(axis=0)
    return {"TP": tp, "FN": support - tp, "FP": predicted - tp, "TN": confusion.sum() - support - predicted + tp}


def one_against_rest(table: pd.DataFrame, units: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A statistic for `patient_bootstrap`: `accuracy_<c>`, (TP + TN) / all of each score, and their mean `accuracy` (equation 3).

    A score that no row is labelled with has none, and takes no part in the mean.
    """
    target, pred = (table[c].to_numpy()[:, None] == np.array(SCORES) for c in ("target", "pred"))
    right = np.column_stack([target == pred, np.ones(len(table))])
    present = target.any(axis=0)
    per_unit = np.stack([np.bincount(units, weights=column) for column in right.T], axis=1)

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights @ per_unit
        share = np.where(present, total[:, :-1] / total[:, -1:], np.nan)
        return {"accuracy": share[:, present].mean(axis=1)} | {f"accuracy_{c}": share[:, c] for c in SCORES}

    return resampled


SETTINGS: Final = {
    "iterations": "iterations of each stage",
    "batch_size": "images that each network gets in an iteration",
    "lr": "learning rate",
    "momentum": "momentum",
    "weight_decay": "L2 regularisation",
    "weights": "initial weights",
    "selector": "network of stage 1",
    "networks": "networks of stage 2",
    "size": "input size (pixels)",
    "select": "selection of images by stage 1",
    "max_epochs": "stages",
    "folds": "folds of the cross-validation",
    "threshold": "confidence that decides where all networks differ",
    "undecided": "what the vote does below that confidence",
    "max_frames": "images taken from a clip, at most",
    "min_gap": "frames between two images of a clip, at least",
    "raters_agree": "only images that two raters score alike",
    "unit": "unit of the split",
    "test_share": "share of the patients that is tested",
    "val_share": "share of the patients that is validated on",
}
PAPER: Final = Paper("Xing et al. 2022: two-stage cascade", "vote", "fig_11", sections, SETTINGS)
