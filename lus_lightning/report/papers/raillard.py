"""Raillard et al. 2022: accuracy, Table 2 and Figs. 2-4, printed beside here."""

from functools import partial
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from lus_lightning.evaluation.evaluate import QUOTED
from lus_lightning.evaluation.intervals import paired_difference, patient_bootstrap
from lus_lightning.evaluation.metrics import metrics
from lus_lightning.labels import SCORES, ZONES
from lus_lightning.report.figures import Figure
from lus_lightning.report.papers.base import Paper, Results, Section
from lus_lightning.report.papers.raillard_figures import curves_and_matrices, fold_mean_confusion, sums, zone_bars
from lus_lightning.report.published import Published
from lus_lightning.report.run import Run
from lus_lightning.report.tables import Here, Table, beside, bounded, cells, estimate
from lus_lightning.scoring.levels import aggregate, probabilities

PAPER_NETWORKS: Final = ("Xception", "ResNet50", "VGG16")
MEASURES: Final = {"Accuracy": "accuracy", "Macro-precision": "precision", "Macro-recall": "sensitivity", "ROC-AUC": "auroc"}
MACRO_NOTE: Final = "Macro: mean over the scores that occur. Here all images of all folds are measured together; by fold: see below."


def sections(results: Results) -> list[Section]:
    """The paper's tables and figures."""
    of_folds = folds_section(results)
    return [networks_section(results), *of_folds, zones_section(results), curves_section(results), exams_section(results)]


def members_of(run: Run) -> dict[str, str]:
    """The run's networks by their row: the paper's, in its order, if there are three, else those of its that the run has, and others."""
    theirs = {_plain(name): name for name in PAPER_NETWORKS}
    rows = PAPER_NETWORKS if len(run.networks) == len(PAPER_NETWORKS) else [theirs.get(_plain(name), name) for name in run.networks]
    return dict(zip(rows, run.networks, strict=True))


def shown_as(run: Run) -> dict[str, str]:
    """Rows, each with the name of the network that stands for it here, where that differs."""
    return {row: row if _plain(ours) == _plain(row) else f"{row}, here {ours}" for row, ours in members_of(run).items()}


def _plain(name: str) -> str:
    return name.lower().replace("-", "").removeprefix("legacy_")


def rows_of(run: Run, member: str) -> pd.DataFrame:
    """A network's labelled rows of the split that is quoted."""
    splits = set(run.predictions.loc[run.predictions["member"] == member, "split"])
    return run.of(member, next(split for split in QUOTED if split in splits))


def frame_record(results: Results, member: str) -> dict:
    """A network's figures of images."""
    return results.members[member]["frame"]


def networks_section(results: Results) -> Section:
    """Accuracy, Table 2 and what distinguishes the networks."""
    tables, names, members = results.published.tables, shown_as(results.run), members_of(results.run)
    printed = {name: tables[name] for name in ("accuracy", "table_2", "fig_3_auc", "data")}
    records = {row: frame_record(results, member) for row, member in members.items()}
    here = {(row, column): estimate(record, metric) for row, record in records.items() for column, metric in MEASURES.items()}
    by_score = {f"Score {c}": f"auroc_{c}" for c in SCORES} | {"Macro": "auroc"}
    areas = {(row, column): estimate(record, metric) for row, record in records.items() for column, metric in by_score.items()}
    rows = rows_of(results.run, next(iter(members.values())))
    counts, of = rows["target"].value_counts(), {"n": len(rows), "n_patients": rows["patient"].nunique()}
    images = {(f"Score {c}", "Images"): Here(float(counts.get(c, 0)), **of) for c in SCORES}
    images["All", "Images"] = Here(float(len(rows)), **of)
    often = f"Always saying the most frequent score would give {counts.max() / len(rows):.3f} here and 0.458 in the paper."
    shown = (
        beside("accuracy", printed["accuracy"], {k: v for k, v in here.items() if k[1] == "Accuracy"}, (often,), names, 3),
        beside("table_2", printed["table_2"], {k: v for k, v in here.items() if k[1] != "Accuracy"}, (MACRO_NOTE,), names, 3),
        time_table(results),
        beside("fig_3_auc", printed["fig_3_auc"], areas, (*printed["fig_3_auc"].remarks, MACRO_NOTE), names, 3),
        pairwise_table(results),
        beside("images", printed["data"], images, digits=0),
    )
    return Section("Three networks (Table 2)", (standards_text(results.run),), shown)


def standards_text(run: Run) -> str:
    """What the scores of this run mean, beside the paper's."""
    ours = ", ".join(run.predictions["standard"].dropna().unique())
    if ours == "raillard":
        return "The labels follow the paper's standard, the Lung Ultrasound Score."
    told = f"the standard “{ours}”" if ours else "a standard that is not named"
    return f"The paper scores by the Lung Ultrasound Score (standard “raillard”), the labels here by {told}: 0-3 do not mean the same."


def time_table(results: Results) -> Table:
    """Table 2, last column: a network's seconds of training (its features and the heads of all folds) over the folds, in minutes."""
    run, printed = results.run, results.published.tables["table_2_time"]
    folds = run.split.loc[run.split["fold"] >= 0, "fold"].nunique()
    seconds = run.info.get("member_seconds") or {}
    each = {row: seconds[member] / folds for row, member in members_of(run).items() if member in seconds}
    here = {(row, "Mean training time"): Here(value / 60) for row, value in each.items()}
    told = ", ".join(f"{shown_as(run)[row]}: {value:.3g}" for row, value in each.items())
    device = run.info.get("device") or "a device that the run does not name"
    notes = (
        f"Here: on {device}, a network's seconds divided by {folds} folds. The heads of all folds train in one fit, so the backbone runs"
        " once for all of them; counted are its features, unless kept by an earlier run, and its heads, not the reading of images."
        " In the paper: mean over the folds, each trained by itself on an Intel i7 CPU.",
        f"In seconds a fold: {told or 'not recorded'}.",
    )
    return beside("table_2_time", printed, here, notes, shown_as(run), 2)


def pairwise_table(results: Results) -> Table:
    """Differences of two networks on the same images, resampled over patients."""
    run, members = results.run, members_of(results.run)
    printed, columns = results.published.tables["pairwise"], {k: v for k, v in MEASURES.items() if k != "ROC-AUC"}
    here, clear, names = {}, [], {}
    for a, b in combinations(members, 2):
        first, second = (rows_of(run, members[name]).filter(regex="^(?!p_)") for name in (a, b))
        found = paired_difference(first, second, replicates=results.replicates)
        names[f"{a} - {b}"] = " - ".join(shown_as(run)[name] for name in (a, b))
        for column, metric in columns.items():
            here[f"{a} - {b}", column] = bounded(found[metric].value, found[metric], first)
            clear += [f"{names[f'{a} - {b}']} ({column})"] if found[metric].low > 0 or found[metric].high < 0 else []
    notes = (
        "The paper finds no significant difference; it names no test. Here: paired bootstrap over patients, not corrected for"
        f" {len(here)} comparisons.",
        f"Intervals that exclude 0: {', '.join(clear) or 'none'}.",
    )
    return beside("pairwise", printed, here, notes, names, 3)


def folds_section(results: Results) -> list[Section]:
    """Every measure by fold, and its mean, which Table 2 may print; nothing where the quoted rows lie in no fold (another data root)."""
    entries = []
    names = shown_as(results.run)
    for row, member in members_of(results.run).items():
        rows = rows_of(results.run, member)
        folds = {int(fold): rows[rows["fold"] == fold] for fold in np.unique(rows["fold"]) if fold >= 0}
        of = {fold: metrics(r["target"].to_numpy(), r["pred"].to_numpy(), probabilities(r)) for fold, r in folds.items()}
        if not of:
            return []
        for column, metric in MEASURES.items():
            for fold, found in of.items():
                here = Here(found[metric], n=len(folds[fold]), n_patients=folds[fold]["patient"].nunique())
                entries.append((f"{names[row]}, fold {fold}", column, None, here))
            mean = Here(float(np.mean([found[metric] for found in of.values()])), n=len(rows), n_patients=rows["patient"].nunique())
            entries.append((f"{names[row]}, mean", column, None, mean))
    note = "A fold that lacks a score takes its macro means over the scores that it has. A mean of so few folds has no useful interval."
    text = "The paper does not say whether its measures are of all images together or means of its three folds; these are the folds."
    table = Table("folds", "Every fold", "", cells(entries), digits=3, notes=(note,))
    return [Section("Fold by fold", (text,), (table,))]


def zones_section(results: Results) -> Section:
    """Fig. 2: accuracy of the images of each zone."""
    run, entries = results.run, []
    for row, member in members_of(run).items():
        rows = rows_of(run, member)
        for zone in _zones(rows):
            own = rows[rows["zone"] == zone].filter(regex="^(?!p_)")
            accuracy = float((own["target"] == own["pred"]).mean())
            found = patient_bootstrap(own, replicates=results.replicates)["accuracy"]
            entries.append((zone, shown_as(run)[row], None, bounded(accuracy, found, own)))
    if not entries:
        return Section("Zones (Fig. 2)", ("No clip of this run names its zone, so there is no accuracy by zone.",))
    notes = (
        "Share of a zone's images that are scored right. The paper draws bars without numbers, and does not say whether of images or of"
        " zone scores; the share of zone scores that are right is in the table “Every level”.",
    )
    table = Table("fig_2", "Fig. 2: accuracy by zone", "", cells(entries), digits=3, notes=notes)
    alt = "Accuracy of each network in each zone, with intervals"
    return Section("Zones (Fig. 2)", (), (), (Figure("fig_2_zones", "Fig. 2: accuracy by zone", alt, partial(zone_bars, table), table),))


def _zones(rows: pd.DataFrame) -> list[str]:
    """Zones that occur, in their protocol's order."""
    order = [zone for protocol in rows["protocol"].dropna().unique() for zone in ZONES[protocol]]
    return sorted(rows["zone"].dropna().unique(), key=lambda zone: (order.index(zone) if zone in order else len(order), zone))


def curves_section(results: Results) -> Section:
    """Fig. 3: ROC curves by score; confusion matrices normalised by row and averaged over the folds."""
    rows = {shown_as(results.run)[row]: rows_of(results.run, member) for row, member in members_of(results.run).items()}
    entries = []
    for row, table in rows.items():
        for target, shares in enumerate(fold_mean_confusion(table)):
            own = table[table["target"] == target]
            here = [Here(share, n=len(own), n_patients=own["patient"].nunique()) for share in shares]
            entries += [(f"{row}, score {target}", f"as {c}", None, number) for c, number in zip(SCORES, here, strict=True)]
    notes = (
        "Row-normalised in each fold, then averaged over the folds that have the score, as the paper does; it draws them without numbers"
        " in its text. Curves: all images of all folds together, one score against the rest.",
    )
    matrix = Table("fig_3", "Fig. 3: confusion matrices, mean of the folds", "", cells(entries), digits=3, notes=notes)
    alt = "ROC curve of each score and mean confusion matrix, by network"
    figure = Figure("fig_3_curves", "Fig. 3: ROC curves and confusion matrices", alt, partial(curves_and_matrices, rows), matrix)
    return Section("Scores (Fig. 3)", (), (), (figure,))


def exams_section(results: Results) -> Section:
    """Fig. 4: how zones and exams agree."""
    printed = results.published.tables["fig_4"]
    share, bias = printed.columns
    here, exams = {}, {}
    for row, member in members_of(results.run).items():
        levels = results.members[member]
        if levels.get("exam", {}).get("sum_bias") is not None and "zone" in levels:
            here[row, share] = estimate(levels["zone"], "accuracy")
            here[row, bias] = estimate(levels["exam"], "sum_bias")
            here[row, "Intraclass correlation"] = estimate(levels["exam"], "sum_icc")
            exams[shown_as(results.run)[row]] = aggregate(rows_of(results.run, member), "exam", PAPER.rule, PAPER.zone_rule)
    if not here:
        return Section("Exams (Fig. 4)", ("Fewer than two exams of this run have labelled zones, so there are no sums to compare.",))
    notes = (
        "A zone has the score that most of its images have, a tie the more severe (the paper does not say); an exam is the sum over the"
        " zones that are present.",
        "Bias: predicted minus labelled sum, mean over exams. ICC(2,1).",
    )
    table = beside("fig_4", printed, here, notes, shown_as(results.run), 3, "zones or exams")
    alt = "Predicted against labelled sum over zones of each exam, by network"
    figure = Figure("fig_4_sums", "Sums over zones, predicted against labelled", alt, partial(sums, exams))
    text = "The paper shows two exams; here every exam has its table and its map."
    return Section("Exams (Fig. 4)", (text,), (table,), (figure,), {"Exam by exam, and the paper's two": "exams.html"})


def fig_4_predictions(published: Published) -> pd.DataFrame:
    """Fig. 4's two patients as a predictions table: one row per printed image, labelled or predicted, since their numbers differ."""
    rows = []
    for number in (1, 2):
        counts = published.tables[f"fig_4_patient_{number}"].frame.fillna(0).astype(int)
        for region, line in counts.iterrows():
            side, where, level = str(region).lower().split()
            zone = f"{side[0].upper()}-{where}-{ {'superior': 'upper', 'inferior': 'lower'}[level] }"
            for c in SCORES:
                rows += [(number, zone, c, -1)] * line[f"Score {c}, true"] + [(number, zone, -1, c)] * line[f"Score {c}, predicted"]
    table = pd.DataFrame(rows, columns=["patient", "zone", "target", "pred"]).assign(**{f"p_{c}": np.nan for c in SCORES})
    patient = table["patient"].map({1: "First patient of Fig. 4", 2: "Second patient of Fig. 4"})
    table = table.assign(clip=patient + " " + table["zone"], patient=patient, exam=patient, protocol="12", standard="raillard")
    return table.assign(row=0, frame=range(len(table)), split="test", fold=-1, member="paper", sign=None)


SETTINGS: Final = {
    "networks": "networks",
    "weights": "initial weights of the backbones",
    "dropout": "dropout before each head",
    "lr": "learning rate",
    "batch_size": "images that each head gets in an iteration",
    "max_epochs": "epochs",
    "views": "augmented views of an image whose features are kept",
    "folds": "folds of the cross-validation",
    "size": "size of the decoded images (pixels)",
    "sizes": "input size of each network (pixels)",
    "loss_weights": "weight of each score in the loss",
    "stratify": "what the folds are balanced by",
    "rotate_degrees": "augmentation: rotation (degrees)",
    "shift": "augmentation: shift (share of the side)",
    "scale": "augmentation: scaling (share)",
    "flip": "augmentation: horizontal flip (probability)",
    "study": "simulated study",
    "max_frames": "images taken from a clip, at most",
    "min_gap": "frames between two images of a clip, at least",
    "unit": "unit of the split",
    "test_share": "share of the patients that is tested",
    "val_share": "share of the patients that is validated on",
}
PAPER: Final = Paper(
    title="Raillard et al. 2022: frozen backbones",
    headline="",
    summary="accuracy",
    sections=sections,
    settings=SETTINGS,
    rule="majority",
    zone_rule="pooled",
    examples=fig_4_predictions,
)
