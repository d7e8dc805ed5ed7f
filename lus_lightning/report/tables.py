"""The report's tables: cells in long form, so that the page, the CSV files and `metrics.json` show the same numbers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lus_lightning.evaluation.intervals import Difference, Interval
from lus_lightning.report.published import PrintedTable
from lus_lightning.scoring.levels import LEVELS

SUMMARY = {
    "accuracy": "Accuracy",
    "coverage": "Coverage",
    "accuracy_within_1": "Within ±1",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "kappa": "Cohen's κ",
    "qwk": "Weighted κ",
    "auroc": "ROC-AUC",
    "auroc_severe": "ROC-AUC 0–1 | 2–3",
}
"""Metrics of the summary table and their headings."""
SUMS = {
    "sum_icc": "Intraclass correlation",
    "sum_bias": "Bias (points)",
    "sum_loa_low": "Limit of agreement, low (points)",
    "sum_loa_high": "Limit of agreement, high (points)",
}
LEVEL_NAMES = {"frame": "Image", "clip": "Clip", "zone": "Zone", "exam": "Exam (worst zone)"}


class Here(NamedTuple):
    """A number measured in this run, its 95 % interval over patients (NaN: none), samples and patients."""

    value: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    n_patients: int = 0


NOTHING = Here(np.nan)


@dataclass(frozen=True)
class Table:
    """Rows x columns of numbers, "printed" beside "here".

    Args:
        name: of the CSV file, without suffix.
        title: heading.
        unit: of the numbers ("%", "images", "" for shares in [0, 1]).
        cells: long form: `row`, `column`, `printed`, `here`, `low`, `high`, `n`, `n_patients`.
        source: where the paper prints it; empty where it does not.
        digits: decimals shown on the page (files hold all).
        notes: sentences below the table.
        noun: what `n` counts.
        split: the part of the predictions that it is of; empty: the quoted one.
    """

    name: str
    title: str
    unit: str
    cells: pd.DataFrame
    source: str = ""
    digits: int = 1
    notes: tuple[str, ...] = ()
    noun: str = "images"
    split: str = ""

    @property
    def columns(self) -> list[str]:
        """Headings, in order."""
        return list(dict.fromkeys(self.cells["column"]))

    @property
    def has_interval(self) -> bool:
        """Whether any number has an interval."""
        return bool(self.cells["low"].notna().any())

    @property
    def printed_columns(self) -> set[str]:
        """The columns in which the paper prints anything."""
        return set(self.cells.loc[self.cells["printed"].notna(), "column"])

    @property
    def bare_columns(self) -> set[str]:
        """The columns in which nothing of this run can stand: what is printed stands there alone."""
        return self.printed_columns - set(self.cells.loc[self.cells["here"].notna() | (self.cells["n"] > 0), "column"])

    def lines(self) -> Iterator[tuple[str, list[Any]]]:
        """Each row's name and its cells, one per column, None where there is none."""
        by_row = {row: {c.column: c for c in group.itertuples()} for row, group in self.cells.groupby("row", sort=False)}
        for row, cells in by_row.items():
            yield str(row), [cells.get(column) for column in self.columns]

    def get(self, row: str, column: str, what: str = "here") -> float:
        """One number."""
        at = (self.cells["row"] == row) & (self.cells["column"] == column)
        return float(self.cells.loc[at, what].iloc[0])

    def long(self, provenance: Mapping[str, Any]) -> pd.DataFrame:
        """The cells as they go into the CSV file, each with unit and provenance."""
        return self.cells.assign(unit=self.unit, **provenance)


def cells(entries: Iterable[tuple[str, str, float | None, Here]]) -> pd.DataFrame:
    """Long form of (row, column, printed, here)."""
    rows = [(row, column, np.nan if printed is None else float(printed), *here) for row, column, printed, here in entries]
    names = ["row", "column", "printed", "here", "low", "high", "n", "n_patients"]
    return pd.DataFrame(rows, columns=names).astype({"here": float, "low": float, "high": float})


def beside(
    name: str,
    printed: PrintedTable,
    here: Mapping[tuple[str, str], Here],
    notes: Iterable[str] = (),
    rows: Mapping[str, str] | None = None,
    digits: int = 1,
    noun: str = "images",
) -> Table:
    """A printed table with what this run gives for its (row, column), and further rows and columns of this run below and behind.

    Args:
        name: of the CSV file.
        printed: the paper's table.
        here: numbers of this run in the printed table's unit.
        notes: sentences below the table.
        rows: other names for rows.
        digits: decimals shown.
        noun: what `n` counts.
    """
    keys = dict.fromkeys((row, column) for row in printed.rows for column in printed.columns) | dict.fromkeys(here)
    told = {(row, column): value for row, values in printed.rows.items() for column, value in zip(printed.columns, values, strict=True)}
    entries = [((rows or {}).get(r, r), c, told.get((r, c)), here.get((r, c), NOTHING)) for r, c in keys]
    source = printed.source + (f"; derived: {printed.derived}" if printed.derived else "")
    return Table(name, printed.title, printed.unit, cells(entries), source, digits, tuple(notes), noun)


def estimate(record: Mapping[str, Any], metric: str, scale: float = 1.0) -> Here:
    """A metric of a `metrics.json` record; NaN where the metric is undefined or has no interval."""
    value = record.get(metric)
    low, high = record.get(f"{metric}_ci") or (np.nan, np.nan)
    value = np.nan if value is None else value
    return Here(value * scale, low * scale, high * scale, record["n"], record["n_patients"])


def bounded(value: float, interval: Interval | Difference, table: pd.DataFrame, scale: float = 1.0) -> Here:
    """A value with its interval from `evaluation.intervals`, over the rows of `table`."""
    return Here(value * scale, interval.low * scale, interval.high * scale, len(table), table["patient"].nunique())


def records(members: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(member, level, sign, record) of the `members` of `metrics.json`; sign is empty for scores."""
    for member, levels in members.items():
        for level, entry in levels.items():
            for sign, record in [("", entry)] if "n" in entry else entry.items():
                yield member, level, sign, record


def summary_table(members: Mapping[str, Any], member: str) -> Table:
    """One member's metrics at every level."""
    found = list(records({member: members[member]}))
    entries = [
        (heading, f"{LEVEL_NAMES[level]}{f' · {sign}' if sign else ''}, n = {record['n']:,}", None, estimate(record, metric))
        for metric, heading in SUMMARY.items()
        for _, level, sign, record in found
        if metric in record
    ]
    notes = (
        "Sensitivity (recall), specificity, precision, F1 and ROC-AUC are means over the classes that occur; coverage is the share"
        " that got an answer, and an abstention counts as an error.",
    )
    return Table("summary", f"{member}: every level", "", cells(entries), digits=2, notes=notes, noun=_noun(members[member]))


def _noun(levels: Iterable[str]) -> str:
    """What a member's largest n counts: a network that takes whole clips has no images."""
    return "images" if "frame" in levels else "clips"


def members_table(members: Mapping[str, Any], name: str = "members", against: str = "the labels") -> Table:
    """Accuracy of every member at every level, against the labels or, simulated, the clean scores."""
    found = list(records(members))
    order = {level: i for i, level in enumerate(LEVELS)}
    entries = [
        (f"{member}{f' · {sign}' if sign else ''}", LEVEL_NAMES[level], None, estimate(record, "accuracy"))
        for member, level, sign, record in sorted(found, key=lambda f: order[f[1]])
    ]
    return Table(name, f"Accuracy against {against}", "", cells(entries), digits=2, noun=_noun(level for _, level, _, _ in found))


def sums_table(members: Mapping[str, Any], member: str) -> Table | None:
    """Agreement of an exam's sums over zones, None where no exam has sums."""
    record = members[member].get("exam", {})
    entries = [(heading, "Value", None, estimate(record, metric)) for metric, heading in SUMS.items() if record.get(metric) is not None]
    if not entries:
        return None
    notes = ("Sum over the zones that are present, predicted minus labelled; intraclass correlation ICC(2,1), Bland–Altman limits.",)
    return Table("exam_sums", f"{member}: sum over zones", "", cells(entries), digits=2, notes=notes, noun="exams")


def metrics_long(members: Mapping[str, Any]) -> pd.DataFrame:
    """Every metric of every member and level as one row."""
    rows = [
        (member, level, sign, metric, *estimate(record, metric))
        for member, level, sign, record in records(members)
        for metric in record
        if f"{metric}_ci" in record
    ]
    return pd.DataFrame(rows, columns=["member", "level", "sign", "metric", "value", "low", "high", "n", "n_patients"])


def confusions_long(members: Mapping[str, Any]) -> pd.DataFrame:
    """Every confusion matrix, one row per true class."""
    rows = [
        (member, level, sign, target, *counts)
        for member, level, sign, record in records(members)
        for target, counts in enumerate(record["confusion"])
    ]
    classes = max(len(row) for row in rows) - 5
    names = ["member", "level", "sign", "target", *(f"pred_{c}" for c in range(classes)), "abstained"]
    if any(len(row) != len(names) for row in rows):
        raise ValueError("confusion matrices of different sizes in one run")
    return pd.DataFrame(rows, columns=names)
