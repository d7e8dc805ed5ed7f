"""COVID-BLUES, upstream's layout (Wiedemann et al., IEEE J. Biomed. Health Inform. 29(9):6301-6310, 2025).

`lus_videos/patient_<id>_<BLUE point>[_2].mp4`, `severity.csv` (scores after Soldati et al. 2020, A-lines, B-lines) and
`clinical_variables.csv` (PCR result). All clips were recorded with a Philips Lumify and a convex probe in Maastricht (its README).
"""

import re
from pathlib import Path
from typing import Final

import pandas as pd

from lus_lightning.data.readers import VIDEO_SUFFIXES, visible
from lus_lightning.data.tables import left_out_table, need_columns, read_strings

_NAME: Final = re.compile(r"(?P<patient>patient_\d+)_(?P<zone>[LR][1-3])(?:_\d+)?")
_YES_NO: Final = {"yes": "1", "no": "0"}
_COVID: Final = {"1": "COVID", "0": "not COVID"}


def matches(root: Path) -> bool:
    """Both its table of scores and its folder of videos are here."""
    return (root / "severity.csv").is_file() and (root / "lus_videos").is_dir()


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clips that are here, scored or not; those only listed in `severity.csv`, and files of another name, are left out.

    Raises:
        UserError: a table is missing or lacks a column.
    """
    severity = read_strings(root / "severity.csv")
    clinical = read_strings(root / "clinical_variables.csv")
    need_columns(severity, {"video_file", "Severity Score", "A-lines", "B-lines"}, root / "severity.csv")
    need_columns(clinical, {"patient_id", "cov_test"}, root / "clinical_variables.csv")
    videos = {p.stem: p for p in sorted((root / "lus_videos").iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES and visible(p.name)}
    names = {stem: match for stem in videos if (match := _NAME.fullmatch(stem))}

    table = pd.DataFrame({"clip": list(names), "path": [f"lus_videos/{videos[n].name}" for n in names]}, dtype=object)
    table["patient"] = table["exam"] = [m["patient"] for m in names.values()]
    table["zone"], table["protocol"] = [m["zone"] for m in names.values()], "6"
    covid = clinical.assign(patient="patient_" + clinical["patient_id"].str.strip()).set_index("patient")["cov_test"].str.strip()
    table["diagnosis"] = table["patient"].map(covid).map(_COVID)
    labels = severity.assign(clip=severity["video_file"].str.strip()).set_index("clip")
    table["score"] = table["clip"].map(labels["Severity Score"])
    table["standard"] = "soldati"
    for column, upstream in (("a_lines", "A-lines"), ("b_lines", "B-lines")):
        table[column] = table["clip"].map(labels[upstream].str.strip().str.lower()).map(_YES_NO)
    table = table.assign(probe="convex", scanner="Philips Lumify", site="Maastricht")
    table.attrs = {"source": "severity.csv", "read": ["severity.csv", "clinical_variables.csv"]}
    table.attrs["notes"] = severity.attrs["notes"] + clinical.attrs["notes"]

    absent = left_out_table(
        [f"lus_videos/{n}" for n in labels.index if n not in videos], "listed in severity.csv, but the file is not here"
    )
    strange = left_out_table(
        [f"lus_videos/{videos[n].name}" for n in videos if n not in names],
        "not named patient_<number>_<L1..R3>, so whose it is is not known",
    )
    return table, pd.concat([absent, strange], ignore_index=True)
