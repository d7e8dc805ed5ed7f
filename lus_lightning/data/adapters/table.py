"""Any table with the columns of the sample index, CSV or Excel: what most users have."""

from pathlib import Path
from typing import Final

import pandas as pd

from lus_lightning.data.cells import TABLE_SUFFIXES
from lus_lightning.data.readers import visible
from lus_lightning.data.schema import COLUMNS, GEOMETRY, PREFIXES
from lus_lightning.data.tables import left_out_table, need_columns, read_strings, under_known_headings
from lus_lightning.errors import UserError

INDEX: Final = "index"
"""Name, without suffix, of the table that is taken where there are several."""


def matches(root: Path) -> bool:
    """The folder holds `index.csv` (or `.tsv`, `.xlsx`), or exactly one table."""
    return file_of(root) is not None


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`index.csv`, or the only table, with at least `clip`, `path` (relative to the folder) and `patient`.

    Raises:
        UserError: there is no such table, it cannot be read, or it lacks a needed column.
    """
    file = file_of(root)
    if file is None:
        raise UserError(f"{root} holds no index.csv, nor a single other table; write one with the columns clip, path, patient")
    written = read_strings(file)
    table = under_known_headings(written, (*COLUMNS, *GEOMETRY), file, PREFIXES)
    need_columns(table, {"clip", "path", "patient"}, file, has=written,
                 remedy="; or take the clips without their labels, by the adapter clips")  # fmt: skip
    table.attrs |= {"source": file.name, "read": [file.name]}
    return table, left_out_table([], "")


def file_of(root: Path) -> Path | None:
    """The table: `index` of any known suffix, else the only CSV file, else the only table."""
    found = sorted((p for p in root.iterdir() if visible(p.name) and p.suffix.lower() in TABLE_SUFFIXES and p.is_file()),
                   key=lambda p: (TABLE_SUFFIXES.index(p.suffix.lower()), p.name))  # fmt: skip
    for some in ([p for p in found if p.stem.lower() == INDEX][:1], [p for p in found if p.suffix.lower() == ".csv"], found):
        if some:
            return some[0] if len(some) == 1 else None
    return None
