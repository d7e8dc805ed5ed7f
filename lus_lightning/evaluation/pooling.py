"""The runs of a cross-validation as one run folder, in which every patient is tested once, by the run that did not see him."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lus_lightning.data.identity import write_table, write_whole
from lus_lightning.data.tables import read_own
from lus_lightning.errors import UserError
from lus_lightning.labels import SCORES
from lus_lightning.runs import record, write_record


def pool_folds(folder: Path, runs: Sequence[Path]) -> None:
    """Write into `folder` what a report reads, from the finished and tested runs of the folds (`split.test_fold` 0, 1, ...).

    Tables get a column `fold`: of a clip, in which it was tested. `run.json` is the first run's, with the seconds and patients of all.

    Raises:
        UserError: the runs are of different data, or a patient is tested in two of them, or trained on where tested.
    """
    states = [record(run) for run in runs]
    if other := next((i for i, s in enumerate(states) if s["data"]["fingerprint"] != states[0]["data"]["fingerprint"]), None):
        raise UserError(
            f"{runs[other]} was trained on other data than {runs[0]}: files or labels have changed between the folds; start the same"
            " command again, which trains anew what is old"
        )
    splits = [read_own(run / "split.csv") for run in runs]
    tested = [set(split.loc[split["split"] == "test", "patient"]) for split in splits]
    for i, split in enumerate(splits):
        elsewhere = set(split.loc[split["split"] != "test", "patient"]).union(*tested[:i])
        if twice := sorted(tested[i] & elsewhere):
            raise UserError(f"patient {twice[0]} of {runs[i]} is also trained on there, or tested in an earlier fold: delete {folder}")
    parts = [split[split["split"] == "test"].assign(fold=i) for i, split in enumerate(splits)]
    write_table(folder / "split.csv", pd.concat(parts))
    predictions = [pd.read_parquet(run / "predictions.parquet").query("split == 'test'").assign(fold=i) for i, run in enumerate(runs)]
    write_table(folder / "predictions.parquet", pd.concat(predictions, ignore_index=True))
    for name in ("curves.csv", "lengths.csv"):
        if (runs[0] / name).is_file():
            tables = pd.concat([read_own(run / name).assign(fold=i) for i, run in enumerate(runs)])
            write_table(folder / name, tables if name == "curves.csv" else tables[tables["split"] == "test"])
    _pool_attention(folder, runs)
    for name in ("truth.parquet", "config.yaml"):
        if (runs[0] / name).is_file():
            write_whole(folder / name, [(runs[0] / name).read_bytes()])
    first = {key: value for key, value in states[0].items() if key not in ("best", "final", "asked", "tested")}
    first["changes"] = [change for change in first["changes"] if not change["key"].endswith("test_fold")]
    # A fold may lack a class that another tests; what none tests is in no figure.
    each = [state["data"].get("not_measured", []) for state in states]
    first["data"]["not_measured"] = [told for told in each[0] if all(told in others for others in each)]
    first["data"]["test_patients"] = sum(len(patients) for patients in tested)
    first["seconds"] = sum(state["seconds"] for state in states)
    if "best" in states[0]:
        first["best"] = [state["best"] | {"fold": i} for i, state in enumerate(states)]
    if (runs[0] / "lengths.csv").is_file():
        first["train_scores"] = [_train_scores(read_own(run / "lengths.csv")) for run in runs]
    write_record(folder, **first, folds=len(runs))


def _train_scores(clips: pd.DataFrame) -> list[int]:
    """Training clips of each score: what a fold's majority baseline is made of; validation clips are none of them."""
    return [int((clips.loc[clips["split"] == "train", "score"] == score).sum()) for score in SCORES]


def _pool_attention(folder: Path, runs: Sequence[Path]) -> None:
    """The table of all folds and the kept clips of the first; the table last, as pages show clips only where it stands."""
    (folder / "attention.parquet").unlink(missing_ok=True)
    shutil.rmtree(folder / "attention", ignore_errors=True)  # of an earlier pooling
    if (runs[0] / "attention.parquet").is_file():
        for kept in (runs[0] / "attention").glob("*.npz"):
            write_whole(folder / "attention" / kept.name, [kept.read_bytes()])
        attention = [pd.read_parquet(run / "attention.parquet").assign(fold=i) for i, run in enumerate(runs)]
        write_table(folder / "attention.parquet", pd.concat(attention))
