"""Duan et al. 2022: Tab. 1, printed beside here, for the only sign of a picture or for several signs at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from lus_lightning.evaluation.intervals import patient_bootstrap
from lus_lightning.evaluation.metrics import score_statistic
from lus_lightning.labels import SIGNS
from lus_lightning.report.figures import Figure, dots
from lus_lightning.report.papers.base import Paper, Results, Section
from lus_lightning.report.papers.four_signs_curves import curves_section
from lus_lightning.report.published import PrintedTable
from lus_lightning.report.tables import Here, Table, beside, bounded, cells, estimate

MEMBER: Final = "network"
NAMES: Final = dict(zip(SIGNS, ("A-lines", "B-lines", "Pleural effusion", "Consolidation"), strict=True))
COLUMNS: Final = {
    "Precision": "precision",
    "Specificity": "specificity",
    "F1": "f1",
    "Recall": "sensitivity",
    "Accuracy": "accuracy",
}
"""Columns of Tab. 1 and our metrics."""


def sections(results: Results) -> list[Section]:
    """Tab. 1 and what belongs to it; for several signs at once also the threshold curves."""
    if results.run.info.get("task") == "signs":
        return [several_section(results), curves_section(results.run.of(MEMBER), NAMES)]
    return [only_section(results)]


def without_label(results: Results) -> str:
    """How many clips had no label, and why."""
    reasons: Mapping[str, int] = results.run.info["data"].get("unlabelled", {})
    if not reasons:
        return "Every clip has a label."
    return f"Left out: {', '.join(f'{n:,} clips with {reason}' for reason, n in reasons.items())}."


def only_section(results: Results) -> Section:
    """Each picture shows one sign alone, as in the paper: one class against the other three."""
    record = results.members[MEMBER]["frame"]
    here = {(NAMES[sign], column): estimate(record, f"{metric}_{sign}", 100) for sign in SIGNS for column, metric in COLUMNS.items()} | {
        ("Total", column): estimate(record, metric, 100) for column, metric in COLUMNS.items()
    }
    notes = ["Total: means over the signs that occur, and the share of all images that got their own sign under Accuracy."]
    if absent := [NAMES[sign] for sign, n in zip(SIGNS, record["patients_per_class"], strict=True) if not n]:
        notes.append(f"No tested image is labelled {', '.join(absent)}.")
    table = beside("table_1", results.published.tables["table_1"], here, notes)
    kappa = beside("kappa", results.published.tables["kappa"], {("Four classes", "Kappa"): estimate(record, "kappa")}, digits=3)
    text = (f"A picture's class is the only sign of its clip. {without_label(results)}",)
    return Section("The four signs (Tab. 1)", text, (table, kappa, confusion_table(record), images_table(results)), (_chart(table),))


def confusion_table(record: Mapping[str, Any]) -> Table:
    """The confusion matrix in words; the abstract announces one, the text prints none."""
    patients = dict(zip(SIGNS, record["patients_per_class"], strict=True))
    entries = [
        (NAMES[sign], column, None, Here(float(count), n=int(sum(counts)), n_patients=patients[sign]))
        for sign, counts in zip(SIGNS, record["confusion"], strict=True)
        for column, count in zip([*NAMES.values(), "no answer"], counts, strict=True)
    ]
    note = "Rows are labels, columns what the network says."
    return Table("confusion_matrix", "Confusion matrix", "images", cells(entries), digits=0, notes=(note,))


def images_table(results: Results) -> Table:
    """How many tested images have each sign that anybody looked for."""
    rows = results.run.of(MEMBER)
    several = rows["sign"].notna().any()
    shows = rows["sign"].where(rows["target"] == 1) if several else rows["target"].map(dict(enumerate(SIGNS)))
    signs = [sign for sign in SIGNS if not several or (rows["sign"] == sign).any()]
    n, n_patients = _n_images(rows), rows["patient"].nunique()
    here = {(NAMES[sign], "Images"): Here(float((shows == sign).sum()), n=n, n_patients=n_patients) for sign in signs}
    notes = ("Printed: all images; here: those that were tested on.",)
    return beside("images", of_signs(results.published.tables["data"], signs), here, notes, digits=0)


def _n_images(rows: pd.DataFrame) -> int:
    """Images, of which several signs are several rows."""
    return len(rows[["row", "frame"]].drop_duplicates())


def of_signs(printed: PrintedTable, signs: Sequence[str]) -> PrintedTable:
    """A printed table without the rows of other signs."""
    others = {NAMES[sign] for sign in SIGNS if sign not in signs}
    return replace(printed, rows={row: values for row, values in printed.rows.items() if row not in others})


def several_section(results: Results) -> Section:
    """Each sign is a question of its own: present or not."""
    records, rows = results.members[MEMBER]["frame"], results.run.of(MEMBER)
    signs = [sign for sign in SIGNS if sign in records]
    both = [sign for sign in signs if rows.loc[rows["sign"] == sign, "target"].nunique() == 2]
    of_both = rows[rows["sign"].isin(both or signs)]
    whole = mean_over_signs(of_both, np.zeros(len(of_both), dtype=np.int64))(np.ones((1, 1)))
    bounds = patient_bootstrap(of_both, mean_over_signs, results.replicates)
    here: dict[tuple[str, str], Here] = {}
    for column, metric in COLUMNS.items():
        key = metric if metric == "accuracy" else f"{metric}_1"
        here |= {(NAMES[sign], column): estimate(records[sign], key, 100) for sign in signs}
        here["Total", column] = bounded(float(whole[key][0]), bounds[key], of_both, 100)._replace(n=_n_images(of_both))
    notes = ["The paper's pictures show one sign alone, and its network chooses one of four; here each sign is present or not.",
             f"Total: printed of four signs, here the mean over {', '.join(NAMES[s] for s in both or signs)}."]  # fmt: skip
    if one := [NAMES[sign] for sign in signs if sign not in both]:
        notes.append(f"Of {', '.join(one)} all tested images show the same (present or absent), so what compares the two is not defined.")
    text = [f"Each sign is a question of its own: present from a probability of 0.5. {without_label(results)}"]
    if absent := [NAMES[sign] for sign in SIGNS if sign not in records]:
        text.append(f"Nobody looked for {' or '.join(absent)}: not trained, not measured, in no table.")
    table = beside("table_1", of_signs(results.published.tables["table_1"], signs), here, notes)
    kappas = {(NAMES[sign], "Kappa"): estimate(records[sign], "kappa") for sign in both}
    kappas["Mean over signs", "Kappa"] = bounded(float(whole["kappa"][0]), bounds["kappa"], of_both)._replace(n=_n_images(of_both))
    note = "The printed kappa is that of one choice among four classes."
    kappa = beside("kappa", results.published.tables["kappa"], kappas, (note,), digits=3)
    return Section("Each sign (Tab. 1)", tuple(text), (table, kappa, images_table(results)), (_chart(table),))


def mean_over_signs(table: pd.DataFrame, units: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A statistic for `patient_bootstrap`: each metric's mean over the signs of a table, undefined where it is for one of them."""
    of = [(table["sign"] == sign).to_numpy() for sign in table["sign"].unique()]
    parts = [score_statistic(table[rows], units[rows], 2, ordered=False) for rows in of]

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        each = [part(weights) for part in parts]
        return {name: np.mean([values[name] for values in each], axis=0) for name in each[0]}

    return resampled


def _chart(table: Table) -> Figure:
    return Figure("tab_1_f1", "Tab. 1: F1 of each sign", "F1 of each sign, printed and here", partial(dots, table, "F1"))


SETTINGS: Final = {
    "network": "network",
    "task": "what is asked of a picture",
    "lr": "learning rate",
    "momentum": "momentum",
    "weight_decay": "L2 regularisation",
    "schedule": "learning rate over the training",
    "weights": "initial weights",
    "size": "input size (pixels)",
    "iterations": "iterations",
    "batch_size": "images of an iteration",
    "max_frames": "images taken from a clip, at most",
    "min_gap": "frames between two images of a clip, at least",
    "unit": "unit of the split",
    "test_share": "share of the patients that is tested",
    "val_share": "share of the patients that is validated on",
}
PAPER: Final = Paper("Duan et al. 2022: four signs", MEMBER, "table_1", sections, SETTINGS)
