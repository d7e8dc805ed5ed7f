"""The San Matteo layout (Corso, video net, section on data): folders `patient/exam/area/` of JPEG frames, and `Annotations.txt`.

The report does not say how Annotations.txt is written. Ours, which the simulator writes, is a table with a header line,
`patient,exam,area,score`, separated by commas or tabs, one line per area; an empty score is an area that nobody scored. Lines
`patient/exam/area;score` without a header, as the author's public code reads them, are read too. Scores are after Soldati et al. 2020.
Areas that are numbers 1-14 are the zones of the 14-zone protocol.
"""

from pathlib import Path
from typing import Final

import pandas as pd

from lus_lightning.data.readers import still_files
from lus_lightning.data.tables import left_out_table, need_columns, read_strings, under_known_headings
from lus_lightning.errors import UserError
from lus_lightning.labels import ZONES

_NOTES: Final = "Annotations.txt"
_KEY: Final = ["patient", "exam", "area"]


def matches(root: Path) -> bool:
    """Annotations.txt is here."""
    return (root / _NOTES).is_file()


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One clip per area that holds frames, scored or not; areas only listed are left out.

    Raises:
        UserError: Annotations.txt is missing, lacks a column, or scores an area twice.
    """
    notes = _notes(root / _NOTES)
    need_columns(notes, {*_KEY, "score"}, root / _NOTES)
    if (twice := notes.duplicated(_KEY)).any():
        row = int(twice.to_numpy().argmax())
        raise UserError(f"{root / _NOTES}, row {row + 1}: {'/'.join(notes[_KEY].to_numpy()[row])} has a second score; keep one")
    scores = notes.set_index(_KEY)["score"].to_dict()
    here = [p.relative_to(root).parts for p in sorted(root.glob("*/*/*/")) if p.is_dir() and still_files(p)]
    rows = [
        {
            "clip": "_".join(key),
            "path": "/".join(key),
            "patient": key[0],
            "exam": "/".join(key[:2]),
            "zone": key[2],
            "score": scores.get(key),
        }
        for key in here
    ]
    table = pd.DataFrame(rows, columns=["clip", "path", "patient", "exam", "zone", "score"], dtype=object)
    table["standard"] = "soldati"
    table["protocol"] = "14" if len(table) and set(table["zone"]) <= set(ZONES["14"]) else None
    table.attrs = {"source": _NOTES, "read": [_NOTES], "notes": notes.attrs["notes"]}
    absent = ["/".join(key) for key in notes[_KEY].itertuples(index=False, name=None) if key not in set(here)]
    return table, left_out_table(absent, f"listed in {_NOTES}, but has no frames here")


def _notes(path: Path) -> pd.DataFrame:
    """The table in Annotations.txt, all of it as text."""
    notes = read_strings(path)
    if len(notes.columns) != 2 or notes.columns[0].count("/") != 2:
        return under_known_headings(notes, (*_KEY, "score"), path)
    places, scores = ([column, *notes[column]] for column in notes.columns)  # without a header the first line is none
    table = pd.DataFrame([place.split("/") for place in places], columns=_KEY, dtype=object).assign(score=scores)
    table.attrs = notes.attrs
    return table
