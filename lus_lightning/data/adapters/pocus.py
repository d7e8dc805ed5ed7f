"""The public POCUS collection, upstream's layout with a table of cases (Born et al., Applied Sciences 11(2):672, 2021).

`pocus_{videos,images}/{convex,linear}/...`, upstream's `dataset_metadata.csv` (one row per file, found by its name without suffix) and
`files.csv` (`file`, `patient_or_case_id`, `modality`): the cases of the latter are the patients, because upstream's own patient column
links unrelated cases and parts related ones.

Upstream's zeros are unreliable: a row whose sign columns are all zero counts as missing unless its column `Healthy` is 1. A diagnosis
belongs to a patient: one clip labelled with a disease outweighs the patient's other clips labelled `regular`.
"""

import unicodedata
from pathlib import Path
from typing import Final

import pandas as pd

from lus_lightning.data.readers import IMAGE_SUFFIXES, VIDEO_SUFFIXES, visible
from lus_lightning.data.tables import left_out_table, need_columns, read_strings

_SIGNS: Final = {"a_lines": "A-lines", "b_lines": "B-lines", "effusion": "Effusion", "consolidation": "Consolidations"}
_LOOKED_AT: Final = (*_SIGNS.values(), "Pleural line irregularities", "Air bronchogram")
_DIAGNOSES: Final = {
    "covid-19": "COVID",
    "regular": "healthy",
    "bacterial pneumonia": "bacterial pneumonia",
    "viral pneumonia": "viral pneumonia",
}
_SUFFIXES: Final = VIDEO_SUFFIXES | IMAGE_SUFFIXES


def matches(root: Path) -> bool:
    """Upstream's table and the table of cases are here."""
    return (root / "dataset_metadata.csv").is_file() and (root / "files.csv").is_file()


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every file of `files.csv`; those without a case, or in no table, are left out.

    Raises:
        UserError: a table is missing or lacks a column.
    """
    files = read_strings(root / "files.csv")
    upstream = read_strings(root / "dataset_metadata.csv")
    need_columns(files, {"file", "patient_or_case_id", "modality"}, root / "files.csv")
    need_columns(upstream, {"Filename", "Label", "Healthy", *_LOOKED_AT}, root / "dataset_metadata.csv")
    labels = upstream.assign(key=upstream["Filename"].map(_key)).dropna(subset="key").drop_duplicates("key", keep=False).set_index("key")

    here = files[files["patient_or_case_id"].notna()].reset_index(drop=True)
    stems = here["file"].map(lambda f: Path(f).stem)
    row = labels.reindex([_key(f) for f in here["file"]]).reset_index(drop=True)
    table = pd.DataFrame({"clip": stems.where(~stems.duplicated(keep=False), here["file"]), "path": here["file"]})
    table["patient"] = table["exam"] = here["patient_or_case_id"]
    table["diagnosis"] = _by_patient(row["Label"].str.strip().str.lower().map(_DIAGNOSES), here["patient_or_case_id"])
    seen = row[list(_LOOKED_AT)].apply(lambda c: c.str.strip())
    looked = (seen == "1").any(axis=1) | (row["Healthy"].str.strip() == "1")
    for sign, column in _SIGNS.items():
        table[sign] = seen[column].where(looked)
    table["probe"] = here["modality"].str.strip().str.lower()
    table.attrs = {"source": "dataset_metadata.csv", "read": ["dataset_metadata.csv", "files.csv"]}
    table.attrs["notes"] = files.attrs["notes"] + upstream.attrs["notes"]

    found = (p.relative_to(root).as_posix() for p in sorted(root.rglob("*")) if p.suffix.lower() in _SUFFIXES and visible(p.name))
    unlisted = left_out_table([f for f in found if f not in set(files["file"])], "in no row of files.csv, so whose it is is not known")
    no_case = left_out_table(files.loc[files["patient_or_case_id"].isna(), "file"].tolist(), "files.csv names no patient or case")
    return table, pd.concat([unlisted, no_case], ignore_index=True)


def _key(name: str | None) -> str | None:
    """A file's name as both tables agree on it: no folder, known suffix, case, or outer spaces."""
    if name is None:
        return None
    last = unicodedata.normalize("NFC", Path(name.strip()).name)
    return (Path(last).stem if Path(last).suffix.lower() in _SUFFIXES else last).strip().casefold()


def _by_patient(diagnosis: pd.Series, patient: pd.Series) -> pd.Series:
    ill = diagnosis.where(diagnosis != "healthy").groupby(patient).transform("first")
    return ill.where(ill.notna(), diagnosis)
