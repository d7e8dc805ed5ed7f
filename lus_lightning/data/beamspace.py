"""Beam space: scan lines x depth instead of the picture that a scanner converts them to, and back (Muñoz et al., section 2: 128 x 256).

Where the scan lines lie comes from the data where they tell it (the simulator's `geometry_*` columns), otherwise from what lights up.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd

from lus_lightning.data.estimate import Estimate, estimate_geometry
from lus_lightning.data.geometry import LINES, SAMPLES, Geometry, scan_convert, scan_maps
from lus_lightning.data.identity import content_hash, digest
from lus_lightning.data.parallel import in_processes
from lus_lightning.data.probe import facts_of
from lus_lightning.data.readers import READER_VERSION, frames_of
from lus_lightning.data.shared import SURE, Shared, agreed, sectors_of
from lus_lightning.data.store import keep_text, kept_text
from lus_lightning.errors import UserError

__all__ = ["Estimate", "clip_geometry", "estimate_geometry", "geometry_from_row", "scan_convert", "to_beam"]

BEAM_VERSION: Final = 6
"""Part of the cache keys: raise it whenever the same clip would be estimated or converted differently."""
CORRECTIONS: Final = 2
_GIVEN: Final = ("aperture", "radius_mm", "depth_mm", "top_mm")


def to_beam(frames: np.ndarray, geometry: Geometry, nearest: bool = False) -> np.ndarray:
    """Pictures (T, H, W) uint8 to beam space (T, 128, 256) uint8, bicubic or (masks) nearest; 0 where the picture is cut off.

    Samples are corrected twice by what `scan_convert` would miss of the picture, which halves the error of the way there and back.
    """
    column, row = _beam_maps(geometry)
    beam = np.empty((len(frames), LINES, SAMPLES), np.uint8)
    if nearest:
        for frame, out in zip(frames, beam, strict=True):
            cv2.remap(frame, column, row, cv2.INTER_NEAREST, dst=out, borderMode=cv2.BORDER_CONSTANT)
        return beam
    sample, line = scan_maps(geometry)
    within = (sample > -1e3).astype(np.float32)
    for frame, out in zip(frames.astype(np.float32), beam, strict=True):
        found = cv2.remap(frame, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        for _ in range(CORRECTIONS):
            missed = (frame - cv2.remap(found, sample, line, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)) * within
            found = found + cv2.remap(missed, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        out[:] = np.clip(found, 0, 255).round()
    return beam


@lru_cache(maxsize=4)
def _beam_maps(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """For each sample of beam space its column and row in the picture: two (128, 256) float32 maps."""
    line, sample = np.meshgrid(np.arange(LINES), np.arange(SAMPLES), indexing="ij")
    column, row = geometry.to_pixel(line, sample)
    return column.astype(np.float32), row.astype(np.float32)


def geometry_from_row(row: Mapping[str, Any]) -> Geometry | None:
    """The geometry that a row of the sample index names (probe, size, `geometry_*`, `mm_per_px`), none if it does not."""
    given: dict[str, Any] = {name: row.get(f"geometry_{name}") for name in _GIVEN}
    if not isinstance(probe := row.get("probe"), str) or any(pd.isna(value) for value in given.values()):
        return None
    left, mm_per_px = (row.get(name, np.nan) for name in ("geometry_left_mm", "mm_per_px"))
    scaled = not pd.isna(mm_per_px)
    return Geometry(
        probe,
        height=int(row["height"]),
        width=int(row["width"]),
        mm_per_px=float(mm_per_px) if scaled else 1.0,
        left_mm=0.0 if pd.isna(left) else float(left),
        scaled=scaled,
        **{name: float(value) for name, value in given.items()},
    )


def clip_geometry(path: Path, row: Mapping[str, Any], cache_dir: Path, shared: Shared | None = None) -> Estimate:
    """The geometry of a clip: from its row where that names it, otherwise estimated once and remembered by the clip's content.

    With what the probe's other clips have `shared`, it is remembered apart.

    Raises:
        UserError: the clip cannot be read, or the cache cannot be written.
    """
    if geometry := geometry_from_row(row):
        return Estimate(geometry, 1.0)
    kind = row.get("probe") if isinstance(row.get("probe"), str) else None
    known = cache_dir / "geometries" / digest(content_hash(path, cache_dir), kind, shared, READER_VERSION, BEAM_VERSION)
    try:
        told = json.loads(kept_text(known) or "")
        geometry = Geometry(**told.pop("geometry")) if told["geometry"] else told.pop("geometry")
        return Estimate(geometry, **told | {"seen": tuple(told["seen"])})
    except (ValueError, TypeError, KeyError):  # not there yet, or damaged: looked at again
        estimate = estimate_geometry(frames_of(path), kind, shared, facts_of(path, cache_dir).frames)
    keep_text(known, json.dumps(asdict(estimate)))
    return estimate


def clip_estimates(clips: pd.DataFrame, cache_dir: Path, workers: int) -> list[Estimate | UserError]:
    """The field of view of each row of a sample index with absolute paths, or the error that prevented it.

    Clips that are refused, not sure, or open otherwise than most are looked at again with what the sure clips of the same probe, scanner
    and picture size share, and those still refused with the sectors of their `exam`. One that still opens otherwise is refused.
    """
    rows: list[Mapping[str, Any]] = [dict(zip(clips.columns, values, strict=True)) for values in clips.itertuples(index=False, name=None)]
    look = partial(_row_geometry, cache_dir=cache_dir)
    found = in_processes(look, [(row, None) for row in rows], workers, "fields of view")
    groups: dict[str, list[int]] = {}
    for k, row in enumerate(rows):
        if geometry_from_row(row) is None:
            groups.setdefault(repr([row.get(name) for name in ("probe", "scanner", "height", "width")]), []).append(k)
    common = [(group, shared) for group in groups.values() if (shared := agreed(_sure(group, found)))]

    def look_again(asked: list[tuple[int, Shared]]) -> None:
        better = in_processes(look, [(rows[k], shared) for k, shared in asked], workers, "fields of view, again") if asked else []
        for (k, shared), second in zip(asked, better, strict=True):
            found[k] = _settled(found[k], second, shared)

    look_again([each for group, shared in common for each in _doubtful(group, shared, found)])
    look_again([each for group, shared in common for each in _refused(group, shared, found, [row.get("exam") for row in rows])])
    return found


def _settled(first: Estimate | UserError, second: Estimate | UserError, shared: Shared) -> Estimate | UserError:
    """The second estimate; where it is refused the first one, unless that opens otherwise than the probe's other clips."""
    if shared.by == "exam":  # asked only where refused before, and the reason stays the same
        return second if isinstance(second, Estimate) and second.geometry else first
    if isinstance(first, UserError) or isinstance(second, UserError) or second.geometry or first.geometry is None:
        return second
    if shared.agrees(first.geometry):
        return first
    opening, usual = (f"{np.degrees(angle):.0f} degrees" for angle in (first.geometry.aperture, shared.angle))
    return replace(
        second, reason=f"half its opening seems to be {opening}, not {usual} as in the probe's other clips, and no such sector fits"
    )


def _sure(group: list[int], found: list[Estimate | UserError]) -> list[Geometry]:
    """The sectors of one probe's clips that are sure."""
    each = [e for k in group if isinstance(e := found[k], Estimate)]
    return [e.geometry for e in each if e.geometry and e.confidence > SURE and e.geometry.probe != "linear"]


def _doubtful(group: list[int], shared: Shared, found: list[Estimate | UserError]) -> list[tuple[int, Shared]]:
    """Which clips of one probe are to be looked at again, and with what."""
    looked = [(k, each) for k in group if isinstance(each := found[k], Estimate)]
    return [(k, shared) for k, e in looked if not (e.geometry and e.confidence > SURE and shared.agrees(e.geometry))]


def _refused(group: list[int], shared: Shared, found: list[Estimate | UserError], exams: list[Any]) -> list[tuple[int, Shared]]:
    """Which clips are still refused though others of their exam are told, and the sectors of those."""
    looked = [(k, e, exam) for k in group if isinstance(e := found[k], Estimate) and isinstance(exam := exams[k], str)]
    told: dict[str, list[Estimate]] = {}
    for _, e, exam in looked:
        if e.geometry and shared.agrees(e.geometry):
            told.setdefault(exam, []).append(e)
    known = {
        exam: Shared(shared.angle, tuple(sectors_of(e.geometry for e in each if e.geometry)), "exam", min(e.confidence for e in each))
        for exam, each in told.items()
    }
    return [(k, known[exam]) for k, e, exam in looked if not e.geometry and exam in known]


def _row_geometry(asked: tuple[Mapping[str, Any], Shared | None], cache_dir: Path) -> Estimate:
    row, shared = asked
    return clip_geometry(Path(row["path"]), row, cache_dir, shared)


def clip_geometries(clips: pd.DataFrame, cache_dir: Path, workers: int) -> tuple[dict[int, Geometry], dict[str, str]]:
    """Of a sample index with absolute paths: the geometry of each row that has one, and why each other clip (by name) has none."""
    found = clip_estimates(clips, cache_dir, workers)
    known = {row: f.geometry for row, f in enumerate(found) if isinstance(f, Estimate) and f.geometry}
    reasons = [str(f) if isinstance(f, UserError) else f.reason for f in found]
    return known, {name: reasons[row] for row, name in enumerate(clips["clip"]) if row not in known}


def beam_picture(beam: np.ndarray, size: int, bits: bool = False) -> np.ndarray:
    """Beam space (T, 128 scan lines, 256 depth samples) as pictures (T, size, size / 2), depth downwards.

    Of bit masks a bit of any depth stays, so that no thin line is lost, and every so many scan lines one is taken: if any of them would
    do, all that is counted in scan lines would come out wider (seen: the affected share 0.24 as 0.32).

    Raises:
        UserError: `size` is none of 256, 128, 64 and 32.
    """
    if size not in (256, 128, 64, 32):
        raise UserError(f"pictures in beam space are 256, 128, 64 or 32 samples high, not {size}: set data.init_args.size to one of them")
    step = SAMPLES // size
    blocks = beam.transpose(0, 2, 1).reshape(len(beam), size, step, size // 2, step)
    if bits:
        return np.bitwise_or.reduce(blocks[..., step // 2], axis=2)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def full_beam(pictures: np.ndarray) -> np.ndarray:
    """Back from `beam_picture`: (T, size, size / 2) to (T, 128 scan lines, 256 depth samples), each pixel repeated."""
    step = SAMPLES // pictures.shape[1]
    return pictures.transpose(0, 2, 1).repeat(step, axis=1).repeat(step, axis=2)


def boxed_geometry(geometry: Geometry, size: int) -> Geometry:
    """The geometry of the same clip after `cache.letterbox` to a square of `size` pixels."""
    scale = size / max(geometry.height, geometry.width)
    mm = geometry.mm_per_px / scale
    # The picture's middle stays the middle; its first row lies this many new pixels below the square's.
    top = (size - geometry.height * scale) / 2
    first = geometry.top_mm + (0.5 / scale - 0.5) * geometry.mm_per_px
    return replace(geometry, height=size, width=size, mm_per_px=mm, top_mm=first - top * mm)
