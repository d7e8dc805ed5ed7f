"""Muñoz et al., clip by clip (`clips.html`): frames, masks, scan lines counted, share over time, score."""

import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment

from lus_lightning.data.frames import spread
from lus_lightning.data.identity import write_whole
from lus_lightning.report.papers.base import Results
from lus_lightning.report.papers.munoz_figures import LOOKS, png, strip, swatch
from lus_lightning.report.run import Run
from lus_lightning.scoring.levels import aggregate

SEGMENTER: Final = "segmenter"
CLASSIFIER: Final = "classifier"
RULE: Final = "one_percent"
MOST: Final = 40
"""Clips on the page, at most."""
WIDTH, HEIGHT = 1000, 120
"""Of the drawing of the share over time."""


def has_clips(run: Run) -> bool:
    """Whether the run kept pictures of its test clips."""
    return any((run.folder / "strips").glob("*.npz")) and (run.folder / "measures.parquet").is_file()


def write_clips(results: Results, folder: Path, environment: Environment, warnings: Sequence[str]) -> None:
    """Write `clips.html` and its pictures `clips/*.png`; nothing where the run kept none.

    Args:
        results: the run.
        folder: the report's folder.
        environment: of the templates.
        warnings: what a reader must know.
    """
    run, pictures, page = results.run, folder / "clips", folder / "clips.html"
    page.unlink(missing_ok=True)
    shutil.rmtree(pictures, ignore_errors=True)  # of an earlier report
    if not has_clips(run):
        return
    frames = test_frames(run)
    clips = clip_scores(results, frames)
    shown = spread(clips, MOST)
    measures = dict(iter(pd.read_parquet(run.folder / "measures.parquet").groupby("row")))
    by_row = dict(iter(frames.groupby("row")))
    for name in LOOKS:
        write_whole(pictures / f"legend-{name}.png", [png(swatch(name))])
    entries = []
    for clip in shown.to_dict("records"):
        with np.load(run.folder / "strips" / f"{clip['row']}.npz") as file:
            kept = dict(file)
        write_whole(pictures / f"{clip['row']}.png", [png(strip(kept))])
        entries.append(clip | entry(kept, measures[clip["row"]].merge(by_row[clip["row"]][["frame", "pred", "target"]], on="frame")))
    text = environment.get_template("clips.html.j2").render(
        run=run, clips=entries, of=len(clips), warnings=warnings, looks=LOOKS, width=WIDTH, height=HEIGHT, most=MOST,
        masks=any(clip["true"] for clip in entries), bars=any(clip["bars"] for clip in entries),
        classifier="classifier" in shown and (shown["classifier"] >= 0).any(),
    )  # fmt: skip
    write_whole(page, [text.encode()])


def test_frames(run: Run) -> pd.DataFrame:
    """The segmenter's frames of test clips that have a picture, labelled or not."""
    rows = run.predictions[(run.predictions["member"] == SEGMENTER) & (run.predictions["split"] == "test")]
    kept = {int(path.stem) for path in (run.folder / "strips").glob("*.npz")}
    return rows[rows["row"].isin(kept)]


def clip_scores(results: Results, frames: pd.DataFrame) -> pd.DataFrame:
    """A clip each: `row`, `clip`, `patient`, `zone`, `orientation`, `target`, `pred`, and where it was run `classifier` (-1: none)."""
    clips = aggregate(frames, "clip", RULE).reindex(columns=["row", "clip", "patient", "zone", "orientation", "target", "pred"])
    for run in results.others.values():
        rows = run.predictions[(run.predictions["member"] == CLASSIFIER) & (run.predictions["split"] == "test")]
        if len(rows):
            theirs = aggregate(rows, "clip", RULE).set_index(["patient", "clip"])["pred"]
            clips["classifier"] = theirs.reindex(pd.MultiIndex.from_frame(clips[["patient", "clip"]])).fillna(-1).astype(int).to_numpy()
    return clips.sort_values("row", ignore_index=True)


def entry(kept: dict[str, np.ndarray], frames: pd.DataFrame) -> dict[str, Any]:
    """What the page shows of a clip beside its scores.

    Args:
        kept: its `strips/<row>.npz`.
        frames: its measures, with `pred` and `target` of each frame.
    """
    by_frame = frames.set_index("frame")
    told = [by_frame.loc[frame].to_dict() | {"frame": int(frame)} for frame in kept["frame"] if frame in by_frame.index]
    first, last = frames["frame"].min(), frames["frame"].max()
    x = (frames["frame"].to_numpy() - first) / max(last - first, 1) * WIDTH
    curves = {name: path_of(x, frames[column].to_numpy(dtype=float)) for name, column in (("found", "share"), ("true", "true_share"))
              if column in frames}  # fmt: skip
    labelled = (frames["target"] >= 0).any()
    return {
        "told": told,
        "true": "true" in kept,
        "bars": "visible" in kept,
        "curves": curves,
        "ticks": [float((frame["frame"] - first) / max(last - first, 1) * WIDTH) for frame in told],
        "runs": {"found": runs_of(x, frames["pred"]), **({"label": runs_of(x, frames["target"])} if labelled else {})},
        "n_frames": len(frames),
        "not_assessable": int((frames["pred"] < 0).sum()),
        "mean_share": float(frames["share"].mean()),
        "mean_true": float(frames["true_share"].mean()) if "true_share" in frames else None,
    }


def path_of(x: np.ndarray, share: np.ndarray) -> str:
    """An SVG path of shares (N,) in [0, 1] at x (N,), interrupted where there is none; a point by itself is a short stroke."""
    steps, pen = [], False
    for at, value in zip(x, share, strict=True):
        if np.isnan(value):
            pen = False
            continue
        y = HEIGHT * (1 - value)
        steps.append(f"L{at:.1f} {y:.1f}" if pen else f"M{at:.1f} {y:.1f}h1")
        pen = True
    return "".join(steps)


def runs_of(x: np.ndarray, scores: pd.Series) -> list[tuple[float, float, int]]:
    """Stretches of frames of equal score: (left, width, score), each frame reaching half-way to its neighbours."""
    borders = np.concatenate([[0.0], (x[1:] + x[:-1]) / 2, [float(WIDTH)]])
    found, start = [], 0
    for score, group in groupby(scores):
        stop = start + len(list(group))
        found.append((float(borders[start]), float(borders[stop] - borders[start]), int(score)))
        start = stop
    return found
