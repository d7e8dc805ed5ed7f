"""Corso: where the network looks (Fig. 10), measured, as pictures, and clip by clip (`maps.html`) over time and as films."""

import re
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pandas as pd
from jinja2 import Environment

from lus_lightning.data.identity import whole_file, write_whole
from lus_lightning.evaluation.intervals import patient_bootstrap
from lus_lightning.evaluation.metrics import Resampled, Statistic
from lus_lightning.evaluation.segmentation import mean_statistic
from lus_lightning.report.figures import Figure
from lus_lightning.report.papers.base import Results, Section
from lus_lightning.report.papers.corso_figures import colour_bar, looks, overlay, scaled, strip
from lus_lightning.report.papers.munoz_clips import HEIGHT, WIDTH, path_of
from lus_lightning.report.papers.munoz_figures import png
from lus_lightning.report.run import Run
from lus_lightning.report.tables import Table, bounded, cells

VIDEO: Final = "video"
BASELINE: Final = "classifier"
RULE: Final = "mean"
REGIONS: Final = {
    "Sector": ("in_sector", "sector_share"),
    "B-lines": ("in_b_lines", "b_line_share"),
    "Pleural line": ("in_pleura", "pleura_share"),
}
"""Rows of the table of attention: columns of `attention.parquet` with the share of attention and of area there."""
SHOWN: Final = 6
"""Frames of a clip's strip."""
FPS: Final = 10
"""Frames a second of the films: the run keeps frames, not their times."""


def maps_section(results: Results) -> Section:
    """How much of the attention lies in the sector and in B-lines, against their area; Fig. 10; the page of maps."""
    run = results.run
    text = [
        "The paper shows eight frames and doubts its maps by eye: they find the part of the picture that holds the examination, and"
        " mostly not the B-lines. Here that is measured: the share of the attention that lies in a region, against the region's share of"
        " the picture, which even attention would give. A ratio above 1 says that the network looks there more than elsewhere.",
    ]
    path, kept = run.folder / "attention.parquet", kept_clips(run)
    tables, missing = attention_tables(results, pd.read_parquet(path)) if path.is_file() else ((), ["This run kept no attention."])
    text += missing
    if not kept:
        return Section("Where it looks (Fig. 10)", (*text, "No pictures of clips were kept."), tables)
    kind = "simulated" if run.simulated else "real"
    title = f"Fig. 10, here: one frame of each of {len(kept)} tested clips ({kind}), attention overlaid"
    alt = "Frames of tested clips with the attention in colours"
    figure = Figure("fig_10", title, alt, partial(looks, [look(run, path) for path in kept]))
    links = {"Clip by clip: attention over the frames, as strips, over time and as films": "maps.html"}
    return Section("Where it looks (Fig. 10)", tuple(text), tables, (figure,), links)


def attention_tables(results: Results, clips: pd.DataFrame) -> tuple[tuple[Table, ...], list[str]]:
    """The table of regions, and what it has to leave out."""
    entries, missing = [], []
    for name, (inside, area) in REGIONS.items():
        if not {inside, area} <= set(clips):
            continue
        own = clips.dropna(subset=[inside, area])
        if own.empty:
            missing.append(name if name == "B-lines" else name.lower())
            continue
        own = own.assign(above=(own[inside] > own[area]).astype(float))
        statistic = region_statistic(inside, area)
        whole = statistic(own, np.zeros(len(own), dtype=np.int64))(np.ones((1, 1)))
        bounds = patient_bootstrap(own, statistic, results.replicates)
        row = f"{name} ({len(own)} clips, {own['patient'].nunique()} patients)"
        columns = {"Share of the attention": inside, "Share of the area": area, "Ratio": "ratio", "Clips above 1": "above"}
        entries += [(row, c, None, bounded(float(whole[m][0]), bounds[m], own)) for c, m in columns.items()]
    left_out = [f"Of no tested clip is it known, and so left out: {', '.join(missing)}."] if missing else []
    if not entries:
        return (), left_out
    notes = (
        "Means over clips; a clip's shares are over its frames, of B-lines and pleural line over the frames that have them. Ratio: mean"
        " share of the attention over mean share of the area. Clips above 1: share of the clips in which attention exceeds area.",
        f"Regions are {'true masks of simulated clips' if results.run.simulated else 'what is known of the pictures'}; the sector is the"
        " field of view. A cell of the attention sees much more of the picture than it covers, so narrow regions blur.",
    )
    return (Table("attention", "Where the attention lies", "", cells(entries), digits=2, notes=notes, noun="clips"),), left_out


def region_statistic(inside: str, area: str) -> Statistic:
    """Means over clips of the share of attention, of area and of clips above, and the ratio of the first two."""

    def statistic(table: pd.DataFrame, units: np.ndarray) -> Resampled:
        parts = [mean_statistic(column)(table, units) for column in (inside, area, "above")]

        def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
            means = {name: value for part in parts for name, value in part(weights).items()}
            with np.errstate(divide="ignore", invalid="ignore"):
                return means | {"ratio": means[inside] / means[area]}

        return resampled

    return statistic


def kept_clips(run: Run) -> list[Path]:
    """The clips whose frames and attention the run kept, by row."""
    if not (run.folder / "attention.parquet").is_file():  # written last: without it the test was interrupted, and some may be missing
        return []
    return sorted((run.folder / "attention").glob("*.npz"), key=lambda path: int(path.stem))


def read(path: Path) -> dict[str, Any]:
    """`frames` (T, H, W) uint8 at the page's size, `attention` (T, h, w) float32, the rest as `callbacks.clips.ClipRecord` kept it."""
    with np.load(path) as file:
        kept = dict(file)
    told = {"clip": str(kept["clip"]), "target": int(kept["target"]), "pred": int(kept["pred"])}
    return (
        told
        | {"share": kept.get("share"), "likely": kept["likely"]}
        | {"frames": scaled(kept["frames"]), "attention": kept["attention"].astype(np.float32)}
    )


def look(run: Run, path: Path) -> dict[str, Any]:
    """A clip's frame of the largest share (all alike: the one in the middle) with its attention, and a title."""
    clip = read(path)
    share = clip["share"]
    frame = len(clip["frames"]) // 2 if share is None or np.ptp(share) < 1e-6 else int(share.argmax())
    one = slice(frame, frame + 1)
    picture = overlay(clip["frames"][one], clip["attention"][one], clip["attention"].max())[0]
    return {"picture": picture, "title": f"{clip['clip']}, frame {frame}\nlabel {told(clip['target'])}, here {clip['pred']}"}


def told(score: int) -> str:
    """A score as a word."""
    return "none" if score < 0 else str(score)


def write_maps(results: Results, folder: Path, environment: Environment, warnings: Sequence[str]) -> None:
    """Write `maps.html`, its pictures `maps/*.png` and films `maps/*.mp4`; nothing where the run kept no clips.

    Args:
        results: the run.
        folder: the report's folder.
        environment: of the templates.
        warnings: what a reader must know.
    """
    pictures, page, kept = folder / "maps", folder / "maps.html", kept_clips(results.run)
    page.unlink(missing_ok=True)
    shutil.rmtree(pictures, ignore_errors=True)  # of an earlier report
    if not kept:
        return
    write_whole(pictures / "colours.png", [png(colour_bar())])
    rows = results.run.predictions.drop_duplicates("row").set_index("row")
    measures = pd.read_parquet(path) if (path := results.run.folder / "attention.parquet").is_file() else pd.DataFrame({"row": []})
    note = f"{'Simulated' if results.run.simulated else 'Real'} clip. {environment.globals['research_only']}"
    entries = []
    for source in kept:
        row, clip = int(source.stem), read(source)
        name = f"{row}-{re.sub(r'[^A-Za-z0-9.-]+', '_', clip['clip'])}"
        entries.append({"row": row, "name": name, "patient": rows["patient"].get(row)} | draw(clip, pictures / name, note))
        entries[-1]["measured"] = measured(measures[measures["row"] == row])
    text = environment.get_template("maps.html.j2").render(
        run=results.run, clips=entries, warnings=warnings, width=WIDTH, height=HEIGHT, fps=FPS,
        of=len(results.run.of(VIDEO).drop_duplicates("row")),
    )  # fmt: skip
    write_whole(page, [text.encode()])


def measured(clip: pd.DataFrame) -> list[dict[str, Any]]:
    """What `attention.parquet` says of a clip's regions: `name`, share of `inside` and `area`."""
    found = []
    for name, (inside, area) in REGIONS.items():
        if len(own := clip.dropna(subset=[inside, area]) if {inside, area} <= set(clip) else clip.head(0)):
            found.append({"name": name, "inside": float(own[inside].iloc[0]), "area": float(own[area].iloc[0])})
    return found


def draw(clip: dict[str, Any], path: Path, note: str) -> dict[str, Any]:
    """Write a clip's strip and film, and give what the page shows beside them.

    Args:
        clip: as `read` gives it.
        path: of the files, without suffix.
        note: what the film's file says of itself.
    """
    frames, attention, share = clip["frames"], clip["attention"], clip["share"]
    n, most = len(frames), float(attention.max())
    at = np.unique(np.linspace(0, n - 1, SHOWN).round().astype(int))
    drawn = strip(frames[at], attention[at], most)
    write_whole(path.with_name(f"{path.name}.png"), [png(drawn)])
    height, width = frames.shape[1:]
    pairs = zip(frames, attention, strict=True)
    both = (np.hstack([np.repeat(f[..., None], 3, axis=2), overlay(f[None], a[None], most)[0]]) for f, a in pairs)
    write_film(path.with_name(f"{path.name}.mp4"), both, (height, 2 * width), note)
    mean = attention.mean((1, 2))
    x = np.arange(n) / max(n - 1, 1) * WIDTH
    even = share is None or float(np.ptp(share)) < 1e-6
    lines = {"likely": path_of(x, clip["likely"]), "attention": path_of(x, mean / max(mean.max(), 1e-9))}
    lines |= {} if share is None else {"share": path_of(x, share / share.max())}
    return {
        "clip": clip["clip"], "target": clip["target"], "pred": clip["pred"], "n_frames": n,
        "low": float(attention.min()), "most": most, "cells": attention.shape[1:], "film_width": 2 * width, "film_height": height,
        "told": [{"frame": int(i), "mean": float(mean[i]), "share": None if share is None else float(share[i])} for i in at],
        "ticks": [float(x[i]) for i in at], "likeliest": int(clip["likely"].argmax()),
        "curves": lines, "even": even, "shares": share is not None,
        "top": float(share.max()) if share is not None else None, "first": int(share.argmax()) if not even else None,
        "uniform": HEIGHT * (1 - 1 / n / float(share.max())) if share is not None else None,
    }  # fmt: skip


def write_film(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], note: str) -> None:
    """H.264 in MP4, playable while it loads, of frames (H, W, 3) uint8 RGB with even sides; `size` is (H, W), `note` its comment."""
    with whole_file(path) as fresh, av.open(str(fresh), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = note
        track = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        track.height, track.width, track.pix_fmt = *size, "yuv420p"
        for picture in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(track.encode())
