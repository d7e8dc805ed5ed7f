"""Corso: clip scores of the video net beside the same CNN frame by frame and the majority score, and where its errors lie."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from lus_lightning.errors import UserError
from lus_lightning.evaluation.intervals import paired_difference, patient_bootstrap
from lus_lightning.evaluation.metrics import confusion, metrics
from lus_lightning.labels import SCORES
from lus_lightning.report.figures import Figure
from lus_lightning.report.papers.base import Paper, Results, Section, open_section
from lus_lightning.report.papers.corso_data import best_of, curves_section, data_section, labelled_clips
from lus_lightning.report.papers.corso_figures import error_bars, matrices
from lus_lightning.report.papers.corso_maps import BASELINE, RULE, VIDEO, maps_section, write_maps
from lus_lightning.report.run import Run
from lus_lightning.report.tables import Here, Table, beside, bounded, cells
from lus_lightning.scoring.levels import aggregate

MAJORITY: Final = "majority"
NAMES: Final = {VIDEO: "Video net", BASELINE: "Per-frame baseline", MAJORITY: "Majority score"}
METRICS: Final = {"Accuracy": "accuracy", "Macro F1": "f1", "Micro F1": "accuracy", "Weighted κ": "qwk"}
"""Rows of the table of results and our metrics; of clips that all have one answer, micro F1 is the accuracy."""
BASELINE_TEXT: Final = "The per-frame baseline is the same CNN on single frames; a clip's score is that of the highest mean probability."


def sections(results: Results) -> list[Section]:
    """Scores, data, curves, errors, maps, and what the report leaves open; of the baseline alone only what it has."""
    clips = clips_of_all(results)
    maps = [maps_section(results)] if VIDEO in results.members else []
    data = data_section(results)
    return [
        scores_section(results, clips),
        *data,
        *curves_section(results),
        errors_section(results, clips),
        *maps,
        open_section(results, "the recipe"),
    ]


def clips_of_all(results: Results) -> dict[str, pd.DataFrame]:
    """The labelled test clips of the video net and of the baseline, in this run or beside it, and what always saying the majority gives."""
    found: dict[str, pd.DataFrame] = {}
    for member in (VIDEO, BASELINE):
        for run in (results.run, *results.others.values()):
            if member not in found and len(rows := run.of(member)):
                found[member] = aggregate(rows, "clip", RULE).filter(regex="^(?!p_)")
    said = majority(results.run, next(iter(found.values())))
    return found if said is None else found | {MAJORITY: said}


def majority(run: Run, clips: pd.DataFrame) -> pd.DataFrame | None:
    """Tested clips whose `pred` is the most frequent score of the training clips, of equal ones the more severe; None if none are known.

    In a cross-validated run each fold has the majority of its own training clips, which are neither tested nor validated on there.
    """
    known = labelled_clips(run)
    if known is None:
        return None
    if run.info.get("folds"):
        if "train_scores" not in run.info:  # pooled by an earlier version
            return None
        fold = clips["clip"].map(known.set_index("clip")["fold"])
        return clips.assign(pred=fold.map(dict(enumerate(map(most_frequent, run.info["train_scores"])))).astype(int))
    train = known.loc[known["split"] == "train", "score"]
    return clips.assign(pred=most_frequent(np.bincount(train.astype(int), minlength=len(SCORES)))) if len(train) else None


def most_frequent(counts: Sequence[int] | np.ndarray) -> int:
    """The most frequent score of the clips counted by score, of equal ones the more severe."""
    return int(np.flatnonzero(np.asarray(counts) == max(counts)).max())


def scores_section(results: Results, clips: Mapping[str, pd.DataFrame]) -> Section:
    """Accuracy, F1 and weighted kappa of each, and the paired differences."""
    here: dict[tuple[str, str], Here] = {}
    for member, own in clips.items():
        values = metrics(own["target"].to_numpy(), own["pred"].to_numpy())
        bounds = patient_bootstrap(own, replicates=results.replicates)
        here |= {(row, NAMES[member]): bounded(values[m], bounds[m], own) for row, m in METRICS.items()}
    printed = results.published.tables["results"]
    tables = [beside("scores", printed, here, scores_notes(results, clips), digits=2, noun="clips")]
    text = f"A clip has one score. {BASELINE_TEXT} The majority score is the most frequent of the training clips, said of every clip."
    missing = [name for member, name in NAMES.items() if member not in clips]
    text += f" Not run here: {', '.join(missing)}." if missing else ""
    if VIDEO in clips and len(clips) > 1:
        tables.append(difference_table(results, clips))
    return Section("Clip scores", (text,), tuple(tables))


def scores_notes(results: Results, clips: Mapping[str, pd.DataFrame]) -> list[str]:
    """What the reader of the scores must know."""
    run = results.run
    notes = [*results.published.tables["results"].remarks]
    notes.append("Printed: the epoch is chosen, or left at the last, with the test set in view; it has no validation part.")
    folds, best = run.info.get("folds"), best_of(run)
    told = f"in each of {folds} folds " if folds else ""
    if best:
        notes.append(f"Here the weights tested are {told}those of the epoch with the best {best[0]['monitor']} of validation patients.")
    else:
        notes.append(f"Here the weights tested are {told}those of the last epoch; no tested patient had a say in it.")
    if folds:
        only = " who is tested" if run.info["data"].get("not_measured") else ""
        notes.append(f"Every patient{only} is tested once, by the network of the {folds} that was trained without them.")
    if run.provenance["split_unit"] == "patient":
        notes.append("Here no tested patient was trained on.")
    if MAJORITY in clips:
        said = ", ".join(map(str, sorted(clips[MAJORITY]["pred"].unique())))
        known = "0 by definition" if len(said) == 1 else "not 0, as it differs from fold to fold"
        notes.append(f"The majority score is {said}; its weighted κ is {known}.")
    notes.append("Macro F1 has no interval where more than 5 % of the resamples of patients lack a score that the clips have.")
    return notes


def difference_table(results: Results, clips: Mapping[str, pd.DataFrame]) -> Table:
    """The video net less each other on the clips that both have, on the same resamples of patients.

    Raises:
        UserError: the two have other labels for a clip, or no clip in common.
    """
    entries, notes = [], ["Intervals are paired: both on the same clips and the same resamples of patients."]
    for member in [m for m in clips if m != VIDEO]:
        net, other = common(clips[VIDEO], clips[member], results)
        found = paired_difference(net, other, replicates=results.replicates)
        column = f"Video net − {NAMES[member].lower()}"
        entries += [(row, column, None, bounded(found[METRICS[row]].value, found[METRICS[row]], net)) for row in ("Weighted κ", "Macro F1")]
        if left := len(clips[VIDEO]) + len(clips[member]) - 2 * len(net):
            notes.append(f"{column}: {left} clips that only one of them scored are left out.")
    notes.append("An interval that holds 0 leaves open which of the two is better.")
    return Table("differences", "Paired differences", "", cells(entries), digits=2, notes=tuple(notes), noun="clips")


def common(net: pd.DataFrame, other: pd.DataFrame, results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables' rows of the clips that both have."""
    keys = ["patient", "exam", "clip"]
    both = net[[*keys, "target"]].merge(other[[*keys, "target"]], on=keys, suffixes=("", "_beside"))
    if both.empty or (both["target"] != both["target_beside"]).any():
        raise UserError(f"the baseline beside {results.run.folder} was tested on other clips or labels: run both on the same data")
    return net[net["clip"].isin(both["clip"])], other[other["clip"].isin(both["clip"])]


def errors_section(results: Results, clips: Mapping[str, pd.DataFrame]) -> Section:
    """Figs. 8 and 9: the confusion matrix and the errors of each score."""
    printed, first = results.published.tables, next(iter(clips))
    shown = {NAMES[m]: counts_of(own) for m, own in clips.items() if m != MAJORITY}
    own, counts = clips[first], counts_of(clips[first])
    n = [(int(row.sum()), own.loc[own["target"] == c, "patient"].nunique()) for c, row in enumerate(counts)]
    grid = {(f"Score {c}", f"as {d}"): Here(float(counts[c, d]), n=n[c][0], n_patients=n[c][1]) for c in SCORES for d in SCORES}
    wrong = {}
    for c in SCORES:
        of = dict(zip(("n", "n_patients"), n[c], strict=True))
        wrong[f"Score {c}", "Errors"] = Here(float(counts[c].sum() - counts[c, c]), **of)
        wrong[f"Score {c}", "Clips"] = Here(float(n[c][0]), **of)
    note = f"Here: the tested clips alone, {NAMES[first].lower()}. Rows are labels, columns what it says."
    pictures = {"Printed (derived),\nall data": printed["fig_8"].frame.to_numpy()}
    pictures |= {f"Here, test,\n{name.lower()}": counts for name, counts in shown.items()}
    table_8 = beside("fig_8", printed["fig_8"], grid, (note,), digits=0, noun="clips")
    table_9 = beside("fig_9", printed["fig_9"], wrong, (note,), digits=0, noun="clips")
    figures = (
        Figure("fig_8", "Fig. 8: confusion matrices", "Confusion matrices, printed and here", partial(matrices, pictures), table_8),
        Figure("fig_9", "Fig. 9: errors by score", "Wrong clips of each score, printed and here", partial(error_bars, pictures), table_9),
    )
    text = (
        "The paper's matrix is of all its data, with weights that its test set chose, and says score 2 of every clip; so its counts follow"
        " from Table I. Here: clips of tested patients alone."
    )
    return Section("Errors (Figs. 8 and 9)", (text,), (), figures)


def counts_of(clips: pd.DataFrame) -> np.ndarray:
    """(4, 4) clips of each label (row) given each score."""
    return confusion(clips["target"].to_numpy(), clips["pred"].to_numpy(), len(SCORES))[:, :-1]


SETTINGS: Final = {
    "lr": "base learning rate (the CNN's)",
    "scratch_factor": "how many times faster what is trained from scratch learns",
    "momentum": "momentum",
    "weight_decay": "weight decay",
    "schedule": "learning rate over the training",
    "weights": "initial weights of the CNN",
    "backbone": "CNN",
    "network": "CNN",
    "widths": "channels between the attention's convolutions",
    "hidden": "width of each direction of the LSTM",
    "pooling": "how the frames' states become one vector",
    "distances": "SORD's distances of the scores",
    "chunk": "frames that go through the CNN at once",
    "checkpointing": "activations computed twice to save memory",
    "statistics": "statistics of batch norm",
    "size": "input size (pixels)",
    "rotate_degrees": "augmentation: rotation (degrees)",
    "shift": "augmentation: shift (share of the side)",
    "scale": "augmentation: scaling (share)",
    "flip": "augmentation: horizontal flip (probability)",
    "brightness": "augmentation: brightness (share)",
    "contrast": "augmentation: contrast (share)",
    "batch_size": "clips of a batch",
    "max_epochs": "epochs",
    "iterations": "iterations",
    "monitor": "what chooses the epoch",
    "study": "simulated study",
    "max_frames": "frames taken from a clip, at most",
    "min_gap": "frames between two taken from a clip, at least",
    "folds": "folds of patients",
    "unit": "unit of the split",
    "test_patients": "patients that are always tested",
    "test_share": "share of the patients that is tested",
    "test_folds": "folds of patients, of which each is tested once",
    "val_share": "share of the patients that is validated on",
}
PAPER: Final = Paper("Corso: the video net", VIDEO, "scores", sections, SETTINGS, RULE, page=write_maps)
COMPARATOR: Final = Paper("Corso: the same CNN frame by frame", BASELINE, "scores", sections, SETTINGS, RULE, printed="corso")
