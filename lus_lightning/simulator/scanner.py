"""Simulated scanners: what the machine and the hand that holds it do to a picture, whatever the lung."""

from dataclasses import dataclass

import numpy as np

from lus_lightning.data.geometry import Geometry
from lus_lightning.errors import UserError

Range = tuple[float, float]


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


SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner(
            "sim-handheld", "convex", (0.56, 0.62), (45, 55), (75, 110), (3.0, 5.0), (52, 64), (0.9, 1.15), -20, fall_db=(22, 38),
            cycles=(0.7, 1.3), beam_lines=(0.45, 0.9), smoothing=(0.6, 0.85), grain_db=(0.9, 1.8), crop=0.95, text=0.1,
        ),
        Scanner("sim-cart", "convex", (0.5, 0.62), (50, 62), (80, 130), (2.5, 5.0), (55, 72), (0.7, 1.1), -12, crop=0.2),
        Scanner("sim-chip", "convex", (0.48, 0.62), (20, 32), (80, 130), (2.2, 3.5), (50, 65), (0.8, 1.2), -12, cycles=(1.3, 2.4)),
        Scanner("sim-phased", "phased", (0.65, 0.8), (4, 9), (110, 170), (1.8, 3.0), (48, 62), (0.8, 1.1), -12, cycles=(1.3, 2.4)),
        Scanner("sim-linear", "linear", (19, 25), (0, 0), (40, 65), (6.0, 10.0), (55, 70), (0.8, 1.1), -10),
    )
}


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


def draw_settings(rng: np.random.Generator, scanners: tuple[str, ...], fps: float, size: int) -> Settings:
    """Settings of one examination with one of the named scanners; pictures of `size` x `size` pixels."""
    unknown = set(scanners) - set(SCANNERS)
    if unknown:
        raise UserError(f"no simulated scanner is called {sorted(unknown)[0]!r}: choose from {', '.join(SCANNERS)}")
    scanner = SCANNERS[scanners[rng.integers(len(scanners))]]
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
        noise_db=rng.uniform(-66, -48),
        persistence=rng.uniform(0, 0.5),
        smoothing=rng.uniform(*scanner.smoothing),
        grain_db=rng.uniform(*scanner.grain_db),
        black_level=float(rng.choice([0, 0, 0, 4, 10])),
        text=_draw_text(rng) if rng.random() < scanner.text else "",
    )


def _draw_geometry(rng: np.random.Generator, scanner: Scanner, size: int) -> Geometry:
    aperture, radius, depth = rng.uniform(*scanner.aperture), rng.uniform(*scanner.radius_mm), rng.uniform(*scanner.depth_mm)
    if scanner.probe == "linear":
        height_mm, width_mm, top = depth, 2 * aperture, 0.0
    else:
        top = radius * np.cos(aperture)
        height_mm, width_mm = radius + depth - top, 2 * (radius + depth) * np.sin(aperture)
    if rng.random() < scanner.crop:
        top += rng.uniform(0, 0.1) * height_mm
        mm_per_px = height_mm * rng.uniform(0.85, 1.02) / size
    else:
        mm_per_px = max(height_mm, width_mm) * rng.uniform(1.0, 1.08) / size
        top -= rng.uniform(0, 0.5) * (mm_per_px * size - height_mm)
    left = rng.normal(0, 0.04) * width_mm
    return Geometry(scanner.probe, aperture, radius, depth, size, size, float(mm_per_px), float(top), float(left))


def _draw_text(rng: np.random.Generator) -> str:
    words = ("Lung", "L 12cm", "MI 0.7", "TIS 0.1", "2D", "Gen", "Abd", "P", "SIM", "Exam 4", "45 %")
    return "  ".join(rng.choice(words, size=rng.integers(1, 4), replace=False))
