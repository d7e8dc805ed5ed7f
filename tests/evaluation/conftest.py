"""Simulated predictions tables, with frames of a patient that resemble each other."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

ZONES = ("L1", "L2", "L3", "R1", "R2", "R3")


def simulated_predictions(patients: int = 24, members: tuple[str, ...] = ("net",), frames: int = 4, seed: int = 0) -> pd.DataFrame:
    """One clip per zone and patient; a clip's frames share its target; each patient has a difficulty of his own."""
    g = np.random.default_rng(seed)
    clip = np.repeat(np.arange(patients * len(ZONES)), frames)
    patient, target = clip // len(ZONES), g.integers(0, 4, patients * len(ZONES))[clip]
    names = [f"p{p:03d}" for p in patient]
    where = {"row": clip, "frame": np.tile(np.arange(frames), len(clip) // frames), "clip": [f"c{c:04d}" for c in clip], "patient": names}
    where |= {"exam": names, "zone": np.array(ZONES)[clip % len(ZONES)], "protocol": "6", "split": "test", "fold": -1}
    tables = []
    for member in members:
        logits = 2 * np.eye(4)[target] + g.normal(size=(patients, 4))[patient] + g.normal(size=(len(clip), 4))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        probs = {f"p_{c}": p[:, c].astype(np.float32) for c in range(4)}
        labels = {"member": member, "target": target, "pred": p.argmax(axis=1), "sign": None, "standard": "soldati"}
        tables.append(pd.DataFrame(where | labels | probs))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture
def predictions() -> Callable[..., pd.DataFrame]:
    """The maker of simulated predictions tables."""
    return simulated_predictions


@pytest.fixture
def split_of() -> Callable[..., pd.DataFrame]:
    """The `split.csv` that fits a predictions table, with two more patients to train on."""

    def make(predictions: pd.DataFrame, unit: str = "patient") -> pd.DataFrame:
        clips = predictions[["clip", "patient"]].drop_duplicates().assign(split="test", fold=-1)
        more = pd.DataFrame({"clip": ["t0", "t1"], "patient": ["q0", "q1"], "split": "train", "fold": [0, 1]})
        return pd.concat([clips, more], ignore_index=True).assign(unit=unit)

    return make
