"""A folder of clips with no table beside them: what `predict` is pointed at.

Every video, GIF or still below the folder is a clip, named by its path without suffix. Nobody says who it is of, so each stands as a
patient of its own. That is safe only because nothing here has a label: unlabelled clips are never divided into parts.
"""

from pathlib import Path

import pandas as pd

from lus_lightning.data.readers import IMAGE_SUFFIXES, VIDEO_SUFFIXES, visible
from lus_lightning.data.tables import left_out_table
from lus_lightning.data.unread import NO_TABLE


def matches(root: Path) -> bool:
    """Some clip, and no CSV table or notes."""
    return bool(_files(root)) and not any(p.suffix.lower() in (".csv", ".txt") and visible(p.name) for p in root.iterdir())


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per file, without any label."""
    paths = [file.relative_to(root).as_posix() for file in _files(root)]
    stems = pd.Series([path.rpartition(".")[0] for path in paths])
    names = stems.where(~stems.duplicated(keep=False), pd.Series(paths))
    table = pd.DataFrame({"clip": names, "path": paths, "patient": names})
    table.attrs["notes"] = [NO_TABLE]
    return table, left_out_table([], "")


def _files(root: Path) -> list[Path]:
    found = (p for p in root.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES)
    return sorted(p for p in found if p.is_file() and visible(p.name))
