"""The runs of a cross-validation as one run folder, in which every patient is tested once, by the run that did not see him."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lus_lightning.errors import UserError
from lus_lightning.runs import record, write_record

NAMES = {"clip": str, "patient": str}


def pool_folds(folder: Path, runs: Sequence[Path]) -> None:
    """Write into `folder` what a report reads, from the finished and tested runs of the folds (`split.test_fold` 0, 1, ...).

    Tables get a column `fold`: of a clip, in which it was tested. `run.json` is the first run's, with the seconds and patients of all.

    Raises:
        UserError: a patient is tested in two of the runs, or trained on where tested.
    """
    splits = [pd.read_csv(run / "split.csv", dtype=NAMES) for run in runs]
    tested = [set(split.loc[split["split"] == "test", "patient"]) for split in splits]
    for i, split in enumerate(splits):
        elsewhere = set(split.loc[split["split"] != "test", "patient"]).union(*tested[:i])
        if twice := sorted(tested[i] & elsewhere):
            raise UserError(f"patient {twice[0]} of {runs[i]} is also trained on there, or tested in an earlier fold: delete {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [split[split["split"] == "test"].assign(fold=i) for i, split in enumerate(splits)]
    pd.concat(parts).to_csv(folder / "split.csv", index=False)
    predictions = [pd.read_parquet(run / "predictions.parquet").query("split == 'test'").assign(fold=i) for i, run in enumerate(runs)]
    pd.concat(predictions, ignore_index=True).to_parquet(folder / "predictions.parquet", index=False)
    for name in ("curves.csv", "lengths.csv"):
        if (runs[0] / name).is_file():
            tables = pd.concat([pd.read_csv(run / name, dtype=NAMES).assign(fold=i) for i, run in enumerate(runs)])
            (tables if name == "curves.csv" else tables[tables["split"] == "test"]).to_csv(folder / name, index=False)
    if (runs[0] / "attention.parquet").is_file():
        attention = [pd.read_parquet(run / "attention.parquet").assign(fold=i) for i, run in enumerate(runs)]
        pd.concat(attention).to_parquet(folder / "attention.parquet", index=False)
        shutil.copytree(runs[0] / "attention", folder / "attention", dirs_exist_ok=True)
    for name in ("truth.parquet", "config.yaml"):
        if (runs[0] / name).is_file():
            shutil.copy(runs[0] / name, folder / name)
    states = [record(run) for run in runs]
    first = {key: value for key, value in states[0].items() if key not in ("best", "final", "asked", "tested")}
    first["changes"] = [change for change in first["changes"] if not change["key"].endswith("test_fold")]
    first["data"]["test_patients"] = sum(len(patients) for patients in tested)
    first["seconds"] = sum(state["seconds"] for state in states)
    if "best" in states[0]:
        first["best"] = [state["best"] | {"fold": i} for i, state in enumerate(states)]
    write_record(folder, **first, folds=len(runs))
