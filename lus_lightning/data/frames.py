"""From the sample index to the frame table: which frames of each clip are samples, with which label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lus_lightning.data.probe import read_frame_labels


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a clip are images of the study.

    Args:
        max_frames: at most this many a clip, spread evenly over it; all if none.
        min_gap: neighbouring picks are at least this many frames apart.
    """

    max_frames: int | None = None
    min_gap: int = 1

    def pick(self, n_frames: int, first: int = 0) -> np.ndarray:
        """Frame numbers, from `first` (behind black leading frames) to `n_frames` - 1."""
        frames = np.arange(first, n_frames, self.min_gap)
        if self.max_frames is None or len(frames) <= self.max_frames:
            return frames
        return frames[np.linspace(0, len(frames) - 1, self.max_frames).round().astype(int)]


def frame_table(clips: pd.DataFrame, choice: FrameChoice, raters_agree: bool = False) -> pd.DataFrame:
    """One row per chosen frame: `row` (position in the index), `frame`, `clip`, `patient`, `target` (-1: unlabelled).

    A frame's target is its own label where the clip has `frame_labels`, else its clip's. With `raters_agree` a frame on which two
    raters differ has no label, so it is neither trained nor tested on (Xing et al., section 2.4).

    Raises:
        UserError: a frame-label file cannot be read.
    """
    scores = {
        n: clips[n].to_numpy(float, na_value=np.nan) if n in clips else np.full(len(clips), np.nan) for n in ("score", "rater_1", "rater_2")
    }
    parts = []
    for row, clip in enumerate(clips.to_dict("records")):
        frames = choice.pick(int(clip["frames"]), int(clip["first_frame"]))
        part = pd.DataFrame({"row": row, "frame": frames, "clip": clip["clip"], "patient": clip["patient"]})
        own = (
            read_frame_labels(Path(path), int(clip["frames"])).set_index("frame")
            if isinstance(path := clip.get("frame_labels"), str)
            else None
        )
        for name, values in scores.items():
            part[name] = values[row] if own is None or name not in own else own[name].reindex(frames).to_numpy(float)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    differ = (table["rater_1"] != table["rater_2"]) & table[["rater_1", "rater_2"]].notna().any(axis=1)
    table["target"] = table["score"].mask(differ & raters_agree).fillna(-1).astype(np.int64)
    return table[["row", "frame", "clip", "patient", "target"]]
