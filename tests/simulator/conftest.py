"""A tiny simulated study, and machines without faults."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lus_lightning.simulator.dataset import write_study
from lus_lightning.simulator.scanner import Settings
from lus_lightning.simulator.studies import find_study


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study "tiny", simulated once."""
    out = tmp_path_factory.mktemp("simulated") / "tiny"
    write_study(find_study("tiny"), out, workers=1)
    return out


@pytest.fixture(scope="session")
def clean() -> Callable[[Settings], Settings]:
    """The same machine without the faults that hide a scene: noise and uneven gain."""

    def cleaned(settings: Settings) -> Settings:
        flat = replace(settings, noise_db=-90, gain_db=-12, tgc_db=(0.0,) * 6, auto_tgc=0.0)
        return replace(flat, smoothing=0.0, grain_db=0.0, dynamic_range_db=70, gamma=1, text="")

    return cleaned
