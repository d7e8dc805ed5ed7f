"""What a run remembers of its data: who was on which side, with which label and which file; and what has changed since."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from lus_lightning.console import say
from lus_lightning.data.patients import label_text, listed
from lus_lightning.data.sources import Sources
from lus_lightning.errors import UserError

AFTER_CHANGE: Final = ("refuse", "leave_out", "test")
"""What a checkpoint's data may do that has changed since: nothing; go on without the new clips; or test the new patients' clips."""


@dataclass(frozen=True)
class Division:
    """The division of the first data root, by the names of its own index (`sources.Sources`): no position of a row stands in it.

    Args:
        table: `clip`, (`frame`), `patient`, `unit`, `split`, `fold`, and of the clip: `label` (as text) and `content` (hash of its files).
        how: the settings of the division.
        data: name of the root.
        fingerprint: of its index.
    """

    table: pd.DataFrame
    how: dict[str, Any]
    data: str
    fingerprint: str

    @classmethod
    def of_units(cls, units: pd.DataFrame, sources: Sources, how: dict[str, Any]) -> "Division":
        """Of the first root; `units`: `clip`, (`frame`), `split`, `fold`; `how` names the `unit`."""
        clips = sources.clips[sources.clips["source"] == 0]
        clips = clips.assign(label=label_text(clips))[["clip", "own_clip", "own_patient", "label", "content"]]
        columns = ["clip", *(["frame"] if "frame" in units else []), "split", "fold"]
        table = units[columns].merge(clips, on="clip").drop(columns="clip").assign(unit=how["unit"])
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in how.items()}
        index = sources.indices[0]
        return cls(table.rename(columns={"own_clip": "clip", "own_patient": "patient"}), plain, index.name, index.fingerprint)

    def state(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {"table": self.table.to_dict("list"), "how": self.how, "data": self.data, "fingerprint": self.fingerprint}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "Division":
        """Back from a checkpoint."""
        return cls(pd.DataFrame(state["table"]), dict(state["how"]), state["data"], state["fingerprint"])


def kept_division(earlier: Division, now: Division, after_change: str, units: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The earlier division of the clips that are still there and labelled, by their present names, and sentences on what has changed.

    Args:
        earlier: what the checkpoint holds.
        now: what a division of the present data would give; its parts are not used.
        units: `clip`, `patient` and `own_clip` of the present clips.
        after_change: one of `AFTER_CHANGE`; with `test` the clips of new patients, and new clips of tested ones, are tested.

    Raises:
        UserError: the data are others, the settings of the division differ, or (`refuse`) anything has changed.
    """
    if differ := [f"{k} was {v!r} and is {now.how.get(k)!r}" for k, v in earlier.how.items() if now.how.get(k) != v]:
        raise UserError(
            f"the checkpoint's patients were divided otherwise: {'; '.join(differ)} (data.init_args.split); leave these settings as in the"
            " run's config.yaml, or train anew without --ckpt_path"
        )
    old, new = earlier.table, now.table
    if not set(old["clip"]) & set(new["clip"]):
        raise UserError(
            f"the checkpoint was trained on other data ({earlier.data}), and none of its clips is in {now.data}; give the folder that it"
            " was trained on as data.init_args.root, and the one to test on as data.init_args.test_root"
        )
    told = _told(old, new)
    if told and after_change == "refuse":
        raise UserError(
            f"the data have changed since the checkpoint was made: {'; '.join(told)}. To keep its division of the patients and take the"
            " data as they are now, add --data.init_args.after_change=leave_out (new clips take no part) or =test (new patients are tested"
            " only)"
        )
    unit = ["clip", "frame"] if "frame" in old else ["clip"]
    # A clip that was another patient's is left out: its side need not be its present patient's.
    kept = new[[*unit, "patient"]].merge(old[[*unit, "patient", "unit", "split", "fold"]], on=[*unit, "patient"])
    if after_change == "test":
        trained = set(old.loc[old["split"] != "test", "patient"])
        added = new[~new["clip"].isin(old["clip"]) & ~new["patient"].isin(trained)]
        kept = pd.concat([kept, added[[*unit, "patient", "unit"]].assign(split="test", fold=-1)], ignore_index=True)
    if told:
        say(f"the data have changed since the checkpoint was made: {'; '.join(told)}; its division is kept")
    names = units[["clip", "patient", "own_clip"]].drop_duplicates("clip").set_index("own_clip")
    return kept.assign(patient=names["patient"].reindex(kept["clip"]).to_numpy(), clip=names["clip"].reindex(kept["clip"]).to_numpy()), told


def _told(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """What has changed, a sentence for each kind."""
    was, is_ = (table.drop_duplicates("clip").set_index("clip") for table in (old, new))
    both = was.index.intersection(is_.index, sort=False)
    told = []
    for what, here, there in (("new", is_, was), ("gone or without a label", was, is_)):
        clips = here.index.difference(there.index, sort=False)
        if len(clips):
            patients = here.loc[clips, "patient"].unique()
            told.append(f"{len(clips)} clips of {len(patients)} patients are {what} ({listed(patients)})")
    kinds = {"label": "have another label", "content": "are other files", "patient": "are another patient's now, and left out"}
    for column, what in kinds.items():
        changed = both[(was.loc[both, column] != is_.loc[both, column]).to_numpy()]
        if len(changed):
            values = zip(changed, was.loc[changed, column], is_.loc[changed, column], strict=True)
            shown = changed if column == "content" else [f"{clip}: {before} is now {after}" for clip, before, after in values]
            told.append(f"{len(changed)} clips {what} ({listed(shown)})")
    return told
