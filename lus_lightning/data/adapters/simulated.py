"""A study of this package's simulator: `index.csv` beside `study.yaml`."""

from pathlib import Path

import pandas as pd

from lus_lightning.data.adapters import table


def matches(root: Path) -> bool:
    """The simulator leaves its settings beside the table."""
    return (root / "study.yaml").is_file() and (root / "index.csv").is_file()


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The simulator's own sample index, with its `truth_*` columns.

    Raises:
        UserError: the table is missing or lacks a needed column.
    """
    found, left_out = table.read(root)
    found.attrs["read"] = ["index.csv", "study.yaml"]
    return found, left_out
