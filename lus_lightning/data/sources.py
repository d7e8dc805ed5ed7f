"""The data roots of an experiment as one table of clips, with every path made absolute, and the clean truth kept apart."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lus_lightning.data.index import Index, build_index
from lus_lightning.data.roots import local_root
from lus_lightning.errors import UserError

FILE_COLUMNS = ("path", "mask", "frame_labels")


@dataclass(frozen=True)
class Sources:
    """One or two data roots: where training comes from, and perhaps another to test on.

    `clips` is the sample index of both (column `source`: 0 or 1), its files absolute, without any `truth_*` column, and with
    `own_clip` and `own_patient` (the names in the root's own index) and `content` (hash of the clip's files).
    """

    clips: pd.DataFrame
    indices: tuple[Index, ...]
    simulated: tuple[bool, ...]
    _truth: pd.DataFrame

    def card(self) -> dict[str, Any]:
        """What a report says of the data: names, fingerprint, whether simulated, how much was left out."""
        card = {"name": self.indices[0].name, "simulated": self.simulated[0], "fingerprint": "+".join(i.fingerprint for i in self.indices),
                "left_out": sum(len(i.left_out) for i in self.indices)}  # fmt: skip
        return card | ({"test_name": self.indices[1].name, "test_simulated": self.simulated[1]} if len(self.indices) == 2 else {})

    def truth(self) -> pd.DataFrame | None:
        """The clean truth of simulated clips (clip, frame, truth_score; frame -1: the clip), for evaluation alone; none for real clips."""
        known = self._truth.dropna(subset=["truth_score"])
        if known.empty:
            return None
        parts = [known[["clip", "truth_score"]].assign(frame=-1)]
        for clip, path in known[["clip", "frame_labels"]].dropna().itertuples(index=False):
            labels = pd.read_csv(path)
            parts.append(labels[["frame", "truth_score"]].assign(clip=clip))
        return pd.concat(parts, ignore_index=True)[["clip", "frame", "truth_score"]].astype({"truth_score": np.int64})


def read_sources(root: str | Path, test_root: str | Path | None, adapter: str | None, cache_dir: Path) -> Sources:
    """Index the root(s). With two, clips and patients are prefixed by their root's name, so that names may repeat.

    Raises:
        UserError: what `build_index` raises, or the two roots score by different standards.
    """
    roots = [root] if test_root is None else [root, test_root]
    indices = tuple(build_index(r, adapter if i == 0 else None, cache_dir=cache_dir) for i, r in enumerate(roots))
    local = [local_root(r, cache_dir) for r in roots]
    tables = []
    for i, (index, folder) in enumerate(zip(indices, local, strict=True)):
        table = index.table.assign(source=i, content=list(index.contents))
        table = table.assign(own_clip=table["clip"], own_patient=table["patient"])
        for column in FILE_COLUMNS:
            if column in table:
                table[column] = [str(folder / p) if isinstance(p, str) else None for p in table[column]]
        if len(roots) == 2:
            table = table.assign(clip=f"{index.name}/" + table["clip"], patient=f"{index.name}/" + table["patient"])
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
    return Sources(clips, indices, tuple((folder / "study.yaml").is_file() for folder in local), truth)
