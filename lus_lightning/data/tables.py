"""CSV files as tables of strings, missing cells as None."""

from pathlib import Path
from typing import Final

import pandas as pd

from lus_lightning.errors import UserError


def read_strings(path: Path) -> pd.DataFrame:
    """A CSV file (commas, semicolons or tabs), UTF-8, every cell a string as it stands (a patient may be called `NA`), empty cells None.

    Raises:
        UserError: the file is missing, empty, not UTF-8, or no table.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig", skipinitialspace=True
        )
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8; save the table as UTF-8") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); give a CSV file with a header") from None
    table.columns = table.columns.str.strip()
    return table.astype(object).where(table.notna(), None).copy()


NAMES: Final = dict.fromkeys(("clip", "patient", "exam", "zone", "protocol", "unit", "split", "member", "sign"), str)
"""Columns of our own tables that are names, even where they look like numbers, or like a missing value (a patient called `NA`)."""


def read_own(path: Path) -> pd.DataFrame:
    """A CSV file that this package has written; only an empty cell is missing."""
    return pd.read_csv(path, dtype=NAMES, keep_default_na=False, na_values=[""])


def read_frame_table(path: str | Path) -> pd.DataFrame:
    """Frame labels as they stand in their file; `probe.read_frame_labels` checks them once, when a clip is indexed."""
    return pd.read_csv(path)


def need_columns(table: pd.DataFrame, columns: set[str], source: str | Path) -> None:
    """Raise a UserError that names the columns a table lacks."""
    if missing := sorted(columns - set(table)):
        raise UserError(f"{source}: lacks the column(s) {', '.join(missing)}; add them (it has {', '.join(map(str, table.columns))})")


def left_out_table(paths: list[str], reason: str) -> pd.DataFrame:
    """Rows of a left-out list, all for the same reason."""
    return pd.DataFrame({"path": paths, "reason": [reason] * len(paths)}, dtype=object)
