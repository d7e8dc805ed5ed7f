"""`python -m lus_lightning beams`: where the scan lines of every clip of a data root lie, estimated from what lights up."""

from collections import Counter
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd
from rich.console import Console

from lus_lightning.data.beamspace import BEAM_VERSION, clip_estimates
from lus_lightning.data.estimate import Estimate
from lus_lightning.data.geometry import Geometry, scan_maps
from lus_lightning.data.identity import write_table, write_whole
from lus_lightning.data.index import build_index
from lus_lightning.data.lit import MAX_FRAMES
from lus_lightning.data.parallel import cpu_count, in_processes
from lus_lightning.data.readers import frames_of
from lus_lightning.data.roots import cache_folder, local_root
from lus_lightning.errors import UserError

TILE: Final = 176
COLUMNS: Final = 10


def beams_command(root: str, out: str | None = None, adapter: str | None = None) -> None:
    """Estimate where the scan lines of every clip lie, whatever the data themselves tell, and say which clips are refused and why.

    Writes beams.csv (one row a clip; lengths in pixels) and beams.png, a contact sheet of each clip's brightest values over time with the
    outline of its field of view.

    Args:
        root: a folder or any fsspec URL.
        out: folder to write into; none writes into the cache folder, never into the data.
        adapter: name of the layout, as for `index`; none recognises it.

    Raises:
        UserError: as `build_index`, or the folder cannot be written.
    """
    cache = cache_folder(None)
    index = build_index(root, adapter)
    target = Path(out) if out else cache / "beams" / f"{index.name}-{index.fingerprint}-v{BEAM_VERSION}"
    if out and "://" not in root and target.resolve().is_relative_to(Path(root).resolve()):
        raise UserError(f"{target} lies in the data folder, which is never written to; give --out another place")
    rows, folder = index.table.to_dict("records"), local_root(root, cache)
    clips = index.table.assign(path=[str(folder / path) for path in index.table["path"]])
    estimates = clip_estimates(clips[["clip", "path", "exam", "probe", "scanner", "height", "width"]], cache, cpu_count())
    pictures = in_processes(_brightest, [(folder / row["path"], row["frames"]) for row in rows], cpu_count(), "pictures")
    found = zip(rows, estimates, pictures, strict=True)
    usable = [(row, e, picture) for row, e, picture in found if not isinstance(e, UserError) and not isinstance(picture, UserError)]
    table = pd.DataFrame([{"clip": row["clip"], **_described(estimate, row["probe"])} for row, estimate, _ in usable])
    write_table(target / "beams.csv", table)
    sheet = _sheet([_tile(picture, estimate, row["clip"]) for row, estimate, picture in usable])
    write_whole(target / "beams.png", [cv2.imencode(".png", sheet)[1].tobytes()])
    _tell(table, index.notes, target)


def _brightest(clip: tuple[Path, int]) -> np.ndarray:
    """The brightest values over time of a clip (file, number of frames), (h, w) uint8, at most TILE a side."""
    path, count = clip
    brightest = reduce(np.maximum, islice(frames_of(path), 0, None, max(1, count // MAX_FRAMES)))
    scale = TILE / max(brightest.shape)
    size = (max(1, round(brightest.shape[1] * scale)), max(1, round(brightest.shape[0] * scale)))
    return cv2.resize(brightest, size, interpolation=cv2.INTER_AREA)


def _described(estimate: Estimate, probe: str | None) -> dict[str, Any]:
    """A row of beams.csv."""
    told = {
        "confidence": round(estimate.confidence, 3),
        "overlap": round(estimate.overlap, 3),
        "seen": " ".join(estimate.seen),
        "shared": estimate.shared,
    }
    if (geometry := estimate.geometry) is None:
        return {"estimated": False, "probe": probe, **told, "reason": estimate.reason}
    column, row = geometry.apex_px()
    linear = geometry.probe == "linear"
    place = {
        "apex_column": column,
        "apex_row": row,
        "half_angle_degrees": None if linear else np.degrees(geometry.aperture),
        "half_width": geometry.aperture if linear else None,
        "inner_radius": geometry.radius_mm,
        "outer_radius": geometry.radius_mm + geometry.depth_mm,
    }
    rounded = {name: None if value is None else round(float(value), 2) for name, value in place.items()}
    return {"estimated": True, "probe": geometry.probe, **rounded, **told, "reason": ""}


def _tile(picture: np.ndarray, estimate: Estimate, name: str) -> np.ndarray:
    """The picture, brightened, with the field of view's outline in red and how sure it is: (TILE, TILE, 3) uint8."""
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    tile[: picture.shape[0], : picture.shape[1]] = (255 * np.sqrt(picture / 255)).astype(np.uint8)[..., None]
    if estimate.geometry:
        cv2.drawContours(tile, _contours(estimate.geometry, picture.shape[::-1]), -1, (0, 0, 255), 1)
    words = f"{estimate.confidence:.2f}" if estimate.geometry else "refused"
    for text, height in ((name[-26:], 9), (words, 19)):
        cv2.putText(tile, text, (1, height), cv2.FONT_HERSHEY_SIMPLEX, 0.3, (0, 255, 255), 1)
    return tile


def _contours(geometry: Geometry, size: tuple[int, ...]) -> list[np.ndarray]:
    mask = (scan_maps(geometry)[0] > -1e3).astype(np.uint8)
    return list(cv2.findContours(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0])


def _sheet(tiles: list[np.ndarray]) -> np.ndarray:
    filled = tiles + [np.zeros((TILE, TILE, 3), np.uint8)] * (-len(tiles) % COLUMNS)
    return np.vstack([np.hstack(filled[i : i + COLUMNS]) for i in range(0, len(filled), COLUMNS)])


def _tell(table: pd.DataFrame, notes: tuple[str, ...], target: Path) -> None:
    console = Console(soft_wrap=True, markup=False, highlight=False)
    estimated = table[table["estimated"]]
    console.print(f"{len(estimated)} of {len(table)} clips estimated, {len(table) - len(estimated)} refused")
    for probe, count in Counter(estimated["probe"]).items():
        console.print(f"    {probe}: {count}")
    for reason, clips in table[~table["estimated"]].groupby("reason", sort=False)["clip"]:
        console.print(f"refused, {len(clips)}: {reason}\n    {', '.join(clips)}")
    for note in notes:
        console.print(f"note: {note}")
    console.print(f"the table and the contact sheet are in {target}")
