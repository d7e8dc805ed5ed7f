"""Muñoz et al.: Table 1 printed beside here, the segmenter beside the classifier, its masks, and the affected share of the pleura."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from lus_lightning.errors import UserError
from lus_lightning.evaluation.intervals import paired_difference, patient_bootstrap
from lus_lightning.evaluation.metrics import exam_statistic, metrics, rank_statistic
from lus_lightning.evaluation.segmentation import mean_statistic, segmentation_metrics
from lus_lightning.report.figures import Figure
from lus_lightning.report.papers.base import Paper, Results, Section, open_section
from lus_lightning.report.papers.munoz_clips import CLASSIFIER, RULE, SEGMENTER, has_clips, write_clips
from lus_lightning.report.papers.munoz_figures import CLASS_NAMES, bland_altman
from lus_lightning.report.tables import NOTHING, Here, Table, beside, bounded, cells, estimate
from lus_lightning.scoring.levels import aggregate

NAMES: Final = {CLASSIFIER: "classifier (CM)", SEGMENTER: "segmenter (SM)"}
METRICS: Final = {"Accuracy": "accuracy", "Accuracy within ±1": "accuracy_within_1", "Weighted κ": "qwk"}
"""Rows of Table 1 and our metrics."""
VIEWS: Final = {"General": None, "Long": "longitudinal", "Trans": "transversal"}
"""Columns of Table 1, Dataset-2, and our orientations."""


def sections(results: Results) -> list[Section]:
    """Table 1, masks, affected share, and what the paper leaves open; of the comparator alone only the first and the last."""
    of_masks = [masks_section(results), share_section(results)] if SEGMENTER in results.members else []
    return [scores_section(results), *of_masks, open_section(results, "the recipe or of the rule from masks to scores")]


def clips_of_both(results: Results) -> dict[str, pd.DataFrame]:
    """The labelled test clips of the segmenter and the classifier, in this run or beside it, scored by the 1 % rule."""
    found = {}
    for member in (CLASSIFIER, SEGMENTER):
        for run in (results.run, *results.others.values()):
            if member not in found and len(rows := run.of(member)):
                clips = aggregate(rows, "clip", RULE).filter(regex="^(?!p_)")
                found[member] = clips if "orientation" in clips else clips.assign(orientation=None)
    return found


def seen(clips: pd.DataFrame, view: str) -> pd.DataFrame:
    """The clips of a column of Table 1."""
    return clips if VIEWS[view] is None else clips[clips["orientation"] == VIEWS[view]]


def scores_section(results: Results) -> Section:
    """Table 1, the paired difference, and the clips behind them."""
    both = clips_of_both(results)
    here: dict[tuple[str, str], Here] = {}
    for short, member in (("CM", CLASSIFIER), ("SM", SEGMENTER)):
        for view in VIEWS if member in both else ():
            if len(clips := seen(both[member], view)):
                values = metrics(clips["target"].to_numpy(), clips["pred"].to_numpy())
                bounds = patient_bootstrap(clips, replicates=results.replicates)
                here |= {(row, f"Dataset-2 {short} {view}"): bounded(values[m], bounds[m], clips) for row, m in METRICS.items()}
    tables = [beside("table_1", results.published.tables["table_1"], here, table_1_notes(results, both), digits=2, noun="clips")]
    text = "A clip's score is the highest that at least 1 % of its assessable frames, and at least one, have; so is its label."
    text += "".join(f" The {name} was not run here." for member, name in NAMES.items() if member not in both)
    if len(both) == len(NAMES):
        tables.append(difference_table(results, both))
    return Section("Clip scores (Table 1)", (text,), (*tables, ranks_table(results, both), clips_table(results, both)))


def table_1_notes(results: Results, both: Mapping[str, pd.DataFrame]) -> list[str]:
    """What Table 1's reader must know."""
    kind = "simulated" if results.run.simulated else "real"
    notes = [
        *results.published.tables["table_1"].remarks,
        f"Here: the tested clips of this run ({results.run.data_name}, {kind}), neither of the paper's data sets. They stand beside"
        " Dataset-2, because that too is told by orientation; Dataset-1 has nothing beside it.",
        "The printed SM figures of Dataset-2 leak: 27 of its 30 patients trained the segmenter (the paper's Discussion says so). Of the"
        " printed SM figures only those of Dataset-1 are free of that.",
    ]
    if results.run.provenance["split_unit"] == "patient":
        notes.append("Here no tested patient was trained on.")
    if SEGMENTER in both:
        notes.append("A clip without an assessable frame has no score: wrong in both accuracies, no part in κ.")
    if not any(len(seen(clips, view)) for clips in both.values() for view in ("Long", "Trans")):
        notes.append("No tested clip says how the probe was held, so there are no figures by orientation.")
    return notes


def difference_table(results: Results, both: Mapping[str, pd.DataFrame]) -> Table:
    """Segmenter less classifier on the clips that both have, on the same resamples of patients.

    Raises:
        UserError: the two have other labels for a clip, or no clip in common.
    """
    keys = ["patient", "exam", "clip"]
    common = both[SEGMENTER][[*keys, "target"]].merge(both[CLASSIFIER][[*keys, "target"]], on=keys, suffixes=("", "_beside"))
    if common.empty or (common["target"] != common["target_beside"]).any():
        raise UserError(f"the classifier beside {results.run.folder} was tested on other clips or labels: run both on the same data")
    here: dict[tuple[str, str], Here] = {}
    pair = [clips[clips["clip"].isin(common["clip"])] for clips in (both[SEGMENTER], both[CLASSIFIER])]
    for view in VIEWS:
        if len(clips := seen(pair[0], view)):
            found = paired_difference(clips, seen(pair[1], view), replicates=results.replicates)
            here |= {(row, f"Dataset-2 {view}"): bounded(found[m].value, found[m], clips) for row, m in METRICS.items()}
    alone = [f"{len(clips) - len(common)} only by the {member}" for member, clips in both.items() if len(clips) > len(common)]
    notes = ["Intervals are paired: both on the same clips and the same resamples of patients."]
    notes += [f"Left out: clips scored {', '.join(alone)}."] if alone else []
    return beside("difference", results.published.tables["difference"], here, notes, digits=2, noun="clips")


def ranks_table(results: Results, both: Mapping[str, pd.DataFrame]) -> Table:
    """How the order of clips by score, and by affected share, follows that by label; the paper has no such figure."""
    pairs = {f"Score of the {NAMES[member]}": (clips[clips["pred"] >= 0], "pred") for member, clips in both.items()}
    path = results.run.folder / "measures.parquet"
    if SEGMENTER in both and path.is_file():
        share = pd.read_parquet(path).groupby("row")["share"].mean()
        clips = both[SEGMENTER].assign(share=both[SEGMENTER]["row"].map(share)).dropna(subset="share")
        pairs[f"Mean affected share of the {NAMES[SEGMENTER]}"] = (clips, "share")
    entries = []
    for row, (clips, column) in pairs.items():
        if clips.empty:
            continue
        statistic, whole = rank_statistic(column), np.zeros(len(clips), dtype=np.int64)
        value = float(statistic(clips, whole)(np.ones((1, 1)))[column][0])
        bounds = patient_bootstrap(clips, statistic, results.replicates)[column]
        entries.append((row, "Spearman's ρ with the label", None, bounded(value, bounds, clips)))
    note = "A clip without a score, or without a share, takes no part."
    return Table("ranks", "Rank correlation with the label", "", cells(entries), digits=2, notes=(note,), noun="clips")


def clips_table(results: Results, both: Mapping[str, pd.DataFrame]) -> Table:
    """How many clips and patients there are."""
    clips = next(iter(both.values()))
    here: dict[tuple[str, str], Here] = {}
    for view, orientation in VIEWS.items():
        own = seen(clips, view)
        row = f"This run, test{f', {orientation}' if orientation else ''}"
        counts = {"Clips": len(own), "Patients": own["patient"].nunique()}
        here |= {(row, column): Here(float(n), n=len(own), n_patients=counts["Patients"]) for column, n in counts.items()}
    return beside("clips", results.published.tables["data"], here, digits=0, noun="clips")


def masks_section(results: Results) -> Section:
    """Overlap of each class, and how well the pleural line is found, where there are true masks."""
    path = results.run.folder / "segmentation.parquet"
    if not path.is_file():
        return Section("Masks", ("The tested clips have no masks, so overlap and the pleural line's distance are left out.",))
    found = segmentation_metrics(pd.read_parquet(path), replicates=results.replicates)
    names = {name: f"{CLASS_NAMES[name]} ({record['n']} clips, {record['n_patients']} patients)" for name, record in found.items()}
    columns = {"Dice": "dice", "IoU": "iou", "False share of clips without it": "false_share"}
    overlap = [(names[name], c, None, class_value(record, m)) for name, record in found.items() for c, m in columns.items()]
    notes = (
        "Means over the clips that truly have the class (as many stand in the row); a clip's Dice and IoU from the sums over its frames.",
        "False share: of the pixels of a clip that truly lacks the class, those said to be of it.",
    )
    tables = [Table("segmentation", "Overlap of each class", "", cells(overlap), digits=3, notes=notes, noun="clips")]
    line = found["pleural_line"]
    measures = {
        "Distance (samples of 256)": "distance_samples",
        "Distance (mm)": "distance_mm",
        "True scan lines missed (share)": "lines_missed",
        "Found scan lines that are false (share)": "lines_false",
    }
    entries = [(row, "Mean over clips", None, class_value(line, m)) for row, m in measures.items()]
    note = "Distance: along a scan line, between the middles of the found and the true pleural line; in mm where the scale is known."
    tables.append(Table("pleural_line", "The pleural line", "", cells(entries), digits=2, notes=(note,), noun="clips"))
    text = "Masks in beam space, 128 scan lines x 256 depth samples. The paper prints no figure of its masks."
    return Section("Masks", (text,), tuple(tables))


def class_value(record: Mapping[str, Any], name: str) -> Here:
    """A mean over clips from `segmentation_metrics`."""
    if record.get(name) is None:
        return NOTHING
    return estimate(dict(record) | {"n": record[f"{name}_n"]}, name)


def share_section(results: Results) -> Section:
    """The affected share against that of the true masks (Bland and Altman 1986), frames that are not assessable, and the clips' page."""
    title, path = "The affected share of the pleura", results.run.folder / "measures.parquet"
    links = {"Clip by clip: pictures, masks, scan lines, share over time, score": "clips.html"} if has_clips(results.run) else {}
    if not path.is_file():
        return Section(title, ("This run kept no measures of its masks.",), links=links)
    measures = pd.read_parquet(path)
    tables: list[Table] = [assessable_table(results, measures)]
    text = ["Share: scan lines with B-lines, of those where the pleura is visible."]
    figures = []
    if "true_share" in measures and len(clips := clip_shares(measures)):
        agreement = agreement_table(results, clips)
        alt = "Difference of the segmenter's and the true masks' affected share against their mean, one mark a clip, with bias and limits"
        figures.append(Figure("share", "Affected share, segmenter against true masks", alt, partial(bland_altman, clips, agreement)))
        tables.insert(0, agreement)
    else:
        text.append("The tested clips have no masks, so there is no true share to compare it with.")
    return Section(title, tuple(text), tuple(tables), tuple(figures), links)


def clip_shares(measures: pd.DataFrame) -> pd.DataFrame:
    """Per clip the mean share in %, predicted (`sum_pred`) and of the true masks (`sum_target`), over the frames that have both."""
    both = measures.dropna(subset=["share", "true_share"])
    of = both.groupby(["row", "clip", "patient"], dropna=False)[["share", "true_share"]].mean().mul(100).reset_index()
    ways = measures.drop_duplicates("row").set_index("row")["orientation"]
    return of.rename(columns={"share": "sum_pred", "true_share": "sum_target"}).assign(orientation=of["row"].map(ways))


def agreement_table(results: Results, clips: pd.DataFrame) -> Table:
    """Bias, limits of agreement and intraclass correlation: what `exam_statistic` says of sums holds of any pair of numbers."""
    rows = {
        "Bias": "sum_bias",
        "Lower limit of agreement": "sum_loa_low",
        "Upper limit of agreement": "sum_loa_high",
    }
    entries = []
    for view, orientation in VIEWS.items():
        if len(own := seen(clips, view)):
            whole = exam_statistic(own, np.zeros(len(own), dtype=np.int64))(np.ones((1, 1)))
            bounds = patient_bootstrap(own, exam_statistic, results.replicates)
            column = f"{orientation or 'all'} ({len(own)} clips)"
            entries += [(row, column, None, bounded(float(whole[m][0]), bounds[m], own)) for row, m in rows.items()]
    notes = (
        "Segmenter less true masks; a clip's share is the mean over its frames in which both see the pleura.",
        "Limits: bias ± 1.96 standard deviations over clips (Bland and Altman 1986); several clips of a patient count as several.",
    )
    unit = "percentage points"
    return Table("share", "Bland–Altman: affected share", unit, cells(entries), digits=1, notes=notes, noun="clips")


def assessable_table(results: Results, measures: pd.DataFrame) -> Table:
    """Frames in which no pleura is visible, and clips of nothing else: the rule gives them no score."""
    entries = []
    for column, by in {"share": "the segmenter's masks", "true_share": "the true masks"}.items():
        if column in measures:
            frames = measures.assign(none=measures[column].isna().astype(float))
            clips = frames.groupby(["row", "patient"])["none"].min().reset_index()
            for name, own in (("Frames", frames), ("Clips without an assessable frame", clips)):
                bounds = patient_bootstrap(own, mean_statistic("none"), results.replicates)["none"]
                row = f"{name}, by {by}: {int(own['none'].sum()):,} of {len(own):,}"
                entries.append((row, "Share", None, bounded(own["none"].mean(), bounds, own, 100)))
    note = "Not assessable: no scan line shows the pleura (pleural line or consolidation). That is no score, and not score 0."
    return Table("assessable", "Not assessable", "%", cells(entries), digits=1, notes=(note,), noun="frames")


SETTINGS: Final = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "schedule": "learning rate over the training",
    "weights": "initial weights",
    "encoder": "encoder of the Attention U-Net",
    "decoder_channels": "width of the decoder",
    "network": "network of the classifier",
    "threshold": "probability from which on a pixel is of a class",
    "rule": "numbers of the rule from masks to scores",
    "beam_space": "scan lines x depth instead of the picture",
    "size": "input size (pixels; in beam space depth samples)",
    "iterations": "iterations",
    "batch_size": "images of an iteration",
    "study": "simulated study",
    "max_frames": "images taken from a clip, at most",
    "min_gap": "frames between two images of a clip, at least",
    "unit": "unit of the split",
    "test_share": "share of the patients that is tested",
    "val_share": "share of the patients that is validated on",
}
PAPER: Final = Paper("Muñoz et al.: segmentation to score", SEGMENTER, "table_1", sections, SETTINGS, RULE, page=write_clips)
COMPARATOR: Final = Paper("Muñoz et al.: the classifier alone", CLASSIFIER, "table_1", sections, SETTINGS, RULE, printed="munoz")
