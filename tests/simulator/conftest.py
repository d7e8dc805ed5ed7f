"""Simulated scenes and a tiny simulated study."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lus_lightning.simulator.dataset import write_study
from lus_lightning.simulator.patient import Burden, draw_patient
from lus_lightning.simulator.scanner import SCANNERS, Settings, draw_settings
from lus_lightning.simulator.scene import Scene, draw_scene
from lus_lightning.simulator.studies import find_study

Draw = Callable[..., tuple[Scene, Settings]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study "tiny", simulated once."""
    out = tmp_path_factory.mktemp("simulated") / "tiny"
    write_study(find_study("tiny"), out, workers=1)
    return out


@pytest.fixture(scope="session")
def draw() -> Draw:
    """A random scene and settings by seed; `illness` fixed or random."""

    def drawn(seed: int, illness: float | None = None, scanners: tuple[str, ...] = tuple(SCANNERS)) -> tuple[Scene, Settings]:
        rng = np.random.default_rng([7, seed])
        settings = draw_settings(rng, scanners, 10, 224)
        ill = float(rng.random()) if illness is None else illness
        patient = draw_patient(rng, "p", ill, 0.1)
        view = ("longitudinal", "transversal")[rng.integers(2)]
        return draw_scene(rng, patient, Burden(ill, 0.1, 0.5 * ill, 0.7), settings.geometry, view), settings

    return drawn


@pytest.fixture(scope="session")
def clean() -> Callable[[Settings], Settings]:
    """The same machine without the faults that hide a scene: noise and uneven gain."""

    def cleaned(settings: Settings) -> Settings:
        flat = replace(settings, noise_db=-90, gain_db=-12, tgc_db=(0.0,) * 6, auto_tgc=0.0)
        return replace(flat, smoothing=0.0, grain_db=0.0, dynamic_range_db=70, gamma=1, text="")

    return cleaned
