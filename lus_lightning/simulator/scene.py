"""What is in a lung and how it moves: data and random draws only. Positions are mm along the pleural line from the probe's axis."""

from dataclasses import dataclass

import numpy as np

from lus_lightning.simulator.geometry import Geometry
from lus_lightning.simulator.patient import Burden, Patient


@dataclass(frozen=True)
class BLines:
    """B-lines, each array (N,): a wide one is a confluent area. Visible while the breathing phase's sine, shifted, exceeds `threshold`."""

    x_mm: np.ndarray
    width_mm: np.ndarray
    level_db: np.ndarray
    decay_mm: np.ndarray
    phase: np.ndarray
    threshold: np.ndarray


@dataclass(frozen=True)
class Consolidations:
    """Subpleural consolidations, each array (N,): half ellipses below the pleura with a shred border; `air` bronchograms per 100 mm2."""

    x_mm: np.ndarray
    width_mm: np.ndarray
    depth_mm: np.ndarray
    air: np.ndarray


@dataclass(frozen=True)
class Pleura:
    """The pleural line; `ripples` (K, 3): amplitude, wavelength, phase; `indents` (N, 3): x, width, depth; `breaks` (N, 2): x, width."""

    depth_mm: float
    tilt: float
    flatness: float
    thickness_mm: float
    level_db: float
    ripples: np.ndarray
    indents: np.ndarray
    breaks: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Breathing and the hand: `slide_mm` is the lung's way along the chest wall each side of rest, `lift_mm` the pleura's in depth."""

    breaths_per_s: float
    phase: float
    slide_mm: float
    lift_mm: float
    drift_mm_per_s: float

    def angle(self, seconds: np.ndarray) -> np.ndarray:
        """Breathing phase in radians at each moment."""
        return 2 * np.pi * self.breaths_per_s * seconds + self.phase


@dataclass(frozen=True)
class Scene:
    """One zone of one examination, for as long as one clip.

    `ribs` (N, 3): centre, half width, height above the pleura, mm; none in transversal view. `a_lines` is the level in dB of each
    reverberation against the one before. `distractors` (N, 4): x, width, length (mm), level (dB) of short vertical artefacts that are no
    B-lines (Z- and I-lines). `effusion_mm` is the fluid's depth, `haze_db` and `haze_mm` level and decay of the diffuse reverberation under
    an aerated lung's pleura.
    """

    geometry: Geometry
    orientation: str
    pleura: Pleura
    ribs: np.ndarray
    motion: Motion
    a_lines: float
    b_lines: BLines
    distractors: np.ndarray
    consolidations: Consolidations
    effusion_mm: float
    haze_db: float
    haze_mm: float
    wall_db: float
    seed: int

    @property
    def half_view_mm(self) -> float:
        """Half the pleura's length in the field of view."""
        return self.geometry.arc_half_mm(self.pleura.depth_mm)


def draw_scene(rng: np.random.Generator, patient: Patient, burden: Burden, geometry: Geometry, orientation: str) -> Scene:
    """A scene of a zone this ill. Nothing here knows of scores: they follow from the scene (`standards.py`)."""
    depth = float(np.clip(patient.wall_mm * rng.uniform(0.8, 1.25), 8, 0.4 * geometry.depth_mm))
    half = geometry.arc_half_mm(depth)
    ill = burden.illness
    consolidations = _draw_consolidations(rng, burden, half)
    healthy = max(0.0, 1 - 2 * ill)
    return Scene(
        geometry=geometry,
        orientation=orientation,
        pleura=_draw_pleura(rng, ill, depth, half),
        ribs=_draw_ribs(rng, depth, half) if orientation == "longitudinal" else np.zeros((0, 3)),
        motion=Motion(
            patient.breaths_per_s,
            float(rng.uniform(0, 2 * np.pi)),
            patient.slide_mm * float(rng.uniform(0.2, 1)),
            float(rng.uniform(0.1, 0.8)),
            float(rng.normal(0, 0.5)),
        ),
        a_lines=float(rng.uniform(-14, -7) - 16 * (rng.random() > 0.35 + 0.6 * healthy) - 6 * ill),
        b_lines=_draw_b_lines(rng, ill, half),
        distractors=_draw_distractors(rng, half),
        consolidations=consolidations,
        effusion_mm=float(rng.uniform(6, 45)) if rng.random() < burden.effusion else 0.0,
        haze_db=float(rng.uniform(-34, -17)),
        haze_mm=float(rng.uniform(10, 60)),
        wall_db=float(rng.uniform(-24, -12)),
        seed=int(rng.integers(2**31)),
    )


def _draw_pleura(rng: np.random.Generator, ill: float, depth: float, half: float) -> Pleura:
    rough = 0.12 + 0.7 * max(0.0, ill - 0.3) * rng.random()
    ripples = np.column_stack([rng.uniform(0.2, 1, 6) * rough, rng.uniform(3, 25, 6), rng.uniform(0, 2 * np.pi, 6)])
    n_indents, n_breaks = rng.poisson(5 * np.clip(ill - 0.2, 0, 0.45)), rng.poisson(9 * np.clip(ill - 0.3, 0, 0.5))
    return Pleura(
        depth_mm=depth,
        tilt=float(rng.normal(0, 0.07)),
        flatness=float(rng.uniform(0.1, 1)),
        thickness_mm=float(rng.uniform(0.7, 1.4) + 1.2 * ill * rng.random()),
        level_db=float(rng.uniform(-5, 3)),
        ripples=ripples,
        indents=np.column_stack([rng.uniform(-half, half, n_indents), rng.uniform(2, 5, n_indents), rng.uniform(0.8, 2.2, n_indents)]),
        breaks=np.column_stack([rng.uniform(-half, half, n_breaks), rng.uniform(1.5, 3 + 5 * ill, n_breaks)]),
    )


def _draw_ribs(rng: np.random.Generator, depth: float, half: float) -> np.ndarray:
    pitch, offset = rng.uniform(24, 38), rng.uniform(-0.35, 0.35)
    centres = (np.arange(-4, 5) + 0.5 + offset) * pitch
    centres = centres[np.abs(centres) < half + 8]
    return np.column_stack(
        [centres, rng.uniform(4, 7.5, len(centres)), np.minimum(rng.uniform(5, 9, len(centres)), 0.45 * depth)]
    )


def _draw_b_lines(rng: np.random.Generator, ill: float, half: float) -> BLines:
    x: list[float] = []
    width: list[float] = []
    spacing = rng.uniform(5, 9)
    if rng.random() < 0.12 + 3.2 * max(0.0, ill - 0.22):
        count = 1 + rng.poisson(10 * np.clip(ill - 0.22, 0.0, 0.35))
        x += list(rng.uniform(-half, half) + np.cumsum(np.maximum(3.3, rng.normal(spacing, 1.0, count))))
    x = [(v + half) % (2 * half) - half for v in x]
    width += list(rng.uniform(1.2, 2.6, len(x)))
    for _ in range(rng.poisson(4.5 * np.clip(ill - 0.42, 0, 0.4))):
        cluster = rng.uniform(-half, half) + np.cumsum(rng.uniform(1.4, 2.9, rng.integers(3, 7)))
        x += list(cluster)
        width += list(rng.uniform(1.0, 2.2, len(cluster)))
    if rng.random() < 3 * (ill - 0.52):
        share = rng.uniform(0.1, 0.4) if rng.random() > 3.5 * (ill - 0.6) else rng.uniform(0.45, 1.3)
        x.append(float(rng.uniform(-half, half) * max(0.0, 1.1 - share)))
        width.append(float(share * 2 * half))
    n = len(x)
    return BLines(
        x_mm=np.array(x),
        width_mm=np.array(width),
        level_db=rng.uniform(-19, -8) + rng.normal(0, 2, n),
        decay_mm=rng.uniform(60, 300, n),
        phase=rng.uniform(0, 2 * np.pi, n),
        threshold=np.where(rng.random(n) < 0.75, -2.0, rng.uniform(-1.0, 0.6, n)),
    )


def _draw_consolidations(rng: np.random.Generator, burden: Burden, half: float) -> Consolidations:
    n = int(rng.random() < burden.consolidation) * (1 + rng.poisson(0.7))
    large = rng.random(n) < max(0.15, 2 * (burden.illness - 0.65))
    width = np.where(large, rng.uniform(20, 45, n), rng.uniform(5, 14, n))
    return Consolidations(
        x_mm=rng.uniform(-0.75 * half, 0.75 * half, n),
        width_mm=width,
        depth_mm=np.where(large, rng.uniform(15, 35, n), rng.uniform(4, 10, n)),
        air=rng.uniform(0, 4, n),
    )


def _draw_distractors(rng: np.random.Generator, half: float) -> np.ndarray:
    n = rng.poisson(1.5)
    return np.column_stack([rng.uniform(-half, half, n), rng.uniform(1, 2.5, n), rng.uniform(5, 25, n), rng.uniform(-22, -10, n)])
