"""What lies in a data folder and is not read: clips in no row, DICOM, tables, files of other kinds."""

import os
from collections import Counter
from pathlib import Path
from typing import Final

import pandas as pd

from lus_lightning.data.annotations import annotation_file
from lus_lightning.data.cells import TABLE_SUFFIXES
from lus_lightning.data.patients import listed
from lus_lightning.data.readers import CLIP_SUFFIXES, visible
from lus_lightning.data.schema import FILES

DICOM: Final = "is DICOM, which is not read yet; convert it to MP4 or PNG first"
NO_TABLE: Final = (
    "no table says who the clips are of: each counts as a patient of its own, and they can be predicted, not trained on; to train, write an"
    " index.csv with the columns clip, path, patient, score, standard"
)
_DICOM_SUFFIXES: Final = (".dcm", ".dicom", ".ima")
_OTHER_TABLES: Final = (*TABLE_SUFFIXES, ".xls", ".ods", ".numbers", ".parquet")


def dicom_files(folder: Path) -> list[str]:
    """DICOM files of a folder, by suffix, or without one by content."""
    return [name for name in _files(folder, set()) if _is_dicom(folder / name)]


def unread(folder: Path, table: pd.DataFrame, read: set[str]) -> tuple[list[str], list[str]]:
    """DICOM files, and sentences on what else of the folder is not read.

    Args:
        folder: the data folder.
        table: the sample index; what it names is read.
        read: other files that are read, relative to the folder.
    """
    named = {str(annotation_file(Path(p))[0].as_posix()) for c in FILES if c in table for p in table[c].dropna()}
    files = [name for name in _files(folder, named) if name not in read]
    dicom = [name for name in files if _is_dicom(folder / name)]
    rest = [Path(name) for name in files if name not in set(dicom)]
    clips = [p.as_posix() for p in rest if p.suffix.lower() in CLIP_SUFFIXES]
    tables = [p.as_posix() for p in rest if p.suffix.lower() in _OTHER_TABLES]
    kinds = Counter(p.suffix.lower() or "without suffix" for p in rest if p.suffix.lower() not in {*CLIP_SUFFIXES, *_OTHER_TABLES})
    notes = []
    if clips:
        notes.append(f"{len(clips)} picture or video file(s) are in no row of the table, and not read: {listed(clips)}")
    if tables:
        notes.append(f"table(s) not read: {listed(tables)}")
    if kinds:
        notes.append(f"files of another kind are not read: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}")
    return dicom, notes


def _files(folder: Path, named: set[str]) -> list[str]:
    """Files below a folder, sorted, without hidden ones, those that are named, and all that lie in folders that are named."""
    found = []
    for place, folders, names in os.walk(folder):
        here = Path(place).relative_to(folder)
        folders[:] = sorted(f for f in folders if visible(f) and (here / f).as_posix() not in named)
        found += [path for name in sorted(names) if visible(name) and (path := (here / name).as_posix()) not in named]
    return found


def _is_dicom(path: Path) -> bool:
    if path.suffix or not path.is_file():
        return path.suffix.lower() in _DICOM_SUFFIXES
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
