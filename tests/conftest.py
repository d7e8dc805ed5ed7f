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


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test session keeps its frame cache to itself."""
    monkeypatch.setenv("LUS_CACHE", str(tmp_path_factory.getbasetemp() / "lus-cache"))
