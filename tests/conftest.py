"""Fixtures every test file shares."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from lus_lightning.simulator.scanner import Settings
    from lus_lightning.simulator.scene import Scene

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _real(name: str) -> Path:
    root = Path(os.environ.get("LUS_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")) / name
    if not root.is_dir():
        pytest.skip(f"the real clips are not here: set LUS_REAL_DATA to the folder that holds {name}/")
    return root


@pytest.fixture(scope="session")
def covid_blues() -> Path:
    """The COVID-BLUES folder, or a skip."""
    return _real("covid-blues")


@pytest.fixture(scope="session")
def pocus() -> Path:
    """The POCUS folder, or a skip."""
    return _real("pocus")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tests keep their frame cache and simulated studies to themselves; the processes of one `make test` share them."""
    own = tmp_path_factory.getbasetemp()
    os.environ["LUS_CACHE"] = str((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "lus-cache")


@pytest.fixture(autouse=True)
def _own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told every half minute of a command, and each test is a command of its own: none tells of the time of those before."""
    monkeypatch.setattr("lus_lightning.console.Progress._told", time.monotonic())


@pytest.fixture(scope="session")
def tiny_study(_own_cache: None) -> Path:
    """A folder of simulated clips of eight patients, made in seconds."""
    from lus_lightning.simulator.studies import ensure_study

    return ensure_study("tiny")


@pytest.fixture(scope="session")
def tiny_signs(_own_cache: None) -> Path:
    """A folder of simulated clips of eight patients, most of one sign, some of several or none."""
    from lus_lightning.simulator.studies import ensure_study

    return ensure_study("tiny", mix="signs", protocol="12", frames=3, beam=False, masks=False)


@pytest.fixture(scope="session")
def tiny_clips(_own_cache: None) -> Path:
    """Simulated clips of different lengths of eight patients, in the San Matteo layout."""
    from lus_lightning.simulator.studies import ensure_study

    return ensure_study("tiny", layout="san-matteo", frames=6, length_spread=0.6, beam=False)


@pytest.fixture(scope="session")
def small_study(_own_cache: None) -> Path:
    """As `tiny_study`, with enough patients for test, validation and folds."""
    from lus_lightning.simulator.studies import ensure_study

    return ensure_study("tiny", patients=16)


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple["Scene", "Settings"]]:
    """A random scene and settings by seed; `illness` fixed or random."""
    from lus_lightning.simulator.patient import Burden, draw_patient
    from lus_lightning.simulator.scanner import SCANNERS, draw_settings
    from lus_lightning.simulator.scene import draw_scene

    def drawn(seed: int, illness: float | None = None, scanners: tuple[str, ...] = tuple(SCANNERS)) -> tuple["Scene", "Settings"]:
        rng = np.random.default_rng([7, seed])
        settings = draw_settings(rng, scanners, 10, 224)
        ill = float(rng.random()) if illness is None else illness
        patient = draw_patient(rng, "p", ill, 0.1)
        view = ("longitudinal", "transversal")[rng.integers(2)]
        return draw_scene(rng, patient, Burden(ill, 0.1, 0.5 * ill, 0.7), settings.geometry, view), settings

    return drawn
