"""Tables: people's, of strings under the headings we know, missing cells None; and those that this package has written."""

import difflib
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from lus_lightning.data.cells import read_cells
from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS

SCORE_RULE: Final = "a score is 0, 1, 2 or 3, or empty"
SIGN_RULE: Final = "a sign is 0, 1, or empty (nobody looked); yes and true are read as 1, no and false as 0"
_YES_NO: Final = {"yes": "1", "true": "1", "no": "0", "false": "0"}


def read_strings(path: Path) -> pd.DataFrame:
    """A table as `cells.read_cells` reads it, every cell a string as it stands (a patient may be called `NA`), empty cells None.

    `attrs["notes"]` says how it was read where that is not UTF-8 with commas. A column without heading and content is gone.

    Raises:
        UserError: as `read_cells`, a row has more cells than there are headings, or two columns have one heading.
    """
    (head, *rows), said = read_cells(path)
    width = max(map(len, rows), default=0)
    if width > len(head):
        row = next(i for i, cells in enumerate(rows, 1) if len(cells) == width)
        raise UserError(
            f"{path}, row {row}: has {width} cells, but the heading {len(head)}; give each column a heading, and put quotes around a cell"
            " that holds the separator"
        )
    names = [unicodedata.normalize("NFC", name).strip() or f"column {i}, which has no heading" for i, name in enumerate(head, 1)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{path}: two columns are called {', '.join(sorted(twice))}; rename or delete one")
    filled = [[cell if cell.strip() else None for cell in cells] + [None] * (len(head) - len(cells)) for cells in rows]
    table = pd.DataFrame(filled, columns=names, dtype=object)
    blank = [c for c, name in zip(names, head, strict=True) if not name.strip() and table[c].isna().all()]
    table = table.drop(columns=blank)
    table.attrs["notes"] = [f"{path.name} is read {', '.join(said)}"] if said else []
    return table


def under_known_headings(table: pd.DataFrame, names: Collection[str], source: Path, prefixes: tuple[str, ...] = ()) -> pd.DataFrame:
    """The columns that are known, whatever the case of their headings and with spaces or hyphens for underscores.

    `attrs["notes"]` grows by what was taken as what, and what is not read.

    Args:
        table: from `read_strings`.
        names: of known columns.
        source: the table's file.
        prefixes: what other known columns begin with.

    Raises:
        UserError: two columns would have one name.
    """
    headings = [str(c) for c in table]
    plain = {c: re.sub(r"[\s_\-]+", "_", unicodedata.normalize("NFKC", c).strip().casefold()) for c in headings}
    known = {c: name for c, name in plain.items() if name in names or name.startswith(prefixes or ("\0",))}
    taken = list(known.values())
    if twice := {name for name in taken if taken.count(name) > 1}:
        both = [repr(c) for c, name in known.items() if name in twice]
        raise UserError(f"{source}: {' and '.join(both)} mean the same column; rename or delete one")
    notes = list(table.attrs["notes"])
    if other := [f"{c!r} as {name}" for c, name in known.items() if c != name]:
        notes.append(f"{source.name}: headings are taken as ours: {', '.join(other)}")
    if strange := [c for c in headings if c not in known]:
        near = {c: difflib.get_close_matches(plain[c], [n for n in names if n not in taken], 1) for c in strange}
        shown = [f"{c} (is {near[c][0]} meant?)" if near[c] else c for c in strange]
        notes.append(f"{source.name}: columns not read: {', '.join(shown)}")
    found = table[list(known)].rename(columns=known)
    found.attrs["notes"] = notes
    return found


def numbers(values: pd.Series, yes_no: bool = False) -> tuple[pd.Series, pd.Series]:
    """Cells as float (missing and wrong ones NaN), and which are wrong: neither empty nor a finite number.

    `0,5` is 0.5; with `yes_no`, yes and true are 1, no and false 0, in any case.
    """

    def plain(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value.strip().casefold()
        text = _YES_NO.get(text, text) if yes_no else text
        return (re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", text) if "," in text else text) or None

    # Each start reads the labels of every clip's frames, so that this costs no more pandas than it must.
    cells = pd.array([plain(value) for value in values], dtype=object)
    found = pd.to_numeric(pd.Series(cells, values.index), errors="coerce").astype("Float64").astype(float)
    return found, pd.Series(pd.notna(cells) & ~np.isfinite(found.to_numpy()), values.index)


NAMES: Final = dict.fromkeys(("clip", "patient", "exam", "zone", "protocol", "unit", "split", "member", "sign"), str)
"""Columns of our own tables that are names, even where they look like numbers, or like a missing value (a patient called `NA`)."""


def read_own(path: Path) -> pd.DataFrame:
    """A CSV file that this package has written; only an empty cell is missing."""
    return pd.read_csv(path, dtype=NAMES, keep_default_na=False, na_values=[""])


def read_frame_table(path: str | Path) -> pd.DataFrame:
    """Frame labels as numbers: `frame` int64, `score`, signs, `rater_*` and `truth_*` float where given, missing NaN.

    `probe.read_frame_labels` checks their ranges once, when a clip is indexed. `attrs["notes"]`: see `under_known_headings`.

    Raises:
        UserError: as `read_strings` and `under_known_headings`, a column `frame` or `score` is missing, or a cell is no number.
    """
    path = Path(path)
    labels = under_known_headings(read_strings(path), ("frame", "score", *SIGNS), path, ("rater_", "truth_"))
    if missing := {"frame", "score"} - set(labels):
        raise UserError(f"{path}: the frame labels lack the column(s) {', '.join(sorted(missing))}; they need frame,score")
    found: dict[str, pd.Series] = {}
    for column, written in labels.items():
        found[str(column)], wrong = numbers(written, column in SIGNS)
        if column == "frame":
            wrong |= found["frame"] % 1 != 0
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            rule = "it is the number of a frame, from 0" if column == "frame" else SIGN_RULE if column in SIGNS else SCORE_RULE
            raise UserError(f"{path}, row {row + 1}: column `{column}` is {written.iloc[row]!r}; {rule}")
    table = pd.DataFrame(found | {"frame": found["frame"].astype(np.int64)})
    table.attrs = labels.attrs
    return table


def need_columns(table: pd.DataFrame, columns: set[str], source: str | Path, has: pd.DataFrame | None = None, remedy: str = "") -> None:
    """Raise a UserError that names the columns a table lacks.

    Args:
        table: of the columns that are known.
        columns: that it needs.
        source: the table's file.
        has: the table as it was written, if it has other columns.
        remedy: what else can be done.
    """
    if missing := sorted(columns - set(table)):
        written = ", ".join(map(str, (table if has is None else has).columns))
        raise UserError(f"{source}: lacks the column(s) {', '.join(missing)}; add them (it has {written}){remedy}")


def left_out_table(paths: list[str], reason: str) -> pd.DataFrame:
    """Rows of a left-out list, all for the same reason."""
    return pd.DataFrame({"path": paths, "reason": [reason] * len(paths)}, dtype=object)
