"""The predictions table: the only source of numbers that are quoted."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from lus_lightning.data.datasets import SPLITS
from lus_lightning.data.identity import write_table
from lus_lightning.labels import SIGNS
from lus_lightning.methods.base import Step
from lus_lightning.runs import is_dry
from lus_lightning.scoring.levels import aggregate, probabilities

KEYS = ("row", "frame", "member", "sign", "split")


class PredictionWriter(pl.Callback):
    """Writes `predictions.parquet` into the run folder (of `predict`, in `predict/`: `predictions.parquet`,
    `clips.csv`, and in `left_out.csv` path and reason of what is not predicted).

    Long form, one row per (row, frame, member), of several signs per (row, frame, member, sign), de-duplicated over processes: the sampler
    of several processes repeats samples. A stage replaces its own part (`split`) of the table and leaves the others; `epoch` says which
    weights spoke, and validation rows of other weights than those that are tested are dropped. Where the best epoch is kept
    (`LastCheckpoint`), the validation rows are that epoch's. Stage 1's out-of-fold predictions, where a method makes them, become
    `selection.csv` too.
    """

    def __init__(self) -> None:
        self._parts: list[pd.DataFrame] = []
        self.holds_validation = False
        """Whether the validation rows of an epoch wait until somebody says that it is the best (`write_held`)."""
        self._held: pd.DataFrame | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start afresh."""
        self._parts.clear()

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
                                batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        """Keep a batch's predictions."""
        self._parts.append(step_table(outputs, batch))

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write what was kept."""
        if is_dry(trainer) or trainer.sanity_checking:
            return
        folder = Path(trainer.default_root_dir)
        table = gathered(trainer, self._parts, folder, KEYS)
        if table is None:
            return
        labels = pl_module.labels
        table = _named(table, trainer.datamodule, labels)  # type: ignore[attr-defined]
        table["epoch"] = trainer.current_epoch if trainer.state.fn == "fit" else pl_module.trained_epoch
        if trainer.predicting:
            write_table(folder / "predict" / "predictions.parquet", table)
            write_table(folder / "predict" / "clips.csv", clip_table(table, labels, pl_module.clip_rule))
            write_table(folder / "predict" / "left_out.csv", trainer.datamodule.left_out)  # type: ignore[attr-defined]
            return
        if trainer.state.fn == "fit" and self.holds_validation:
            self._held, table = table[table["split"] == "val"], table[table["split"] != "val"]
        self._write(folder, table, tested=trainer.testing)
        oof = table[table["split"] == "oof"]
        if hasattr(pl_module, "selection") and len(oof) and trainer.validating | trainer.training:
            write_table(folder / "selection.csv", selection_table(oof))

    def write_held(self, trainer: pl.Trainer) -> None:
        """Write the validation rows of the epoch that has just ended."""
        if self._held is not None:
            self._write(Path(trainer.default_root_dir), self._held)

    @staticmethod
    def _write(folder: Path, table: pd.DataFrame, tested: bool = False) -> None:
        """Put rows in the place of those of the same part."""
        if table.empty:
            return
        if (path := folder / "predictions.parquet").is_file():
            old = pd.read_parquet(path)
            other = ~old["split"].isin(table["split"])
            if tested:
                other &= (old["split"] != "val") | (old["epoch"] == table["epoch"].iloc[0])
            table = pd.concat([old[other], table], ignore_index=True)
        write_table(path, table)

    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end


def step_table(out: Step, batch: dict[str, torch.Tensor]) -> pd.DataFrame:
    """Long form of one batch: a row per (sample, member), of several signs per (sample, member, sign), with `p_0` ... and `pred`."""
    numbers = pd.DataFrame({k: batch[k].cpu().numpy() for k in ("row", "frame", "fold", "split")})
    target = batch["target"].cpu().numpy()
    parts = []
    for member, probs in out.probs.items():
        p, pred = probs.cpu().numpy(), out.classes(member).cpu().numpy()
        if target.ndim == 1:
            classes = {f"p_{c}": p[:, c] for c in range(p.shape[1])}
            parts.append(numbers.assign(member=member, sign=None, target=target, **classes, pred=pred))
            continue
        for i in np.flatnonzero(~np.isnan(p).all(axis=0)):  # a sign that the member does not know has no row
            columns = {"target": target[:, i], "p_0": 1 - p[:, i], "p_1": p[:, i], "pred": pred[:, i]}
            parts.append(numbers.assign(member=member, sign=SIGNS[i], **columns))
    return pd.concat(parts, ignore_index=True)


def gathered(trainer: pl.Trainer, parts: Sequence[pd.DataFrame], folder: Path, keys: Sequence[str]) -> pd.DataFrame | None:
    """One table of the parts of all processes, a row for each value of `keys`, on the first process; none on the others, or if empty."""
    table = pd.concat(parts, ignore_index=True) if parts else None
    if trainer.world_size > 1:
        shared = folder / "predictions.parts"
        parts_of = [shared / f"{rank}.parquet" for rank in range(trainer.world_size)]
        parts_of[trainer.global_rank].unlink(missing_ok=True)  # of a pass that was killed
        if table is not None:
            write_table(parts_of[trainer.global_rank], table)
        trainer.strategy.barrier("predictions")
        if not trainer.is_global_zero:
            trainer.strategy.barrier("predictions read")
            return None
        found = [pd.read_parquet(part) for part in parts_of if part.is_file()]
        shutil.rmtree(shared, ignore_errors=True)
        trainer.strategy.barrier("predictions read")
        table = pd.concat(found, ignore_index=True) if found else None
    return None if table is None else table.drop_duplicates(list(keys), ignore_index=True)


def _named(table: pd.DataFrame, data: Any, labels: str) -> pd.DataFrame:
    """Add names, (of scores) standard, and which data the clip is of, by `row`: each pass says so itself, for its own rows."""
    columns = ["clip", "patient", "exam", "zone", "protocol", "standard", "orientation", "data", "fingerprint", "simulated"]
    names = data.sources.clips.reindex(columns=columns)
    table = table.assign(split=np.array(SPLITS)[table["split"]])
    table = table.join(names if labels == "score" else names.assign(standard=None), on="row")
    return table.sort_values(["split", "row", "frame", "member"], ignore_index=True)


def selection_table(oof: pd.DataFrame) -> pd.DataFrame:
    """Stage 1's verdict on each training image: the out-of-fold probability of its own label, and whether it is kept."""
    own = probabilities(oof)[np.arange(len(oof)), oof["target"]]
    columns = ["row", "frame", "clip", "patient", "zone", "fold", "target"]
    return oof[columns].assign(p_own=own, pred=oof["pred"].to_numpy(), kept=(oof["pred"] == oof["target"]).to_numpy())


def clip_table(table: pd.DataFrame, labels: str = "score", rule: str = "mean") -> pd.DataFrame:
    """One row per clip: what each member says of it by a rule (`levels.aggregate`), and its confidence, the mean probability of that.

    `score_<member>`, or `sign_<member>` (a name), or of several signs `shows_<sign>_<member>` (1 or 0); each with its `confidence_...`.
    """
    clips = aggregate(table, "clip", rule, ordered=labels != "sign")
    p = probabilities(clips)[np.arange(len(clips)), clips["pred"].clip(0)]
    confidence = np.where(clips["pred"] >= 0, p, np.nan)
    said = clips["pred"].map(dict(enumerate(SIGNS))) if labels == "sign" else clips["pred"]
    word, each = ("shows", ["sign", "member"]) if labels == "signs" else (labels, ["member"])
    wide = clips.assign(**{word: said, "confidence": confidence}).pivot(
        index=["clip", "n_frames"], columns=each, values=[word, "confidence"]
    )
    return wide.set_axis(["_".join(column) for column in wide.columns], axis=1).reset_index().convert_dtypes()
