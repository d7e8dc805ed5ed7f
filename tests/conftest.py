"""Fixtures every test file shares."""

import os
from pathlib import Path

import pytest

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
    """The tests keep their frame cache and simulated studies to themselves."""
    os.environ["LUS_CACHE"] = str(tmp_path_factory.mktemp("lus-cache"))


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
def small_study(_own_cache: None) -> Path:
    """As `tiny_study`, with enough patients for test, validation and folds."""
    from lus_lightning.simulator.studies import ensure_study

    return ensure_study("tiny", patients=16)
