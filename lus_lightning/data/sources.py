"""The data roots of an experiment as one table of clips, with every path made absolute, and the clean truth kept apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lus_lightning.data.index import Index, build_index
from lus_lightning.data.roots import local_root
from lus_lightning.data.tables import read_frame_table
from lus_lightning.errors import UserError

FILE_COLUMNS = ("path", "mask", "frame_labels")


@dataclass(frozen=True)
class Sources:
    """One or two data roots: where training comes from, and perhaps another to test on.

    `clips` is the sample index of both (column `source`: 0 or 1), its files absolute, without any `truth_*` column, and with
    `own_clip` and `own_patient` (the names in the root's own index), `content` (hash of the clip's files), `file` (of the clip alone)
    and the root's `data` (its name), `fingerprint` and `simulated`.
    """

    clips: pd.DataFrame
    indices: tuple[Index, ...]
    simulated: tuple[bool, ...]
    names: tuple[str, ...]
    """Of the roots, told apart where their folders have one name."""
    _truth: pd.DataFrame

    @property
    def notes(self) -> list[str]:
        """What the reader should know of the patients' names and of files that stand twice."""
        return [note for index in self.indices for note in index.notes]

    @property
    def left_out(self) -> pd.DataFrame:
        """`path` and `reason` of what the roots hold, but `clips` does not."""
        return pd.concat([index.left_out for index in self.indices], ignore_index=True)

    def card(self) -> dict[str, Any]:
        """What a report says of the data: names, fingerprint, whether simulated, how much was left out."""
        card = {"name": self.names[0], "simulated": self.simulated[0], "fingerprint": "+".join(i.fingerprint for i in self.indices),
                "left_out": len(self.left_out)}  # fmt: skip
        return card | ({"test_name": self.names[1], "test_simulated": self.simulated[1]} if len(self.indices) == 2 else {})

    def truth(self) -> pd.DataFrame | None:
        """The clean truth of simulated clips (clip, frame, truth_score; frame -1: the clip), for evaluation alone; none for real clips."""
        known = self._truth.dropna(subset=["truth_score"])
        if known.empty:
            return None
        parts = [known[["clip", "truth_score"]].assign(frame=-1)]
        for clip, path in known[["clip", "frame_labels"]].dropna().itertuples(index=False):
            labels = read_frame_table(path)
            parts.append(labels[["frame", "truth_score"]].assign(clip=clip))
        return pd.concat(parts, ignore_index=True)[["clip", "frame", "truth_score"]].astype({"truth_score": np.int64})


def read_sources(root: str | Path, test_root: str | Path | None, adapter: str | None, cache_dir: Path) -> Sources:
    """Index the root(s). With two, clips, patients and exams are prefixed by their root's name, so that names may repeat.

    Raises:
        UserError: what `build_index` raises, the two roots hold the same clip, or they score by different standards.
    """
    roots = [root] if test_root is None else [root, test_root]
    indices = tuple(build_index(r, adapter if i == 0 else None, cache_dir=cache_dir) for i, r in enumerate(roots))
    local = [local_root(r, cache_dir) for r in roots]
    names, simulated = _root_names(indices, local), tuple((folder / "study.yaml").is_file() for folder in local)
    if len(roots) == 2:
        _refuse_same(indices, names)
    tables = []
    for i, (index, folder) in enumerate(zip(indices, local, strict=True)):
        table = index.table.assign(source=i, content=list(index.contents), file=list(index.clip_files))
        table = table.assign(own_clip=table["clip"], own_patient=table["patient"])
        table = table.assign(data=names[i], fingerprint=index.fingerprint, simulated=simulated[i])
        for column in FILE_COLUMNS:
            if column in table:
                table[column] = [str(folder / p) if isinstance(p, str) else None for p in table[column]]
        if len(roots) == 2:
            table = table.assign(**{column: f"{names[i]}/" + table[column] for column in ("clip", "patient", "exam")})
        tables.append(table)
    both = pd.concat(tables, ignore_index=True)
    if len(standards := both["standard"].dropna().unique()) > 1:
        raise UserError(
            f"the clips are scored by different standards ({', '.join(standards)}), and 0-3 means something else in each;"
            " test within one standard"
        )
    truth = both[["clip", *(c for c in ("truth_score", "frame_labels") if c in both)]].reindex(
        columns=["clip", "truth_score", "frame_labels"]
    )
    clips = both[[c for c in both if not str(c).startswith("truth_")]]
    return Sources(clips, indices, simulated, names, truth)


def _root_names(indices: Sequence[Index], folders: Sequence[Path]) -> tuple[str, ...]:
    """The roots' own names; where both have one, with the folder that holds them, or with what they are for."""
    names = [index.name for index in indices]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} ({use})" for name, use in zip(names, ("training", "test"), strict=True)]
    return tuple(names)


def _refuse_same(indices: Sequence[Index], names: Sequence[str]) -> None:
    """Refuse to test on clips that are trained on.

    Raises:
        UserError: a file of the test root is in the training root too, under whatever name.
    """
    known = dict(zip(indices[0].clip_files, indices[0].table["clip"], strict=True))
    both = [(clip, known[file]) for file, clip in zip(indices[1].clip_files, indices[1].table["clip"], strict=True) if file in known]
    if both:
        clip, trained = both[0]
        raise UserError(
            f"{len(both)} of {len(indices[1].table)} clips of the test data ({names[1]}) are also in the training data ({names[0]}), such"
            f" as {clip}, there {trained}: they would be trained on and tested on; take them out of one, or test on other data"
        )
