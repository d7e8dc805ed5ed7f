"""How often the field of view is found: right, wrong or refused on simulated clips, and told or refused on real ones.

    python benchmarks/beams.py [DATA_FOLDER] [--seeds 200] [--first 500] [--told]

Simulated clips have 224 pixels and text burned in. Right is the apex (linear: the edges in the picture) within 2 pixels, half the angle
within 1 degree, and the outer radius within 2 pixels where its arc lies in the picture and is lit, or is said to be seen. With --told the
probe is named, as an index does. Of a folder the share that is told, why the others are refused, and how the field of view and what
lights up overlap (`Estimate.overlap`). No real picture is written.
"""

import argparse
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from lus_lightning.data.beamspace import clip_estimates
from lus_lightning.data.estimate import Estimate, estimate_geometry
from lus_lightning.data.geometry import Geometry
from lus_lightning.data.index import build_index
from lus_lightning.data.parallel import cpu_count
from lus_lightning.data.roots import cache_folder, local_root
from lus_lightning.errors import UserError
from lus_lightning.simulator.patient import Burden, draw_patient
from lus_lightning.simulator.render import render_clip
from lus_lightning.simulator.scanner import SCANNERS, draw_settings
from lus_lightning.simulator.scene import draw_scene

SIZE = 224
WORDS = ("right", "wrong", "refused")
TEXTS = ("Lung  MI 0.7", "L 12cm  Exam 4", "SIM  45 %")


def simulated_clip(scanner: str, seed: int) -> tuple[Geometry, np.ndarray]:
    """Where its scan lines lie, and two seconds of a clip (16, 224, 224) uint8."""
    rng = np.random.default_rng([11, seed])
    settings = draw_settings(rng, (scanner,), 8, SIZE)
    illness = float(rng.random())
    patient = draw_patient(rng, "p", illness, 0.1)
    burden = Burden(illness, 0.1, 0.5 * illness, 0.7)
    scene = draw_scene(rng, patient, burden, settings.geometry, ("longitudinal", "transversal")[rng.integers(2)])
    return settings.geometry, render_clip(scene, replace(settings, text=settings.text or TEXTS[seed % 3]), np.arange(16) / 8).frames


def verdict(true: Geometry, frames: np.ndarray, found: Estimate, window: tuple[int, int, int, int] | None = None) -> str:
    """`right`, or what is wrong, or why it is refused; `window` (left, top, right, bottom) of frames (T, H, W) holds the picture."""
    if (told := found.geometry) is None:
        return f"refused: {found.reason}"
    if (true.probe == "linear") != (told.probe == "linear"):
        return "wrong: " + told.probe
    mm, (column, row), (told_column, told_row) = true.mm_per_px, true.apex_px(), told.apex_px()
    left, top, right, bottom = window or (0, 0, true.width - 1, true.height - 1)
    outer, told_outer = (true.radius_mm + true.depth_mm) / mm, told.radius_mm + told.depth_mm
    apex, angle = float(np.hypot(column - told_column, row - told_row)), abs(np.degrees(told.aperture - true.aperture))
    if true.probe == "linear":  # only what lies in the picture can be told
        sides = [np.clip(column + s * true.aperture / mm, left - 0.5, right + 0.5) - told_column - s * told.aperture for s in (-1, 1)]
        apex, angle = max(abs(max(row, top - 0.5) - told_row), *map(abs, sides)), 0.0
        outer, told_outer = min(row + outer, bottom + 0.5), told_row + told_outer
    bent = np.linspace(-true.aperture, true.aperture, 600)
    x, y = (bent / mm, 0 * bent + outer - 2) if true.probe == "linear" else ((outer - 2) * np.sin(bent), row + (outer - 2) * np.cos(bent))
    x = x + column
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom - 3)
    lit = inside.mean() > 0.1 and (frames.max(axis=0)[y[inside].round().astype(int), x[inside].round().astype(int)] > 0).mean() > 0.5
    deep = abs(outer - told_outer) if lit or "outer" in found.seen else 0.0
    off = f"apex {apex:.1f} px, angle {angle:.1f} degrees, outer radius {deep:.1f} px, confidence {found.confidence:.2f}"
    near = 2 * max(1, true.height / 400, true.width / 400)  # larger pictures are looked at made smaller
    return "right" if apex <= near and angle <= 1 and deep <= near else f"wrong: {off}"


def simulated(console: Console, seeds: range, told: bool) -> None:
    for scanner in SCANNERS:
        verdicts, seconds = [], 0.0
        for seed in seeds:
            true, frames = simulated_clip(scanner, seed)
            start = time.process_time()
            found = estimate_geometry(frames, true.probe if told else None)
            seconds += time.process_time() - start
            verdicts.append(verdict(true, frames, found))
        shares = ", ".join(f"{word} {np.mean([v.startswith(word) for v in verdicts]):.0%}" for word in WORDS)
        console.print(f"{scanner}: {shares} of {len(seeds)} clips; {seconds / len(seeds):.2f} s a clip")
        for seed, said in zip(seeds, verdicts, strict=True):
            if said != "right":
                console.print(f"    {seed} {said}")


def real(console: Console, root: str) -> None:
    cache = cache_folder(None)
    table, folder = build_index(root).table, local_root(root, cache)
    found = clip_estimates(table.assign(path=[str(Path(folder) / path) for path in table["path"]]), cache, cpu_count())
    told = [e for e in found if not isinstance(e, UserError) and e.geometry]
    console.print(f"{len(told)} of {len(found)} clips told ({len(told) / len(found):.1%})")
    for reason, count in Counter(str(e) if isinstance(e, UserError) else e.reason for e in found if e not in told).most_common():
        console.print(f"    {count} refused: {reason}")
    overlaps = np.array([e.overlap for e in told])
    shares = ", ".join(f"{at:.2f} or more in {np.mean(overlaps >= at):.0%}" for at in (0.99, 0.95, 0.9, 0.8))
    console.print(f"overlap with what lights up: {shares}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    for name, default in (("--seeds", 200), ("--first", 500)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--told", action="store_true")
    asked = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    if asked.data:
        real(console, asked.data)
    else:
        simulated(console, range(asked.first, asked.first + asked.seeds), asked.told)
