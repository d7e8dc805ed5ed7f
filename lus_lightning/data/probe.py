"""What a clip's own files tell: frames, size, rate, and whether its mask and frame labels fit it."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lus_lightning.data.annotations import annotation_file
from lus_lightning.data.identity import content_hash, digest
from lus_lightning.data.masks import MASKS_VERSION, mask_frames
from lus_lightning.data.pixels import Told
from lus_lightning.data.readers import READER_VERSION, frames_of
from lus_lightning.data.shown import Colours, Watch, numbers_of, ranges
from lus_lightning.data.store import keep_text, kept_text
from lus_lightning.data.tables import SCORE_RULE, SIGN_RULE, read_frame_table
from lus_lightning.errors import UserError
from lus_lightning.labels import SCORES, SIGNS


@dataclass(frozen=True)
class Files:
    """The files of one clip."""

    clip: Path
    mask: Path | None = None
    frame_labels: Path | None = None


@dataclass(frozen=True)
class Facts:
    """What decoding a clip once has shown.

    Args:
        frames, height, width: (T, H, W) of the clip.
        fps: frames per second, or none.
        black_frames, frozen_frames: which are no samples, as `shown.ranges`, or none.
        mask_frames: the frames that have masks, as `shown.ranges`, where not all have.
        content: hash of the clip's files.
        notes: what the user should know of how the clip was read.
    """

    frames: int
    height: int
    width: int
    fps: float | None
    black_frames: str | None
    frozen_frames: str | None
    content: str
    notes: list[str]
    mask_frames: str | None = None


def probe(files: Files, cache_dir: Path) -> Facts:
    """What a clip holds, and that its mask and frame labels fit it; remembered by the files' content.

    Raises:
        UserError: a file cannot be read, all frames are black, the mask's size differs, or the frame labels do not fit.
    """
    named = [p for p in (files.clip, files.mask, files.frame_labels) if p is not None]
    sources = [annotation_file(p) for p in named]
    if missing := next((p for p, _ in sources if not os.path.exists(p)), None):
        raise UserError(f"{missing}: there is no such file; put it there, or take its row out of the table")
    facts = facts_of(files.clip, cache_dir)
    if len(numbers_of(facts.black_frames)) == facts.frames:
        raise UserError(f"{files.clip}: every frame is black; export the clip again, or take its row out of the table")
    content = digest(*(content_hash(p, cache_dir) for p, _ in sources), *(clip for _, clip in sources if clip))
    if len(named) == 1:
        return replace(facts, content=content)
    if (kept := kept_text(fits := cache_dir / "probes" / digest("fits", content, READER_VERSION, MASKS_VERSION))) is None:
        keep_text(fits, kept := json.dumps(_check(files, facts)))
    masked, notes = json.loads(kept)
    if masked:
        numbered = "numbers in their names, the first frame is 0"
        notes.append(f"its masks are those of frames {masked} ({numbered}); in the others nobody has looked")
    return replace(facts, content=content, mask_frames=masked or None, notes=facts.notes + notes)


def facts_of(clip: Path, cache_dir: Path) -> Facts:
    """What decoding a clip once has shown; remembered by its content. It may be all black.

    Raises:
        UserError: the clip cannot be read.
    """
    content = digest(content_hash(clip, cache_dir))
    known = cache_dir / "probes" / digest(content, READER_VERSION)
    try:
        return Facts(**json.loads(kept_text(known) or ""))
    except (ValueError, TypeError):  # not there yet, or damaged: looked at again
        told, watch = Told(colours=Colours()), Watch()
    for frame in frames_of(clip, told):
        watch.look(frame)
    facts = Facts(watch.count, *watch.shape, told.fps, ranges(watch.black), ranges(watch.frozen), content, told.notes)
    keep_text(known, json.dumps(asdict(facts)))
    return facts


def read_frame_labels(path: Path, n_frames: int) -> pd.DataFrame:
    """Frame labels: `frame` (0 to `n_frames` - 1, each at most once), `score` (0-3 or missing), signs, `rater_*`, `truth_*` where given.

    Raises:
        UserError: the file cannot be read, lacks a column, or has a value outside its range.
    """
    labels = read_frame_table(path)
    scores = [c for c in labels.columns.astype(str) if c == "score" or c.startswith("rater_")]
    signs = [c for c in SIGNS if c in labels]
    wrong: dict[str, pd.Series] = {"frame": ~labels["frame"].isin(range(n_frames)) | labels["frame"].duplicated()}
    wrong |= {c: labels[c].notna() & ~labels[c].isin(SCORES if c in scores else (0, 1)) for c in scores + signs}
    rules = dict.fromkeys(scores, SCORE_RULE) | dict.fromkeys(signs, SIGN_RULE)
    rules["frame"] = f"the clip has frames 0 to {n_frames - 1}, each named at most once"
    for column, rows in wrong.items():
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            raise UserError(f"{path}, row {row + 1}: column `{column}` is {labels[column].iloc[row]:g}; {rules[column]}")
    return labels


def _check(files: Files, facts: Facts) -> tuple[str, list[str]]:
    """The frames that have masks, as `shown.ranges`, empty where all have or none; and what is to be said of how labels were read."""
    notes: list[str] = []
    if files.frame_labels is not None:
        notes = read_frame_labels(files.frame_labels, facts.frames).attrs["notes"]
        notes = [f"its frame labels: {note.removeprefix(files.frame_labels.name).lstrip(': ').removeprefix('is ')}" for note in notes]
    numbers = None if files.mask is None else mask_frames(files.mask, facts.frames, facts.height, facts.width)
    return ranges(numbers or []) or "", notes
