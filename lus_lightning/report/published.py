"""What a paper printed, from `published/<recipe>.yaml`: values, tables and errata, so that a report sets "printed" beside "here"."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from lus_lightning.errors import UserError


@dataclass(frozen=True)
class Value:
    """One printed number or word; `derived` says how it was worked out, `missing` why there is none."""

    value: float | str | None
    unit: str
    source: str
    derived: str = ""
    missing: str = ""


@dataclass(frozen=True)
class PrintedTable:
    """One printed table: `rows` maps a row's name to its values in the order of `columns`, None where the paper prints none."""

    title: str
    source: str
    unit: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    derived: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """The table as float64, rows and columns named as printed, NaN where nothing is printed."""
        return pd.DataFrame(list(self.rows.values()), index=pd.Index(self.rows), columns=pd.Index(self.columns), dtype="float64")

    @property
    def remarks(self) -> list[str]:
        """The notes as sentences, each after the rows that it is about (their numbers, where they are numbered)."""
        rows: dict[str, list[str]] = {}
        for row, note in self.notes.items():
            rows.setdefault(note, []).append(row.split()[0] if row[0].isdigit() else row)
        return [f"{', '.join(names)}: {note}" for note, names in rows.items()]


@dataclass(frozen=True)
class Erratum:
    """A place where the paper contradicts itself: what it prints, what its numbers say, and how that is known."""

    id: str
    where: str
    printed: str
    meant: str
    evidence: str


@dataclass(frozen=True)
class Published:
    """A paper's printed results."""

    recipe: str
    paper: Mapping[str, Any]
    values: Mapping[str, Value]
    tables: Mapping[str, PrintedTable]
    errata: tuple[Erratum, ...]

    @property
    def citation(self) -> str:
        """First author, title, and what is known of journal and year."""
        first, *others = self.paper["authors"].split(",")
        known = [str(self.paper[key]) for key in ("journal", "year") if self.paper[key]]
        return ", ".join([f"{first} et al." if others else first, f"“{self.paper['title']}”", *known])


def _table(entry: dict[str, Any]) -> PrintedTable:
    columns, rows = tuple(entry.pop("columns")), {name: tuple(row) for name, row in entry.pop("rows").items()}
    ragged = [name for name, row in rows.items() if len(row) != len(columns)]
    if ragged:
        raise ValueError(f"row {ragged[0]!r} of {entry['title']!r} has another length than its {len(columns)} columns")
    return PrintedTable(columns=columns, rows=rows, **entry)


def load(recipe: str) -> Published:
    """Read `published/<recipe>.yaml`; raises UserError where no paper stands under that name."""
    folder = files("lus_lightning.report") / "published"
    known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if recipe not in known:
        raise UserError(f"no printed results are kept for the recipe {recipe!r}: choose one of {', '.join(known)}")
    content = yaml.safe_load((folder / f"{recipe}.yaml").read_text(encoding="utf-8"))
    return Published(
        recipe=content["recipe"],
        paper=content["paper"],
        values={name: Value(**entry) for name, entry in content["values"].items()},
        tables={name: _table(entry) for name, entry in content["tables"].items()},
        errata=tuple(Erratum(**entry) for entry in content["errata"]),
    )
