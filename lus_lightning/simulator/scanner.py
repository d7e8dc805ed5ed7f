"""Simulated scanners: what the machine and the hand that holds it do to a picture, whatever the lung."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lus_lightning.data.geometry import Geometry
from lus_lightning.errors import UserError

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """What a small machine's pictures show of a lung besides; the defaults add nothing. Scores know nothing of it.

    `facing_deg`: how oblique (one standard deviation) a pleura may lie and still be seen. `uneven_db`: how much the pleural line's
    brightness wavers along it. `stripes_db`: level of the chest wall's reverberations under an aerated lung's pleura, fading over
    `stripes_mm`. `haze_db`: added to the haze there, and half of it to B-lines; `haze_reach`: how many times as deep it goes.
    `clutter_db`: added to the clutter everywhere, and unevenly. `rib_edge_lines`: how softly a rib's shadow begins, in scan lines
    (standard deviation); `rib_level`: of its surface's echo. `b_edge_mm`: how softly a B-line does. `looks`: directions from which the
    machine compounds a picture, which evens out speckle. `unseen_db`: scan lines that lose more than this to poor contact or an oblique
    pleura show no pleura to an annotator, so masks have no pleural line, A-line or B-line there.
    """

    facing_deg: float = float("inf")
    uneven_db: float = 0.0
    stripes_db: float = -float("inf")
    stripes_mm: float = 30.0
    haze_db: float = 0.0
    haze_reach: float = 1.0
    clutter_db: float = 0.0
    rib_edge_lines: float = 2.2
    rib_level: float = 0.8
    b_edge_mm: float = 0.25
    looks: int = 1
    unseen_db: float = -float("inf")


@dataclass(frozen=True)
class Scanner:
    """Ranges from which the settings of one examination are drawn; every name begins with `sim-`, as no real machine is meant."""

    name: str
    probe: str
    aperture: Range
    radius_mm: Range
    depth_mm: Range
    frequency_mhz: Range
    dynamic_range_db: Range
    gamma: Range
    gain_db: float
    fall_db: Range = (8, 24)
    cycles: Range = (0.9, 1.8)
    beam_lines: Range = (0.7, 1.5)
    smoothing: Range = (0.1, 0.6)
    grain_db: Range = (0.0, 1.0)
    text: float = 0.3
    crop: float = 0.3
    crop_top: Range = (0.0, 0.1)
    crop_height: Range = (0.85, 1.02)
    noise_db: Range = (-66, -48)
    look: dict[str, Range] | None = None


SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner(
            "sim-handheld",
            "convex",
            (0.56, 0.62),
            (45, 55),
            (75, 110),
            (3.0, 5.0),
            (52, 64),
            (0.9, 1.15),
            -20,
            fall_db=(22, 38),
            cycles=(0.7, 1.3),
            beam_lines=(0.45, 0.9),
            smoothing=(0.6, 0.85),
            grain_db=(0.9, 1.8),
            crop=0.95,
            text=0.1,
        ),
        Scanner("sim-cart", "convex", (0.5, 0.62), (50, 62), (80, 130), (2.5, 5.0), (55, 72), (0.7, 1.1), -12, crop=0.2),
        Scanner("sim-chip", "convex", (0.48, 0.62), (20, 32), (80, 130), (2.2, 3.5), (50, 65), (0.8, 1.2), -12, cycles=(1.3, 2.4)),
        Scanner("sim-phased", "phased", (0.65, 0.8), (4, 9), (110, 170), (1.8, 3.0), (48, 62), (0.8, 1.1), -12, cycles=(1.3, 2.4)),
        Scanner("sim-linear", "linear", (19, 25), (0, 0), (40, 65), (6.0, 10.0), (55, 70), (0.8, 1.1), -10),
    )
}
HIDING_SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner(
            "sim-pocket",
            "convex",
            (0.57, 0.62),
            (46, 54),
            (85, 110),
            (3.5, 5.0),
            (52, 64),
            (0.9, 1.15),
            -24,
            fall_db=(28, 44),
            cycles=(0.5, 1.0),
            beam_lines=(0.4, 0.7),
            smoothing=(0.2, 0.6),
            grain_db=(0.9, 1.8),
            crop=1.0,
            crop_top=(0.065, 0.085),
            crop_height=(0.92, 0.97),
            text=0.1,
            noise_db=(-62, -40),
            look={
                "facing_deg": (5, 16),
                "uneven_db": (1, 4),
                "stripes_db": (-30, -12),
                "stripes_mm": (20, 80),
                "haze_db": (6, 16),
                "haze_reach": (1, 2.5),
                "clutter_db": (2, 16),
                "rib_edge_lines": (2.5, 7),
                "rib_level": (0.02, 0.5),
                "b_edge_mm": (0.25, 0.8),
                "looks": (2, 5),
                "unseen_db": (-18, -12),
            },
        ),
    )
}
"""Machines whose pictures hide part of what is there, as a hand-held one's do: no study has them unless it names them."""


@dataclass(frozen=True)
class Settings:
    """One examination's machine settings.

    `auto_tgc` is the share of the differences between depths that the machine evens out by itself, towards a fall of `fall_db` to the
    bottom. `psf_*` are standard deviations of the point spread function in samples and scan lines, `smoothing` (0-1) is the share of
    speckle that the machine's filter takes away, `grain_db` the fine noise of its electronics.
    """

    scanner: str
    geometry: Geometry
    fps: float
    psf_samples: float
    psf_lines: float
    gain_db: float
    dynamic_range_db: float
    gamma: float
    tgc_db: tuple[float, ...]
    auto_tgc: float
    fall_db: float
    noise_db: float
    persistence: float
    smoothing: float
    grain_db: float
    black_level: float
    text: str
    look: Look = Look()


def draw_settings(rng: np.random.Generator, scanners: tuple[str, ...], fps: float, size: int) -> Settings:
    """Settings of one examination with one of the named scanners; pictures of `size` x `size` pixels."""
    known = SCANNERS | HIDING_SCANNERS
    unknown = set(scanners) - set(known)
    if unknown:
        raise UserError(f"no simulated scanner is called {sorted(unknown)[0]!r}: choose from {', '.join(known)}")
    scanner = known[scanners[rng.integers(len(scanners))]]
    geometry = _draw_geometry(rng, scanner, size)
    wavelength_mm = 1.54 / rng.uniform(*scanner.frequency_mhz)
    gain_db = scanner.gain_db + rng.normal(0, 4)
    return Settings(
        scanner=scanner.name,
        geometry=geometry,
        fps=fps,
        psf_samples=max(0.35, 0.5 * rng.uniform(*scanner.cycles) * wavelength_mm / geometry.sample_mm),
        psf_lines=rng.uniform(*scanner.beam_lines),
        gain_db=gain_db,
        dynamic_range_db=rng.uniform(*scanner.dynamic_range_db),
        gamma=rng.uniform(*scanner.gamma),
        tgc_db=tuple(np.cumsum(rng.normal(0, 1.8, 6))),
        auto_tgc=rng.uniform(0.5, 0.9),
        fall_db=rng.uniform(*scanner.fall_db),
        noise_db=rng.uniform(*scanner.noise_db),
        persistence=rng.uniform(0, 0.5),
        smoothing=rng.uniform(*scanner.smoothing),
        grain_db=rng.uniform(*scanner.grain_db),
        black_level=float(rng.choice([0, 0, 0, 4, 10])),
        text=_draw_text(rng) if rng.random() < scanner.text else "",
        look=_draw_look(rng, scanner.look) if scanner.look else Look(),
    )


def _draw_look(rng: np.random.Generator, ranges: dict[str, Range]) -> Look:
    drawn: dict[str, Any] = {name: rng.uniform(*limits) for name, limits in ranges.items()}
    return Look(**drawn | {"looks": int(drawn["looks"])})


def _draw_geometry(rng: np.random.Generator, scanner: Scanner, size: int) -> Geometry:
    aperture, radius, depth = rng.uniform(*scanner.aperture), rng.uniform(*scanner.radius_mm), rng.uniform(*scanner.depth_mm)
    if scanner.probe == "linear":
        height_mm, width_mm, top = depth, 2 * aperture, 0.0
    else:
        top = radius * np.cos(aperture)
        height_mm, width_mm = radius + depth - top, 2 * (radius + depth) * np.sin(aperture)
    if rng.random() < scanner.crop:
        top += rng.uniform(*scanner.crop_top) * height_mm
        mm_per_px = height_mm * rng.uniform(*scanner.crop_height) / size
    else:
        mm_per_px = max(height_mm, width_mm) * rng.uniform(1.0, 1.08) / size
        top -= rng.uniform(0, 0.5) * (mm_per_px * size - height_mm)
    left = rng.normal(0, 0.04) * width_mm
    return Geometry(scanner.probe, aperture, radius, depth, size, size, float(mm_per_px), float(top), float(left))


def _draw_text(rng: np.random.Generator) -> str:
    words = ("Lung", "L 12cm", "MI 0.7", "TIS 0.1", "2D", "Gen", "Abd", "P", "SIM", "Exam 4", "45 %")
    return "  ".join(rng.choice(words, size=rng.integers(1, 4), replace=False))
