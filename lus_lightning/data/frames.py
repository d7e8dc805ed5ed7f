"""From the sample index to the frame table: which frames of each clip are samples, with which label."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from lus_lightning.data.patients import label_text
from lus_lightning.data.shown import numbers_of
from lus_lightning.data.tables import SCORE_RULE, SIGN_RULE, read_frame_table
from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS

LABELS: Final = ("score", "sign", "signs")
"""What a method learns: severity (`score`), the only `sign` that a picture shows (its place in `labels.SIGNS`), or each of the `signs`."""


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a clip are images of the study.

    Args:
        max_frames: at most this many a clip, spread evenly over it; all if none.
        min_gap: neighbouring picks are at least this many frames apart.
        clip_labels: a frame has its clip's label, even where frames have labels of their own.
    """

    max_frames: int | None = None
    min_gap: int = 1
    clip_labels: bool = False

    def pick(self, usable: np.ndarray) -> np.ndarray:
        """Some of the frame numbers that are `usable`, which rise."""
        taken: list[int] = []
        for number in usable:
            if not taken or number >= taken[-1] + self.min_gap:
                taken.append(number)
        frames = np.array(taken, np.int64)
        if self.max_frames is None or len(frames) <= self.max_frames:
            return frames
        return frames[np.linspace(0, len(frames) - 1, self.max_frames).round().astype(int)]


def usable_frames(clips: pd.DataFrame) -> list[np.ndarray]:
    """Of each clip the numbers of the frames that may be samples: those that are neither black nor frozen."""
    left_out = zip(clips["frames"], clips["black_frames"], clips["frozen_frames"], strict=True)
    return [np.setdiff1d(np.arange(n), np.concatenate([numbers_of(black), numbers_of(frozen)])) for n, black, frozen in left_out]


def frame_table(clips: pd.DataFrame, choice: FrameChoice, raters_agree: bool = False, labels: str = "score") -> pd.DataFrame:
    """One row per chosen frame: `row` (position in the index), `frame`, `clip`, `patient`, and its target (see `target_table`).

    A frame's target is its own label where the clip has `frame_labels` (and not `choice.clip_labels`), else its clip's. With `raters_agree`
    a frame on which two raters differ has no score, so it is neither trained nor tested on (Xing et al., section 2.4).
    """
    named = ("score", "rater_1", "rater_2") if labels == "score" else SIGNS
    picks = [choice.pick(usable) for usable in usable_frames(clips)]
    rows = np.repeat(np.arange(len(clips)), [len(frames) for frames in picks])
    table = pd.DataFrame({"row": rows, "frame": np.concatenate(picks)})
    table[["clip", "patient"]] = clips[["clip", "patient"]].to_numpy(object)[rows]
    known = {name: clips[name].to_numpy(float, na_value=np.nan)[rows] if name in clips else np.full(len(rows), np.nan) for name in named}
    first = 0
    for frames, path in zip(picks, clips.get("frame_labels", [None] * len(clips)), strict=True):
        here = slice(first, first := first + len(frames))
        if isinstance(path, str) and not choice.clip_labels:
            own = read_frame_table(path)
            places = pd.Index(own["frame"]).get_indexer(frames)
            for name in set(named) & set(own):
                known[name][here] = np.where(places < 0, np.nan, own[name].to_numpy(float)[places])
    table = table.assign(**known)
    if labels == "score" and raters_agree:
        differ = (table["rater_1"] != table["rater_2"]) & table[["rater_1", "rater_2"]].notna().any(axis=1)
        table["score"] = table["score"].mask(differ)
    return table[["row", "frame", "clip", "patient"]].join(target_table(table, labels))


def target_table(known: pd.DataFrame, labels: str) -> pd.DataFrame:
    """Targets, int64, -1 unknown: `target` (the score, or the class of the only sign), or a column `target_<sign>` for each of the signs.

    A sign that nobody looked for is unknown, not absent: it leaves its own target -1, and it is not known which sign is the only one.
    """
    if labels == "score":
        return known[["score"]].astype(float).fillna(-1).astype(np.int64).set_axis(["target"], axis=1)
    signs = known.reindex(columns=list(SIGNS)).astype(float)
    if labels == "signs":
        return signs.fillna(-1).astype(np.int64).add_prefix("target_")
    only = signs.notna().all(axis=1) & (signs.sum(axis=1) == 1)
    return pd.DataFrame({"target": np.where(only, signs.fillna(0).to_numpy().argmax(axis=1), -1)}, known.index)


def label_table(frames: pd.DataFrame, labels: str) -> pd.DataFrame:
    """The labels of frames as an index has them, from their targets: `score`, or 1, 0 or missing for each of the signs."""
    found = targets(frames)
    if labels == "score":
        return pd.DataFrame({"score": found}, frames.index)
    signs = found if labels == "signs" else np.where(found[:, None] < 0, -1, found[:, None] == np.arange(len(SIGNS)))
    table = pd.DataFrame(signs, frames.index, list(SIGNS)).astype("Int64")
    return table.mask(table < 0)


def targets(frames: pd.DataFrame) -> np.ndarray:
    """The targets of a frame table, int64: (N,) classes, or (N, 4) for the signs; -1 unknown."""
    return (frames["target"] if "target" in frames else frames.filter(like="target_")).to_numpy(np.int64)


def labelled(frames: pd.DataFrame) -> np.ndarray:
    """(N,) bool: the rows with a target, of several signs at least one."""
    found = targets(frames)
    return (found if found.ndim == 1 else found.max(axis=1)) >= 0


LACKS: Final = {"score": "has a score", "sign": "is known to show one sign alone", "signs": "has a sign that anybody looked for"}
"""What a clip without a label fails to meet."""
_PREDICT: Final = "unlabelled clips can only be predicted: `python -m lus_lightning predict`; labels come from a table index.csv there"
WITHOUT: Final = {
    "score": _PREDICT,
    "sign": "to learn each sign on its own, where what nobody looked for takes no part, add --config with/multilabel (with make:"
    ' ARGS="--config with/multilabel")',
    "signs": _PREDICT,
}
"""What to do where no clip has a label."""


def without_label(clips: pd.DataFrame, labels: str) -> dict[str, int]:
    """How many clips have no sign to learn from, by reason."""
    signs = clips.reindex(columns=list(SIGNS)).astype(float)
    blank = signs.isna().all(axis=1)
    if labels != "sign":
        return {"nobody looked for any sign": int(blank.sum())} if blank.any() and labels == "signs" else {}
    unsure, shown = signs.isna().any(axis=1) & ~blank, signs.sum(axis=1)
    reasons = {
        "nobody looked for any sign": blank,
        "several signs": shown > 1,
        "no sign": ~blank & ~unsure & (shown == 0),
        "not all signs were looked for": unsure & (shown <= 1),
    }
    return {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()}


def refuse_one_class(frames: pd.DataFrame, labels: str, root: str | Path) -> None:
    """Refuse to train on the frames of `root` where all that have a label have the same.

    Raises:
        UserError: they have.
    """
    known = label_table(frames[labelled(frames)], labels)
    if (known.nunique() > 1).any():
        return
    shown = label_text(known.drop_duplicates().head(1).assign(clip="")).iloc[0]
    one, rule = ("score", SCORE_RULE) if labels == "score" else ("label", SIGN_RULE)
    raise UserError(
        f"every labelled clip of {root} has {shown}, and from one {one} only nothing can be learnt; add clips with other labels"
        f" ({rule}), or predict these with a network that is trained already"
    )


def spread(clips: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many clips, by no one's taste: one of each label in turn, of each label one of each patient in turn, in the index's order.

    Args:
        clips: a row per clip, with `row` (its place in the index), `patient` and `target`.
        most: how many.
    """
    clips = clips.sort_values("row")
    by_patient = clips.assign(turn=clips.groupby(["target", "patient"]).cumcount()).sort_values(["turn", "row"])
    place = by_patient.groupby("target").cumcount()
    return by_patient.assign(place=place).sort_values(["place", "target"]).head(most).sort_values("row").drop(columns=["turn", "place"])
