"""A run's main table in the terminal, and numbers as text."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable

from lus_lightning.data.tables import read_own
from lus_lightning.errors import UserError


def number(value: float | None, digits: int) -> str:
    """A number as text, “–” for none."""
    return "–" if value is None or pd.isna(value) else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 0) -> str:
    """A difference as text, with its sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text


def printed_number(value: float | None, digits: int) -> str:
    """A printed number with all its decimals, at least `digits`."""
    if value is None or pd.isna(value) or round(value, digits) == value:
        return number(value, digits)
    return number(value, len(f"{value:.10g}".partition(".")[2]))


def print_summary(run: Path) -> None:
    """Print the paper's main table, "printed" beside "here", or the levels where there is none, and where the page lies."""
    folder = Path(run) / "report"
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder} holds no metrics.json: run `report {run}` first")
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    where = content["run"]
    title = f"{where['data']} ({'simulated' if where['simulated'] else 'real'}), split by {where['split_unit']}, seed {where['seed']}"
    shown = RichTable(title=title, caption=f"here: 95 % interval over patients. {content['research_only']}", title_justify="left")
    shown.add_column("")
    printed = content.get("published")
    members: list[dict[Any, Any]] = read_own(folder / "members.csv").to_dict("records")
    rows = printed["tables"][printed["summary"]] if printed else members
    digits = printed["digits"] if printed else 2
    if printed and all(cell["column"] != "Accuracy" for cell in rows):
        _fill_turned(shown, rows, digits)
    else:
        _fill_accuracy(shown, rows, digits, printed)
    console = Console()
    console.print(shown)
    for warning in content["warnings"]:
        console.print(f"- {warning}", highlight=False)
    console.print(f"Report: {folder / 'index.html'}", highlight=False, soft_wrap=True)


def _fill_accuracy(shown: RichTable, rows: list[dict[Any, Any]], digits: int, printed: Mapping[str, Any] | None) -> None:
    """Accuracies: a line for each row of the table."""
    unit = f"accuracy, {printed['unit']}" if printed and printed["unit"] else "accuracy"
    for heading in (["printed"] if printed else []) + ["here", "95 %"]:
        shown.add_column(f"{heading} ({unit})" if heading == "here" else heading, justify="right")
    for cell in rows:
        if printed and cell["column"] != "Accuracy":
            continue
        name = cell["row"] if printed else f"{cell['row']}, {cell['column']}"
        told = [printed_number(cell["printed"], digits)] if printed else []
        shown.add_row(name, *told, number(cell["here"], digits), span(cell, digits))


def _fill_turned(shown: RichTable, rows: list[dict[Any, Any]], digits: int) -> None:
    """A table whose rows are measures: a line for each of its columns, as terminals are narrow."""
    for measure in dict.fromkeys(cell["row"] for cell in rows):
        shown.add_column(f"{measure}\nprinted | here", justify="right")
    for column in dict.fromkeys(cell["column"] for cell in rows):
        of = [cell for cell in rows if cell["column"] == column]
        texts = [f"{printed_number(c['printed'], digits)} | {number(c['here'], digits)}\n{span(c, digits)}".strip() for c in of]
        shown.add_row(column, *texts)


def span(cell: Mapping[str, Any], digits: int) -> str:
    """A cell's interval as text, empty for none."""
    return "" if pd.isna(cell["low"]) else f"{number(cell['low'], digits)} to {number(cell['high'], digits)}"
