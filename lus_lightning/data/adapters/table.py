"""Any CSV table with the columns of the sample index: what most users have."""

from pathlib import Path

import pandas as pd

from lus_lightning.data.tables import left_out_table, need_columns, read_strings
from lus_lightning.errors import UserError

INDEX = "index.csv"


def matches(root: Path) -> bool:
    """The folder holds `index.csv`, or exactly one CSV file."""
    return _file(root) is not None


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`index.csv`, or the only CSV file, with at least `clip`, `path` (relative to the folder) and `patient`.

    Raises:
        UserError: there is no such table, or it lacks a needed column.
    """
    file = _file(root)
    if file is None:
        raise UserError(f"{root} holds no {INDEX}, nor a single other CSV file; write one with the columns clip, path, patient")
    table = read_strings(file)
    need_columns(table, {"clip", "path", "patient"}, file)
    table.attrs["source"] = file.name
    return table, left_out_table([], "")


def _file(root: Path) -> Path | None:
    if (root / INDEX).is_file():
        return root / INDEX
    found = list(root.glob("*.csv"))
    return found[0] if len(found) == 1 else None
