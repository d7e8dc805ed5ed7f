"""A run folder of Raillard's frozen backbones with random but plausible predictions of all patients, out of fold."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from run_builder import member_rows, of_data, opinions

from lus_lightning.labels import ZONES

NETWORKS = ["legacy_xception", "resnet50", "vgg16"]
NASTY = "P00 <script>alert('x')</script> & \"co\""
GAPS = {"P01": {"L-anterior-lower", "R-posterior-upper"}}
"""Zones that were not examined."""


def write_raillard_run(folder: Path, seed=0, patients=9, protocol="12", networks=NETWORKS, frames=5, test=False, simulated=True) -> Path:
    """Write a run folder: two clips a zone, frame labels, patients in three folds; with `test` also two patients of another data root."""
    rng = np.random.default_rng(seed)
    names = [NASTY if i == 0 else f"P{i:02d}" for i in range(patients)]
    oof = _images(rng, names, protocol, frames).assign(split="oof")
    oof["fold"] = oof["patient"].map({name: i % 3 for i, name in enumerate(names)})
    tables = [oof]
    if test:
        tables.append(_images(rng, ["Q0", "Q1"], protocol, frames).assign(split="test", fold=-1))
    every = pd.concat(tables, ignore_index=True)
    every["row"] = pd.factorize(every["clip"])[0]
    parts = []
    for network, skill in zip(networks, (1.6, 2.2, 1.1), strict=False):
        rows = member_rows(every, network, opinions(rng, every, skill), every["split"])
        parts.append(rows.assign(protocol=protocol, standard="raillard"))
    folder.mkdir(parents=True, exist_ok=True)
    clips = every.drop_duplicates("clip").assign(unit="patient", split=lambda t: t["split"].replace("oof", "train"))
    clips[["clip", "patient", "unit", "split", "fold"]].to_csv(folder / "split.csv", index=False)
    data = {"name": "raillard-study", "fingerprint": "77aa", "simulated": simulated, "split_unit": "patient", "left_out": 0}
    of_data(pd.concat(parts, ignore_index=True), data).to_parquet(folder / "predictions.parquet", index=False)
    info = {"recipe": "raillard", "overlays": [], "changes": [], "data": data, "seed": seed, "networks": networks, "device": "cpu",
            "member_seconds": {network: 180.0 * (i + 1) for i, network in enumerate(networks)}, "seconds": 700.0}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def _images(rng, patients, protocol, frames):
    """One row per image: a label that wavers within the zone, around the patient's severity."""
    rows = []
    for patient in patients:
        level = rng.uniform(0, 3)
        for zone in ZONES[protocol]:
            if zone in GAPS.get(patient, ()):
                continue
            score = np.clip(level + rng.normal(0, 0.8), 0, 3)
            for clip in ("a", "b"):
                for frame in range(frames):
                    label = int(np.clip(round(score + rng.normal(0, 0.5)), 0, 3))
                    rows.append((patient, zone, f"{patient}-{zone}-{clip}", frame, label, label, level))
    return pd.DataFrame(rows, columns=["patient", "zone", "clip", "frame", "truth_score", "target", "level"])
