"""What `beams` makes of clips that are no single grey B-mode: right, refused or confidently wrong, kind by kind.

    python benchmarks/odd_clips.py [--seeds 200] [--first 1000] [--kinds plain grey_bar ...] [--list]

Every clip is simulated and placed on a dark screen. `plain` and `tinted` (a sepia grey map) are one B-mode. `colour` has a Doppler box,
`grey_bar` a still bar beside the picture, `mmode` a strip that a line sweeps over, beside or below it: its field is right, or a refusal.
`side_by_side` has two pictures, one of them frozen in every other clip: either field is right, or a refusal. `flipped` (upside down,
sectors only: a rectangle looks the same) and `steered` (a linear picture whose lines lean by 8 to 20 degrees) have no field that could
be right, so that all told are wrong. Right is what `benchmarks/beams.py` calls right. Of `tinted` and `colour` the reader must say which
shows colours.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from beams import simulated_clip, verdict
from rich.console import Console
from rich.table import Table

from lus_lightning.data.estimate import estimate_geometry
from lus_lightning.data.geometry import Geometry
from lus_lightning.data.pixels import Told
from lus_lightning.data.readers import frames_of
from lus_lightning.simulator.scanner import SCANNERS

Field = tuple[Geometry, tuple[int, int, int, int]]
SECTORS = [name for name, scanner in SCANNERS.items() if scanner.probe != "linear"]


def clip(seed: int, names: list[str] | None = None) -> tuple[Geometry, np.ndarray]:
    """A simulated clip of one scanner after another."""
    return simulated_clip((names or list(SCANNERS))[seed % len(names or SCANNERS)], seed)


def screen(height: int, width: int, frames: np.ndarray) -> np.ndarray:
    """A dark screen for frames (T, h, w)."""
    return np.zeros((len(frames), height, width), np.uint8)


def place(on: np.ndarray, geometry: Geometry, frames: np.ndarray, top: int, left: int) -> Field:
    """Put frames (T, h, w) on a screen (T, H, W); where their field of view is then, and the window that they fill."""
    h, w = frames.shape[1:]
    on[:, top : top + h, left : left + w] = frames
    column, row = geometry.apex_px()
    middle, mm = (on.shape[2] - 1) / 2, geometry.mm_per_px
    moved = replace(geometry, height=on.shape[1], width=on.shape[2], top_mm=-(row + top) * mm, left_mm=(middle - column - left) * mm)
    return moved, (left, top, left + w - 1, top + h - 1)


def plain(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    geometry, frames = clip(seed)
    top, left, below, right = rng.integers(0, 40, 4)
    on = screen(224 + top + below, 224 + left + right, frames)
    return [place(on, geometry, frames, top, left)], on


def tinted(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    fields, frames = plain(seed, rng)
    tint = np.array([(1.0, 0.85, 0.6), (1.0, 0.7, 0.3), (0.75, 0.9, 1.0)][seed % 3])
    return fields, (frames[..., None] * tint).astype(np.uint8)


def colour(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    fields, frames = plain(seed, rng)
    lit = frames.max(axis=0) > 0
    rows, columns = np.nonzero(lit)
    k = rng.integers(len(rows))
    size = rng.uniform(0.12, 0.3, 2) * frames.shape[1:]
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    box = lit & (abs(y - rows[k]) < size[0]) & (abs(x - columns[k]) < size[1])
    flow = np.stack([cv2.GaussianBlur(each, (0, 0), 6) for each in rng.standard_normal(frames.shape).astype(np.float32)])
    flow /= np.abs(flow).max()
    shown = box & (np.abs(flow) > 0.25)
    strength = (100 + 155 * np.abs(flow)).astype(np.uint8)
    red, blue = np.array([1, 0.3, 0]), np.array([0, 0.3, 1]) if seed % 3 else np.array([1, 0.6, 0.1])
    hue = np.where((flow > 0)[..., None], red, blue)
    return fields, np.where(shown[..., None], (strength[..., None] * hue).astype(np.uint8), frames[..., None]).astype(np.uint8)


def grey_bar(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    geometry, frames = clip(seed)
    width, height, away, edge = rng.integers(4, 17), rng.integers(70, 190), rng.integers(3, 31), rng.integers(0, 20)
    on = screen(224 + rng.integers(0, 60), 224 + away + width + edge, frames)
    right = bool(seed // 2 % 2)
    fields = [place(on, geometry, frames, int(rng.integers(0, on.shape[1] - 223)), 0 if right else away + width + edge)]
    bar = np.linspace(255, 0, height)
    if rng.random() < 0.3:
        bar = bar // 16 * 16
    start = int(rng.integers(0, on.shape[1] - height + 1))
    column = 224 + away if right else edge
    on[:, start : start + height, column : column + width] = bar[:: 1 if rng.random() < 0.8 else -1, None].astype(np.uint8)
    return fields, on


def side_by_side(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    geometry, frames = clip(seed)
    other_geometry, other = clip(seed + len(SCANNERS)) if seed % 3 else (geometry, frames)
    if seed % 2:
        other = np.repeat(other[3:4], len(other), axis=0)
    gap, top = int(rng.integers(2, 25)), int(rng.integers(0, 30))
    on = screen(224 + top + rng.integers(0, 60), 448 + gap, frames)
    pair = [(geometry, frames), (other_geometry, other)][:: 1 if rng.random() < 0.5 else -1]
    fields = [place(on, g, f, top, left) for (g, f), left in zip(pair, (0, 224 + gap), strict=True)]
    if gap > 8 and seed % 5 == 0:
        on[:, :, 224 + gap // 2] = 160
    return fields, on


def mmode(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    geometry, frames = clip(seed)
    gap, long = int(rng.integers(2, 13)), int(rng.integers(90, 225))
    column = int(np.clip(geometry.apex_px()[0] + rng.integers(-15, 16), 12, 211))
    at = np.clip(column + np.cumsum(rng.integers(-1, 2, long)), 6, 217)
    strip = np.stack([frames[t % len(frames), :, c] for t, c in enumerate(at)], axis=1)
    strip = np.clip(strip * rng.uniform(0.8, 1.2, strip.shape), 0, 255).astype(np.uint8)
    if below := seed % 2 == 0:
        high = int(rng.integers(70, 130))
        strip = cv2.resize(strip, (224, high), interpolation=cv2.INTER_AREA)
        on = screen(224 + gap + high, 224, frames)
    else:
        on = screen(224, 224 + gap + long, frames)
    fields = [place(on, geometry, frames, 0, 0)]
    sweep = (np.arange(len(frames)) * 6 + rng.integers(strip.shape[1])) % strip.shape[1]
    for t, frame in enumerate(on):
        moved = np.roll(strip, sweep[t], axis=1) if seed % 4 < 2 else strip.copy()
        moved[:, sweep[t] : sweep[t] + 3] = 0
        if below:
            frame[224 + gap :] = moved
        else:
            frame[:, 224 + gap :] = moved
    return fields, on


def flipped(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    geometry, frames = clip(seed, SECTORS)
    top, left, below, right = rng.integers(0, 40, 4)
    on = screen(224 + top + below, 224 + left + right, frames)
    place(on, geometry, frames[:, ::-1], top, left)
    return [], on


def steered(seed: int, rng: np.random.Generator) -> tuple[list[Field], np.ndarray]:
    _, frames = clip(seed, ["sim-linear"])
    lean = np.tan(np.radians(rng.uniform(8, 20))) * rng.choice([-1, 1])
    lit = np.flatnonzero(frames.any(axis=(0, 1)))
    frames = frames[:, :, lit[0] : lit[-1] + 1]
    reach = int(abs(lean) * 224) + 1
    margin, width = int(rng.integers(0, 30)), frames.shape[2] + reach
    move = np.array([[1, lean, margin + (reach if lean < 0 else 0)], [0, 1, 0]])
    on = [cv2.warpAffine(frame, move, (width + 2 * margin, 224 + margin), flags=cv2.INTER_LINEAR) for frame in frames]
    return [], np.stack(on)


KINDS: dict[str, Callable[[int, np.random.Generator], tuple[list[Field], np.ndarray]]] = {
    each.__name__: each for each in (plain, tinted, colour, grey_bar, side_by_side, mmode, flipped, steered)
}


def read(frames: np.ndarray) -> tuple[np.ndarray, bool]:
    """Colour frames (T, H, W, 3) through a video that keeps luma: as they are read, and whether the reader says that they show colours."""
    even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(8), options={"crf": "0"})
            stream.height, stream.width, stream.pix_fmt = *even.shape[1:3], "yuv420p"
            for frame in even:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
        grey = np.stack(list(frames_of(path, told := Told())))
    return grey, any("colours" in note for note in told.notes)


def judged(kind: str, seed: int) -> str:
    """`right`, or why the clip is refused, or what is wrong."""
    fields, frames = KINDS[kind](seed, np.random.default_rng([23, list(KINDS).index(kind), seed]))
    if frames.ndim == 4:
        shape = frames.shape[1:3]
        frames, told = read(frames)
        fields = [(replace(g, height=shape[0], width=shape[1]), window) for g, window in fields]
        if told != (kind == "colour"):
            return "wrong: colours are " + ("said to be shown" if told else "not told")
        frames = np.pad(frames, ((0, 0), (0, shape[0] - frames.shape[1]), (0, shape[1] - frames.shape[2])))
    found = estimate_geometry(frames)
    said = [verdict(geometry, frames, found, window) for geometry, window in fields]
    if found.geometry is None:
        return f"refused: {found.reason}"
    column, row = found.geometry.apex_px()
    told = f"{found.geometry.probe}, apex {column:.0f} {row:.0f}, confidence {found.confidence:.2f}"
    return "right" if "right" in said else "; ".join(said) or f"wrong: {told}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--list", action="store_true", help="each clip that is not right, by seed")
    asked = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    table = Table("kind", "clips", "right", "refused", "confidently wrong", "why refused")
    for kind in asked.kinds:
        said = {seed: judged(kind, seed) for seed in range(asked.first, asked.first + asked.seeds)}
        shares = [f"{np.mean([v.startswith(word) for v in said.values()]):.1%}" for word in ("right", "refused", "wrong")]
        reasons = Counter(v.removeprefix("refused: ") for v in said.values() if v.startswith("refused"))
        table.add_row(kind, str(len(said)), *shares, "\n".join(f"{n} {reason}" for reason, n in reasons.most_common()))
        console.print(f"{kind}: right {shares[0]}, refused {shares[1]}, wrong {shares[2]}")
        if asked.list:
            for seed, verdict_ in said.items():
                if verdict_ != "right":
                    console.print(f"    {seed} {verdict_}")
    console.print(table)


if __name__ == "__main__":
    main()
