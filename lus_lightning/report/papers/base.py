"""What a paper's own part of the report is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lus_lightning.report.figures import Figure
from lus_lightning.report.published import Published
from lus_lightning.report.run import Run
from lus_lightning.report.tables import Table


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs of plain text, then tables and figures."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


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
        headline: the member whose figures stand first.
        summary: name of the table that the terminal shows.
        sections: the paper's own part, in order.
        settings: what the recipe's keys (their last part) mean, in plain words.
    """

    title: str
    headline: str
    summary: str
    sections: Callable[[Results], list[Section]]
    settings: Mapping[str, str]
