"""How long clips are, and where a clip network looked in those that it was tested on."""

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from lus_lightning.callbacks.predictions import gathered
from lus_lightning.data.datamodules import ClipDataModule
from lus_lightning.data.frames import spread
from lus_lightning.data.identity import write_arrays, write_table
from lus_lightning.runs import is_dry

SHOWN: Final = 8


class ClipRecord(pl.Callback):
    """Writes, of methods that take whole clips:

    - `lengths.csv`: `clip`, `patient`, `split`, `score`, `frames` of every labelled clip, and how many of them were `used`;
    - `attention.parquet`: a row per tested clip: the mean of its masks (`attention_mean`); the share of the masks that lies inside the
      sector (`in_sector`) and the sector's share of the picture (`sector_share`: what a mask alike everywhere would have); `in_b_lines` and
      `b_line_share` likewise, over the frames that truly show B-lines. NaN where the field of view, or the true masks, are not known;
    - `attention/<row>.npz` of some tested clips of every score: `frames` (T, H, W) uint8 as the network saw them, `attention` (T, h, w)
      float16 in [0, 1], `share` (T,) of each frame in what the clip becomes, where the pooling tells, `likely` (T,), the
      probability that the last layer gives the said score at each frame, `clip`, `target` and `pred`.
    """  # fmt: skip

    def __init__(self) -> None:
        self._table: list[pd.DataFrame] = []
        self._sectors: dict[int, np.ndarray] = {}
        self._wanted: set[int] = set()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the lengths."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, ClipDataModule) and trainer.is_global_zero and not is_dry(trainer):
            parts = [data.part(split) for split in ("train", "val", "test")]
            clips = pd.concat([part.assign(used=part["picks"].map(len)) for part in parts]).join(data.sources.clips["frames"], on="row")
            names = clips[["clip", "patient", "split", "target", "frames", "used"]].rename(columns={"target": "score"})
            write_table(Path(trainer.default_root_dir) / "lengths.csv", names)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Find the fields of view, and choose the clips that are kept whole."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._table.clear()
        if not isinstance(data, ClipDataModule):
            return
        if trainer.is_global_zero and not is_dry(trainer):
            folder = Path(trainer.default_root_dir)
            (folder / "attention.parquet").unlink(missing_ok=True)  # first: without it no page shows clips, which may be gone in part
            shutil.rmtree(folder / "attention", ignore_errors=True)  # of an earlier test, perhaps on other clips
        part = data.part("test")
        self._sectors = data.sectors(part["row"].to_numpy())
        self._wanted = set(spread(part, SHOWN)["row"])

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any,
                          batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        """Measure a batch's masks."""
        if outputs.reading is None:
            return
        data, reading = trainer.datamodule, outputs.reading  # type: ignore[attr-defined]
        said = outputs.classes(pl_module.headline)
        for i, (row, n) in enumerate(zip(batch["row"].tolist(), batch["length"].tolist(), strict=True)):
            attention, entry = reading.attention[i, :n].cpu(), {"row": row, "frames": n}
            entry |= {"attention_mean": float(attention.mean())}
            entry |= dict(zip(("in_sector", "sector_share"), inside(attention, self._sectors.get(row)), strict=True))
            entry |= dict(zip(("in_b_lines", "b_line_share"), inside(attention, data.true_masks(row, "b_line")), strict=True))
            self._table.append(pd.DataFrame([entry]))
            if row in self._wanted and not is_dry(trainer):
                share = {} if reading.frames is None else {"share": reading.frames[i, :n].cpu().numpy()}
                likely = reading.frame_logits[i, :n].float().softmax(1)[:, int(said[i])].cpu().numpy()
                write_arrays(
                    Path(trainer.default_root_dir) / "attention" / f"{row}.npz",
                    frames=batch["frames"][i, :n, 0].cpu().numpy(), attention=attention.half().numpy(), **share,
                    clip=data.sources.clips["clip"].iloc[row], target=int(outputs.target[i]), pred=int(said[i]), likely=likely,
                )  # fmt: skip

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the table."""
        if is_dry(trainer) or not isinstance(trainer.datamodule, ClipDataModule):  # type: ignore[attr-defined]
            return
        folder = Path(trainer.default_root_dir)
        if (table := gathered(trainer, self._table, folder, ["row"])) is not None:
            names = trainer.datamodule.sources.clips[["clip", "patient"]]  # type: ignore[attr-defined]
            write_table(folder / "attention.parquet", table.join(names, on="row").sort_values("row"))


def inside(attention: torch.Tensor, region: np.ndarray | None) -> tuple[float, float]:
    """Share of the attention inside a region, and the region's share of the picture, over the frames that show any of it.

    Args:
        attention: masks (T, h, w), each value that of its part of the picture.
        region: (T, H, W) or, of all frames, (H, W) bool; none if it is not known.

    Returns:
        Both in [0, 1]; NaN where the region is not known or nowhere.
    """
    if region is None or not region.any():
        return np.nan, np.nan
    covered = F.adaptive_avg_pool2d(
        torch.from_numpy(region).float().expand(len(attention), -1, -1), (attention.shape[1], attention.shape[2])
    )
    seen = covered.flatten(1).any(1)
    attention, covered = attention[seen], covered[seen]
    return float((attention * covered).sum() / attention.sum()), float(covered.mean())
