"""What a training or a test tells its user: on what data, how far it is, where its results are."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelSummary, ProgressBar

from lus_lightning.console import Progress, say, span, verbose
from lus_lightning.data.index import left_out_lines
from lus_lightning.runs import is_dry


class Told(pl.Callback):
    """Says on what data a stage works and what was left out, and at its end how long it took and where its results are."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Data of the training."""
        self._start(trainer, "train", "test")

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Data of the test."""
        self._start(trainer, "test")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Where the checkpoints are."""
        self._end(trainer, "trained", "checkpoints")

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Where the predictions are."""
        self._end(trainer, "tested", "predictions.parquet")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """What was left out, as `index` says it, and where the scores are."""
        left_out = trainer.datamodule.left_out  # type: ignore[attr-defined]
        for line in left_out_lines(left_out):
            say(line)
        self._end(trainer, "predicted", "predict/clips.csv", f"; {len(left_out)} left out: predict/left_out.csv")

    def _start(self, trainer: pl.Trainer, *splits: str) -> None:
        self._started = time.monotonic()
        data = trainer.datamodule  # type: ignore[attr-defined]
        names = " and ".join(
            f"{name} ({'simulated' if simulated else 'real'})"
            for name, simulated in zip(data.sources.names, data.sources.simulated, strict=True)
        )
        people = ", ".join(f"{data.part(split)['patient'].nunique()} patients to {split}" for split in splits)
        say(f"data: {names}; {people}")
        files = sum(len(index.left_out) for index in data.sources.indices)
        counts = {"file(s) that cannot be used (`index` lists them)": files, "clip(s) without a field of view": len(data.refused)}
        counts |= {f"clip(s) without a label, {reason}": count for reason, count in data.unlabelled.items()}
        if left_out := [f"{count} {what}" for what, count in counts.items() if count]:
            say(f"left out: {'; '.join(left_out)}")

    def _end(self, trainer: pl.Trainer, done: str, result: str, more: str = "") -> None:
        if not is_dry(trainer):
            say(f"{done} in {span(time.monotonic() - self._started)}: {Path(trainer.default_root_dir) / result}{more}")


class Bar(ProgressBar):
    """Lightning's hooks around `Progress`."""

    def __init__(self) -> None:
        super().__init__()
        self._on = True
        self._progress: Progress | None = None

    def disable(self) -> None:
        """Show nothing."""
        self._on = False

    def enable(self) -> None:
        """Show again."""
        self._on = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Epoch, batches, loss."""
        epochs = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        label = f"training, epoch {trainer.current_epoch + 1}{epochs}"
        self._show(label, self.total_train_batches, batch_idx + 1, lambda: ", ".join(_metrics(trainer)))

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Batches of all loaders."""
        self._more("validating", trainer.num_val_batches)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Batches of all loaders."""
        self._more("testing", trainer.num_test_batches)

    def on_predict_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Batches of all loaders."""
        self._more("predicting", trainer.num_predict_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Nothing is shown between epochs."""
        self._close()

    on_validation_end = on_test_end = on_predict_end = on_train_epoch_end

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give the terminal back before the error is told."""
        self._close()

    def _more(self, label: str, batches: list[int | float]) -> None:
        self._show(label, sum(batches), self._progress.done + 1 if self._progress and self._progress.label == label else 1)

    def _show(self, label: str, total: float, done: int, note: Callable[[], str] = str) -> None:
        if not self._on:
            return
        if self._progress is None or self._progress.label != label:
            self._close()
            self._progress = Progress(label, total, done).__enter__()
        self._progress.advance(done - self._progress.done, note)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.__exit__()
            self._progress = None


def _metrics(trainer: pl.Trainer) -> list[str]:
    return [f"{name.removeprefix('train/')} {float(value):.3g}" for name, value in trainer.progress_bar_metrics.items()]


def shown(asked: Any) -> list[pl.Callback]:
    """What a trainer of these settings tells; the user's own bar and summary come before ours, and both may be switched off."""

    def wanted(option: str, kind: type[pl.Callback]) -> bool:
        return asked[option] is not False and not asked.barebones and not any(isinstance(c, kind) for c in asked.callbacks or [])

    found: list[pl.Callback] = [Told()]
    if wanted("enable_progress_bar", ProgressBar):
        found.append(Bar())
    if wanted("enable_model_summary", ModelSummary) and not verbose():
        found.append(ModelSummary())  # logged; the one that the trainer takes by itself is printed
    return found
