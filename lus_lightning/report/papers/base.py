"""What a paper's own part of the report is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment

from lus_lightning.report.figures import Figure
from lus_lightning.report.published import Published
from lus_lightning.report.run import Run
from lus_lightning.report.tables import Table


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs of plain text, links (text -> file of the report), then tables and figures."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What a paper's part is written from: a run, the runs beside it, and both evaluated (`members` of `metrics.json`)."""

    run: Run
    others: Mapping[str, Run]
    published: Published
    members: Mapping[str, Any]
    other_members: Mapping[str, Mapping[str, Any]]
    replicates: int = 1000


@dataclass(frozen=True)
class Paper:
    """A recipe's entry.

    Args:
        title: heading of the page.
        headline: the member whose figures stand first; empty: the first of the run's networks.
        summary: name of the table that the terminal shows.
        sections: the paper's own part, in order.
        settings: what the recipe's keys (their last part) mean, in plain words.
        rule, zone_rule: how frames become clips, zones and exams; see `scoring.levels.aggregate`.
        examples: exams that the paper prints image by image, as a predictions table; they are shown below the run's own.
        printed: name of the file of printed results, where it is not the recipe's.
        page: writes a page of its own into the report's folder, with the warnings at its top.
    """

    title: str
    headline: str
    summary: str
    sections: Callable[[Results], list[Section]]
    settings: Mapping[str, str]
    rule: str = "mean"
    zone_rule: str = "worst"
    examples: Callable[[Published], pd.DataFrame] | None = None
    printed: str = ""
    page: Callable[[Results, Path, Environment, Sequence[str]], None] | None = None


def open_section(results: Results, where: str) -> Section:
    """What the paper does not say, of the printed file's entries; `where`: what names our choices instead."""
    gaps = [entry.missing for entry in results.published.values.values() if entry.missing]
    ours = f"Where a choice was needed here, it is a named parameter of {where}, and ours."
    return Section("What the paper leaves open", (*(f"{gap}." for gap in gaps), ours))
