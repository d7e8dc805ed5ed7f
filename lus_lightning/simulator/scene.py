"""What is in a lung and how it moves: data and random draws only. Positions are mm along the pleural line from the probe's axis."""

from dataclasses import dataclass

import numpy as np

from lus_lightning.data.geometry import Geometry
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
    an aerated lung's pleura, `clutter_db` the level of what is everywhere, `shadow_db` how much a rib takes away.
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
    clutter_db: float
    shadow_db: float
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
    haze_db = float(rng.uniform(-36, -20))
    b_lines = _draw_b_lines(rng, ill, half, haze_db)
    return Scene(
        geometry=geometry,
        orientation=orientation,
        pleura=_draw_pleura(rng, ill, depth, half, b_lines),
        ribs=_draw_ribs(rng, depth, half) if orientation == "longitudinal" else np.zeros((0, 3)),
        motion=Motion(
            patient.breaths_per_s,
            float(rng.uniform(0, 2 * np.pi)),
            patient.slide_mm * float(rng.uniform(0.2, 1)),
            float(rng.uniform(0.1, 0.8)),
            float(rng.normal(0, 0.5)),
        ),
        a_lines=float(rng.uniform(-11, -5) - 16 * (rng.random() > burden.a_lines) - 4 * ill),
        b_lines=b_lines,
        distractors=_draw_distractors(rng, half),
        consolidations=_draw_consolidations(rng, burden, half),
        effusion_mm=float(rng.uniform(6, max(8.0, min(45.0, 0.5 * geometry.depth_mm - depth)))) if rng.random() < burden.effusion else 0.0,
        haze_db=haze_db,
        haze_mm=float(rng.uniform(10, 35)),
        clutter_db=float(rng.uniform(-52, -30)),
        shadow_db=float(rng.uniform(-30, -12)),
        wall_db=float(rng.uniform(-24, -12)),
        seed=int(rng.integers(2**31)),
    )


def _draw_pleura(rng: np.random.Generator, ill: float, depth: float, half: float, b_lines: BLines) -> Pleura:
    """Indents lie over some single B-lines, breaks over some of all: there the sound enters (Soldati et al. 2020); a few lie anywhere."""
    rough = 0.12 + 0.7 * max(0.0, ill - 0.3) * rng.random()
    ripples = np.column_stack([rng.uniform(0.2, 1, 6) * rough, rng.uniform(3, 25, 6), rng.uniform(0, 2 * np.pi, 6)])
    single = b_lines.x_mm[b_lines.width_mm < 3]
    indents = np.append(single[rng.random(len(single)) < 0.4], rng.uniform(-half, half, rng.poisson(0.4 * (ill > 0.25))))
    breaks = single[rng.random(len(single)) < 1.2 * max(0.0, ill - 0.35)]
    for centre, width in zip(b_lines.x_mm, b_lines.width_mm, strict=True):
        if width >= 3:
            breaks = np.append(breaks, centre + width * rng.uniform(-0.5, 0.5, rng.poisson(width * 0.06)))
    return Pleura(
        depth_mm=depth,
        tilt=float(rng.normal(0, 0.07)),
        flatness=float(rng.uniform(0.1, 1)),
        thickness_mm=float(rng.uniform(0.7, 1.4) + 1.2 * ill * rng.random()),
        level_db=float(rng.uniform(-5, 3)),
        ripples=ripples,
        indents=np.column_stack([indents, rng.uniform(2.5, 5, len(indents)), rng.uniform(1, 2.5, len(indents))]),
        breaks=np.column_stack([breaks, rng.uniform(2, 3 + 5 * ill, len(breaks))]),
    )


def _draw_ribs(rng: np.random.Generator, depth: float, half: float) -> np.ndarray:
    pitch, offset = rng.uniform(26, 40), rng.uniform(-0.35, 0.35)
    centres = (np.arange(-4, 5) + 0.5 + offset) * pitch
    centres = centres[np.abs(centres) < half + 8]
    return np.column_stack([centres, rng.uniform(4.5, 8, len(centres)), np.minimum(rng.uniform(5, 9, len(centres)), 0.45 * depth)])


def _draw_b_lines(rng: np.random.Generator, ill: float, half: float, haze_db: float) -> BLines:
    """Singles about 7 mm apart from illness 0.18 on, from 0.44 clusters closer than 3 mm, from 0.55 confluent areas up to a white lung."""
    groups = [(np.zeros(0), np.zeros(0))]
    if rng.random() < 0.1 + 6 * max(0.0, ill - 0.18):
        gaps = np.maximum(4.0, rng.normal(rng.uniform(6, 9), 1.0, 1 + rng.poisson(11 * np.clip(ill - 0.18, 0.0, 0.35))))
        x = rng.uniform(-half, half) + np.cumsum(gaps)
        groups.append((x - 2 * half * (x.mean() > half), rng.uniform(1.4, 2.8, len(x))))
    for _ in range(rng.poisson(7.5 * np.clip(ill - 0.44, 0, 0.35))):
        n = int(rng.integers(3, 7))
        groups.append((rng.uniform(-half, half) + np.cumsum(rng.uniform(1.6, 2.9, n)), rng.uniform(1.0, 2.2, n)))
    if rng.random() < 4 * (ill - 0.55):
        share = rng.uniform(0.55, 1.4) if rng.random() < 4 * (ill - 0.62) else rng.uniform(0.1, 0.4)
        groups.append((rng.uniform(-half, half, 1) * max(0.0, 1.1 - share), np.array([share * 2 * half])))
    x, width = (np.concatenate(column) for column in zip(*groups, strict=True))
    n = len(x)
    return BLines(
        x_mm=x,
        width_mm=width,
        level_db=min(haze_db + rng.uniform(9, 16), -6.0) + rng.normal(0, 1.5, n),
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
