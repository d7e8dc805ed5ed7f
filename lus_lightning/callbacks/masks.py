"""What a method's masks say of the test clips: overlaps, measures, and the frames that the report shows."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl

from lus_lightning.callbacks.predictions import gathered
from lus_lightning.data.frames import FrameChoice
from lus_lightning.data.identity import write_arrays, write_table
from lus_lightning.evaluation.segmentation import clip_counts
from lus_lightning.runs import is_dry


class MaskRecord(pl.Callback):
    """Writes of the test clips, in beam space:

    - `segmentation.parquet`: what `evaluation.segmentation` counts, where there are true masks;
    - `measures.parquet`: one row per frame, what its predicted masks measure, and as `true_<measure>` what the true ones do;
    - `strips/<row>.npz`: some frames of each clip with their masks: `frame` (K,), `image`, `mask` and `true` (K, scan lines, samples),
      and the scan lines counted in the masks: `visible`, `affected`, `true_visible`, `true_affected` (K, scan lines) bool.

    Args:
        shown: frames of each clip that are kept, evenly spread.
    """  # fmt: skip

    def __init__(self, shown: int = 5) -> None:
        self.shown = shown
        self._counts: list[pd.DataFrame] = []
        self._measures: list[pd.DataFrame] = []
        self._strips: dict[int, dict[int, tuple[np.ndarray, ...]]] = {}
        self._wanted: dict[int, set[int]] = {}

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Choose the frames that are kept."""
        if not pl_module.mask_classes:
            return
        if trainer.is_global_zero and not is_dry(trainer):
            folder = Path(trainer.default_root_dir)
            for name in ("measures", "segmentation"):  # first: without them no page shows strips, which may be gone in part
                (folder / f"{name}.parquet").unlink(missing_ok=True)
            shutil.rmtree(folder / "strips", ignore_errors=True)  # of an earlier test, perhaps on other clips
        self._counts.clear()
        self._measures.clear()
        self._strips.clear()
        part, pick = trainer.datamodule.part("test"), FrameChoice(self.shown)  # type: ignore[attr-defined]
        # Of a clip with masks the frames that have one are shown: a strip's frames are all alike in that.
        masked = part[trainer.datamodule.places(part) >= 0]  # type: ignore[attr-defined]
        part = pd.concat([masked, part[~part["row"].isin(masked["row"])]])
        self._wanted = {row: set(frames.to_numpy()[pick.pick(np.arange(len(frames)))]) for row, frames in part.groupby("row")["frame"]}

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any,
                          batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        """Count and measure a batch's masks."""
        if outputs.masks is None:
            return
        data, rows, frames = trainer.datamodule, batch["row"].cpu().numpy(), batch["frame"].cpu().numpy()  # type: ignore[attr-defined]
        table = pd.DataFrame({"row": rows, "frame": frames} | outputs.measures)
        true = {i: mask for i in range(len(rows)) if (mask := data.true_beam_mask(rows[i], frames[i])) is not None}
        if true:
            geometries = [data.geometries[rows[i]] for i in true]
            measured = asdict(pl_module.measure(np.stack(list(true.values())), geometries))
            table = table.join(pd.DataFrame(measured, index=list(true)).add_prefix("true_"))
            # Frame by frame, so that what the sampler of several processes repeats can be told and dropped.
            for i, geometry in zip(true, geometries, strict=True):
                clip, sample_mm = data.sources.clips.iloc[rows[i]], geometry.sample_mm if geometry.scaled else None
                both = outputs.masks[i : i + 1], true[i][None]
                counts = clip_counts(*both, clip["clip"], clip["patient"], sample_mm, pl_module.mask_classes)
                self._counts.append(counts.assign(row=rows[i], frame=frames[i]))
        self._measures.append(table)
        pictures = data.in_beam((batch["image"][:, 0] * 255).round().byte().cpu().numpy(), rows, nearest=False)
        for i, (row, frame) in enumerate(zip(rows, frames, strict=True)):
            if frame in self._wanted.get(row, ()):
                self._strips.setdefault(row, {})[frame] = (pictures[i], outputs.masks[i], *([true[i]] if i in true else []))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write them."""
        if is_dry(trainer) or not pl_module.mask_classes:
            return
        folder = Path(trainer.default_root_dir)
        for row, kept in self._strips.items():
            arrays = zip(*(kept[frame] for frame in sorted(kept)), strict=True)
            named = dict(zip(("image", "mask", "true"), (np.stack(a) for a in arrays), strict=False))
            geometry = trainer.datamodule.geometries[row]  # type: ignore[attr-defined]
            for masks, prefix in (("mask", ""), ("true", "true_")):
                if masks in named:
                    lines = pl_module.counted_lines(named[masks], geometry)
                    named |= dict(zip((f"{prefix}visible", f"{prefix}affected"), lines, strict=True))
            write_arrays(folder / "strips" / f"{row}.npz", frame=np.array(sorted(kept)), **named)
        names = trainer.datamodule.sources.clips.reindex(columns=["clip", "patient", "orientation"])  # type: ignore[attr-defined]
        for name, parts in (("measures", self._measures), ("segmentation", self._counts)):
            table = gathered(trainer, parts, folder, ("row", "frame", *(["class"] if name == "segmentation" else [])))
            if table is not None:
                table = table if name == "segmentation" else table.join(names, on="row")
                write_table(folder / f"{name}.parquet", table.sort_values(["row", "frame"]))
