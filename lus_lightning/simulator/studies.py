"""The default studies: one for each paper, small, frozen with a version, simulated once into the cache."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from lus_lightning.errors import UserError
from lus_lightning.labels import STANDARDS, ZONES
from lus_lightning.simulator.raters import Noise

VERSION = 3
"""Of all default studies: raised whenever scenes, rendering or labels change, so that no cache holds an older study under the same key."""


@dataclass(frozen=True)
class Study:
    """All that decides what is written, and thereby the key in the cache.

    `held_out` patients are for testing; `loops` clips per zone, `frames` each at about `fps`, pictures of `size` pixels a side.
    `length_spread`: standard deviation of the logarithm of a clip's length, most of it between patients; 0: all have `frames`.
    `mix`: "severity" (illness by patient and zone) or "signs" (mostly one sign a clip). `masks` and `beam` write the exact masks and
    the beam-space frames. `layout`: "folder" or "san-matteo".
    """

    name: str
    version: int
    patients: int
    held_out: int
    seed: int = 0
    protocol: str = "12"
    loops: int = 1
    frames: int = 41
    fps: float = 10.0
    size: int = 224
    standard: str = "xing"
    scanners: tuple[str, ...] = ("sim-cart", "sim-chip", "sim-handheld")
    orientations: tuple[str, ...] = ("longitudinal", "transversal")
    healthy_share: float = 0.15
    mix: str = "severity"
    masks: bool = True
    beam: bool = False
    layout: str = "folder"
    noise: Noise = field(default_factory=Noise)
    length_spread: float = 0.0

    def __post_init__(self) -> None:
        if self.patients < 1 or self.frames < 1 or self.loops < 1 or not 32 <= self.size <= 1024 or self.size % 2:
            raise UserError("a study needs at least one patient, one loop and one frame, and pictures of 32 to 1024 pixels, an even number")
        if not 0 <= self.held_out < self.patients:
            raise UserError(f"{self.held_out} test patients of {self.patients} leave none to train on: ask for more patients")
        if self.mix not in ("severity", "signs") or self.layout not in ("folder", "san-matteo"):
            raise UserError(f"mix {self.mix!r} or layout {self.layout!r} is unknown: they are severity, signs; folder, san-matteo")
        if self.layout == "san-matteo" and self.loops > 1:
            raise UserError("the san-matteo layout has one clip an area: set loops to 1")
        if self.protocol not in ZONES or self.standard not in STANDARDS:
            known = ", ".join([*ZONES, *STANDARDS])
            raise UserError(f"protocol {self.protocol!r} or standard {self.standard!r} is unknown: choose from {known}")

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of its protocol."""
        return ZONES[self.protocol]

    @property
    def key(self) -> str:
        """A short hash of every parameter; one that came later takes part where it is used, so that older studies keep their key."""
        facts = {name: value for name, value in asdict(self).items() if (name, value) != ("length_spread", 0.0)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]


STUDIES = {
    study.name: study
    for study in (
        # Xing et al., section 2.1: 26 + 5 patients, 12 zones; three loops of 5 s a zone; three machines, not one.
        Study("xing", VERSION, patients=31, held_out=5, loops=3, frames=21, fps=4),
        # Raillard et al.: 49 patients (12 healthy), 12 zones, one machine.
        Study(
            "raillard", VERSION, 49, 0, frames=24, fps=8, standard="raillard", scanners=("sim-chip",), healthy_share=12 / 49, masks=False
        ),
        # Muñoz et al., Dataset-2: 30 patients, 12 zones, one machine, both orientations, beam space.
        Study("munoz", VERSION, 30, 6, frames=20, fps=8, standard="soldati", scanners=("sim-cart",), beam=True),
        # To train on for a hand-held convex machine (no paper): more patients than clips need, as it is patients that differ.
        Study(
            "munoz-handheld",
            VERSION,
            120,
            12,
            protocol="6",
            frames=10,
            fps=4,
            size=350,
            standard="soldati",
            scanners=("sim-pocket", "sim-pocket", "sim-handheld"),
            orientations=("longitudinal", "longitudinal", "transversal"),
            healthy_share=0.3,
            beam=True,
        ),
        # Corso: 11 patients, 14 zones, folders of JPEG, clips of different lengths.
        Study("corso", VERSION, 11, 2, protocol="14", frames=30, fps=10, standard="soldati", layout="san-matteo", length_spread=0.4),
        # Four signs: single pictures, so clips are short.
        Study("four-signs", VERSION, 120, 24, protocol="6", frames=3, fps=2, standard="soldati", mix="signs", masks=False),
        # For tests only.
        Study("tiny", VERSION, 8, 2, protocol="6", frames=16, fps=8, size=96, healthy_share=0.1, beam=True),
    )
}


def find_study(name: str, **overrides: Any) -> Study:
    """A default study with some parameters changed; UserError for an unknown name or parameter."""
    if name not in STUDIES:
        raise UserError(f"no simulated study is called {name!r}: choose from {', '.join(STUDIES)}")
    study = STUDIES[name]
    unknown = set(overrides) - {f.name for f in fields(Study)}
    if unknown:
        raise UserError(f"a simulated study has no parameter {sorted(unknown)[0]!r}: it has {', '.join(f.name for f in fields(Study))}")
    if "patients" in overrides and "held_out" not in overrides:
        share = study.held_out / study.patients
        overrides["held_out"] = min(overrides["patients"] - 1, round(share * overrides["patients"])) if share else 0
    return replace(study, **overrides)


def patient_names(study: Study) -> list[str]:
    """The patients, in order."""
    return [f"sim-{n + 1:03d}" for n in range(study.patients)]


def patient_ranks(study: Study) -> np.ndarray:
    """Each patient's place among all in illness, (patients,) in 0-1: evenly spread, in random order."""
    rng = np.random.default_rng([study.seed, 1])
    return (rng.permutation(study.patients) + rng.random(study.patients)) / study.patients


def held_out_patients(study: Study) -> list[str]:
    """Who is held out: evenly spread over illness, so that a few patients show every score."""
    if not study.held_out:
        return []
    order = np.argsort(patient_ranks(study))
    places = (np.arange(study.held_out) + 0.5) / study.held_out * study.patients
    names = patient_names(study)
    return sorted(names[order[int(place)]] for place in places)


def study_facts(study: Study) -> dict[str, Any]:
    """What stands in study.yaml: that all is simulated, and every parameter."""
    return {
        "simulated": "every picture, label and patient here is simulated",
        "key": study.key,
        "test_patients": held_out_patients(study),
        **json.loads(json.dumps(asdict(study))),
    }


def ensure_study(name: str, cache_dir: str | Path | None = None, workers: int | None = None, **overrides: Any) -> Path:
    """The folder of a default study in the cache, simulated there first if need be; two processes that ask at once share one simulation."""
    from lus_lightning.data.roots import cache_folder
    from lus_lightning.simulator.dataset import write_study

    study = find_study(name, **overrides)
    folder = cache_folder(cache_dir) / "simulated" / f"{study.name}-v{study.version}-{study.key}"
    write_study(study, folder, workers)
    return folder
