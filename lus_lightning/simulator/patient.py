"""Simulated patients: how ill, how thick the chest wall, how they breathe; and how illness spreads over the zones."""

from dataclasses import dataclass

import numpy as np

from lus_lightning.labels import ZONES


@dataclass(frozen=True)
class Patient:
    """One patient. `burden` 0 (healthy) to 1; `wall_mm` is the mean depth of the pleura; `spread` how much zones differ."""

    name: str
    burden: float
    spread: float
    wall_mm: float
    breaths_per_s: float
    slide_mm: float
    diagnosis: str


@dataclass(frozen=True)
class Burden:
    """How ill a zone is: `illness` 0-1 drives B-lines and pleura, the others are probabilities. A prior for the scene, not a score."""

    illness: float
    effusion: float
    consolidation: float
    a_lines: float


def draw_patient(rng: np.random.Generator, name: str, rank: float, healthy_share: float) -> Patient:
    """A patient whose place among all in illness is `rank` (0-1, uniform); the least ill `healthy_share` are diagnosed healthy."""
    ill = (rank - healthy_share) / (1 - healthy_share)
    return Patient(
        name=name,
        burden=float(rng.uniform(0, 0.12)) if ill < 0 else 0.2 + 0.62 * ill,
        spread=float(rng.uniform(0.05, 0.1)) if ill < 0 else float(rng.uniform(0.14, 0.24)),
        wall_mm=float(np.clip(rng.lognormal(np.log(21), 0.28), 11, 42)),
        breaths_per_s=float(rng.uniform(0.2, 0.42)),
        slide_mm=float(rng.uniform(2, 7)),
        diagnosis="healthy" if ill < 0 else "COVID-19",
    )


def zone_burden(rng: np.random.Generator, patient: Patient, zone: str, protocol: str) -> Burden:
    """How ill a zone of this patient is: worse behind and below, as in COVID-19 pneumonia (Soldati et al. 2020)."""
    behind, below = zone_place(zone, protocol)
    illness = patient.burden + patient.spread * (0.5 * behind + 0.3 * below + rng.normal())
    illness = float(np.clip(illness, 0, 1))
    return Burden(
        illness,
        effusion=0.01 + 0.12 * (behind > 0 and below > 0) + 0.08 * illness,
        consolidation=max(0.0, illness - 0.5) * 0.9,
        a_lines=0.97 - 0.6 * max(0.0, illness - 0.35),
    )


def sign_burden(rng: np.random.Generator) -> Burden:
    """A zone of a study of signs: mostly one of A-lines, B-lines, effusion, consolidation; one in six shows what comes."""
    pure = (
        Burden(0.05, effusion=0, consolidation=0, a_lines=1),
        Burden(float(rng.uniform(0.4, 0.9)), effusion=0, consolidation=0, a_lines=0.1),
        Burden(float(rng.uniform(0, 0.15)), effusion=1, consolidation=0.1, a_lines=0),
        Burden(float(rng.uniform(0, 0.15)), effusion=0, consolidation=1, a_lines=0.1),
    )
    mixed = Burden(float(rng.uniform(0, 1)), effusion=0.25, consolidation=0.25, a_lines=0.5)
    return mixed if rng.random() < 1 / 6 else pure[rng.integers(4)]


def zone_place(zone: str, protocol: str) -> tuple[int, int]:
    """How far behind (-1 anterior, 0 lateral, 1 posterior) and below (-1 upper, 1 lower) a zone of `labels.ZONES` lies."""
    place = ZONES[protocol].index(zone)
    if protocol == "6":
        return (-1, 0, 1)[place % 3], (-1, 1, 1)[place % 3]
    if protocol == "12":
        return (-1, 0, 1)[place % 6 // 2], (-1, 1)[place % 2]
    behind = 1 if place < 6 else 0 if place < 10 else -1
    return behind, (1, 0, -1)[place % 3] if behind == 1 else (1, -1)[place % 2]
