"""A run folder, read back for its report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lus_lightning.data.tables import read_own
from lus_lightning.errors import UserError
from lus_lightning.evaluation.evaluate import QUOTED


@dataclass(frozen=True)
class Run:
    """What a run left: `info` is its `run.json`, the tables as data.md describes them; `truth` exists for simulated clips alone."""

    folder: Path
    info: dict[str, Any]
    predictions: pd.DataFrame
    split: pd.DataFrame
    selection: pd.DataFrame | None
    truth: pd.DataFrame | None

    @property
    def networks(self) -> list[str]:
        """The members that stand for the paper's networks, in the paper's order."""
        return list(self.info.get("networks", []))

    @property
    def data_name(self) -> str:
        """Name of the data that the quoted rows are of."""
        return str(self.provenance["data"])

    @property
    def simulated(self) -> bool:
        """Whether the quoted rows are of simulated clips."""
        return bool(self.provenance["simulated"])

    @property
    def provenance(self) -> dict[str, Any]:
        """What every table of the quoted rows says of where its numbers come from."""
        return self.provenance_of(next(split for split in QUOTED if split in set(self.predictions["split"])))

    def provenance_of(self, split: str) -> dict[str, Any]:
        """The same of another part of the predictions: as its rows say, for it may be of other data, and of another day."""
        rows = self.predictions[self.predictions["split"] == split]
        here = {name: " and ".join(map(str, rows[name].unique())) for name in ("data", "fingerprint")}
        training = {"trained_on": self.info["data"]["name"]} if here["data"] != self.info["data"]["name"] else {}
        data, seed = self.info["data"], self.info["seed"]
        seeds = {"split": data.get("split_seed", seed), "batches": data.get("batch_seed", seed)}
        others = [f"{what} {value}" for what, value in seeds.items() if value != seed]
        seeds_told = f"{seed} ({', '.join(others)})" if others else seed
        units = " and ".join(self.split["unit"].unique())
        left_out = {"not_measured": " ".join(told)} if (told := data.get("not_measured")) else {}
        return {**here, **training, "simulated": bool(rows["simulated"].any()), "split_unit": units, "seed": seeds_told, **left_out}

    def of(self, member: str, split: str = "test") -> pd.DataFrame:
        """Rows of one member that have a label."""
        rows = self.predictions
        return rows[(rows["member"] == member) & (rows["split"] == split) & (rows["target"] >= 0)]


def load_run(folder: str | Path) -> Run:
    """Read `run.json`, `predictions.parquet`, `split.csv` and, where they are, `selection.csv` and `truth.parquet`.

    Raises:
        UserError: the folder or one of the first three is missing, or one of them cannot be read or lacks an entry.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no run folder {folder}: give the folder of a run, such as runs/xing")
    for name, maker in (("run.json", "fit"), ("split.csv", "fit"), ("predictions.parquet", "test")):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: run `{maker}` first")
    try:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / 'run.json'} is damaged ({error}): run `fit` again") from None
    absent = [key for key in ("recipe", "changes", "data", "seed") if key not in info]
    absent += [f"data.{key}" for key in ("name", "simulated", "split_unit") if key not in info.get("data", {})]
    if absent:
        raise UserError(f"{folder / 'run.json'} does not say {', '.join(absent)}: run `fit` again")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    if absent := [column for column in ("data", "fingerprint", "simulated") if column not in predictions]:
        raise UserError(f"{folder / 'predictions.parquet'} does not say which data it is of (no {', '.join(absent)}): run `test` again")
    return Run(
        folder=folder,
        info=info,
        predictions=predictions,
        split=read_own(folder / "split.csv"),
        selection=read_own(path) if (path := folder / "selection.csv").is_file() else None,
        truth=pd.read_parquet(path) if (path := folder / "truth.parquet").is_file() else None,
    )
