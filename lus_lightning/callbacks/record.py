"""What a run folder says of its run: configuration, split, clean truth of simulated clips, seconds."""

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import SaveConfigCallback

from lus_lightning import __version__
from lus_lightning.console import say
from lus_lightning.data.identity import whole_file, write_table
from lus_lightning.runs import flat, is_dry, record, write_record


class RunRecord(pl.Callback):
    """Writes `split.csv`, `truth.parquet` (simulated clips only) and `run.json` into the run folder.

    Args:
        entries: for `run.json`: recipe, changes, command, seed.
    """

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = entries
        self._before, self._started = 0.0, time.monotonic()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write what is known before training."""
        self._started = time.monotonic()
        if not trainer.is_global_zero or is_dry(trainer):
            return
        folder, data = Path(trainer.default_root_dir), trainer.datamodule  # type: ignore[attr-defined]
        told = _other_conditions(folder, trainer) if trainer.ckpt_path else []  # of a resumed training
        went_on = [*record(folder).get("went_on", []), *told] if trainer.ckpt_path else []
        card = data.sources.card() | {"split_unit": data.division.unit, "test_patients": int(data.part("test")["patient"].nunique()),
                                      "train_patients": int(data.part("train")["patient"].nunique()),
                                      "unlabelled": data.unlabelled, "refused": data.refused, "changed": data.told,
                                      "not_measured": data.not_measured,
                                      "split_seed": data.division.seed, "batch_seed": data.seed}  # fmt: skip
        write_record(folder, **self.entries, data=card, networks=pl_module.networks, task=pl_module.labels, went_on=went_on,
                     **_conditions(trainer), finished=False)  # fmt: skip
        write_table(folder / "split.csv", data.split)
        if (truth := data.sources.truth()) is not None:
            write_table(folder / "truth.parquet", truth)

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Say what is tested: other data than trained on, perhaps, or clips that another version refuses; `reproduce` tests again."""
        folder = Path(trainer.default_root_dir)
        if trainer.is_global_zero and not is_dry(trainer) and (card := record(folder).get("data")):
            data = trainer.datamodule  # type: ignore[attr-defined]
            trained = {key: value for key, value in card.items() if not key.startswith("test_")}
            here = {"test_patients": int(data.part("test")["patient"].nunique()), "refused": data.refused, "unlabelled": data.unlabelled,
                    "not_measured": data.not_measured}  # fmt: skip
            told = _other_conditions(folder, trainer)
            write_record(folder, data=trained | data.sources.card() | here | {"test_changed": data.told}, tested_under=told, tested=False)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Say how long it took and that it is whole."""
        if trainer.is_global_zero and not is_dry(trainer):
            final = {k: float(v) for k, v in trainer.callback_metrics.items()}
            folder, each = Path(trainer.default_root_dir), pl_module.member_seconds
            write_record(folder, seconds=self._seconds(), member_seconds=each, finished=True, final=final)

    def state_dict(self) -> dict[str, float]:
        """Part of each checkpoint, or a resumed run would count its last leg only."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on counting."""
        self._before = state_dict["seconds"]

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started


def _conditions(trainer: pl.Trainer) -> dict[str, Any]:
    """Versions, kind of device and number of processes, as `run.json` has them."""
    versions = {p: version(p) for p in ("torch", "pytorch-lightning", "timm")}
    versions |= {"lus-lightning": __version__, "python": platform.python_version()}  # ours also where it runs without being installed
    return {"versions": versions, "device": trainer.strategy.root_device.type, "processes": trainer.world_size}


def _other_conditions(folder: Path, trainer: pl.Trainer) -> list[str]:
    """What is not as in the run's training, which is said on the terminal too."""
    before, now = flat(record(folder)), flat(_conditions(trainer))
    other = {key: value for key, value in now.items() if before.get(key, value) != value}
    told = [f"{key.removeprefix('versions.')} was {before[key]} and is {value}" for key, value in other.items()]
    if told:
        say(f"other conditions than in this run's training: {', '.join(told)}")
    return told


class SaveConfig(SaveConfigCallback):
    """Keeps the merged configuration of the fit as `config.yaml` in the run folder."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Save on fit alone: test and predict read it."""
        if stage == "fit" and trainer.is_global_zero:
            with whole_file(Path(trainer.default_root_dir) / "config.yaml") as fresh:
                self.parser.save(self.config, fresh, skip_none=False, multifile=False)
