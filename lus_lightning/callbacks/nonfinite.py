"""The first value that is no number: where it arose, in which batch, of which clips; the run stops before a checkpoint holds it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lus_lightning.callbacks.checkpoint import save_whole
from lus_lightning.data.identity import write_whole
from lus_lightning.errors import UserError
from lus_lightning.nets.tracing import Finding, bad_weight, finite, trace
from lus_lightning.runs import is_dry


class FindNonFinite(pl.Callback):
    """Stops a training at its first NaN or infinity, and says which input, weight, module or gradient it was.

    A plain step costs one look at the loss and at the norm of the gradients. Only where one of them is not finite the batch is run again,
    with the same random numbers and a hook on every module. Into the run folder go `nonfinite.json` and the batch as `nonfinite.pt` (of
    several processes, `nonfinite.<rank>.json` and `.pt` of each). A checkpoint is refused while a weight is not finite, so the last sound
    one stays. With 16 bits and a loss scale, infinite gradients are the scaler's business until its scale has come down to 1.
    """

    def __init__(self) -> None:
        self._batch: dict[str, Tensor] = {}
        self._rows_before = torch.zeros(0, dtype=torch.int64)
        self._number = 0
        self._loss = torch.tensor(0.0)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the batch, and which clips the one before held."""
        self._rows_before = self._batch.get("row", self._rows_before)
        self._batch, self._number = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Remember the loss."""
        self._loss = loss.detach()

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the loss and the gradients; all processes stop, or none."""
        sound = self._is_sound(trainer, pl_module)
        if not trainer.strategy.reduce_boolean_decision(sound):
            self._stop(trainer, pl_module, self._search(trainer, pl_module))

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that are not finite: a step along a finite gradient may have made them so."""
        if (found := bad_weight(pl_module)) is not None:
            self._stop(trainer, pl_module, found)

    def _is_sound(self, trainer: pl.Trainer, pl_module: nn.Module) -> bool:
        grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(grads).to(self._loss.device)
        if bool(self._loss.isfinite() & norm.isfinite()):  # one question, so that a GPU waits once
            return True
        # The squares of sound gradients may add up to infinity, and those of scaled ones may be infinite.
        return bool(self._loss.isfinite()) and (_scale(trainer) > 1 or finite(grads))

    def _search(self, trainer: pl.Trainer, pl_module: Any) -> Finding:
        """What was not finite first: an input, a weight, what a module made, or a gradient."""
        for name, value in self._batch.items():
            if not finite(value):
                return Finding("input", "", name)
        if (found := bad_weight(pl_module)) is not None:
            return found

        def loss() -> Tensor:
            with trainer.precision_plugin.train_step_context():
                return torch.stack(list(pl_module.step(self._batch).losses.values())).sum()

        pl_module.on_train_batch_start(self._batch, self._number)  # it sets the seeds of the step
        bad = [name for name, p in pl_module.named_parameters() if p.grad is not None and not finite(p.grad)]
        return trace(pl_module, loss, _scale(trainer)) or Finding("gradient", "", ", ".join(bad[:5]), seen_again=False)

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule, found: Finding) -> None:
        """Write what was found and end the run.

        Raises:
            UserError: always.
        """
        folder = Path(trainer.default_root_dir)
        name = f"nonfinite.{trainer.global_rank}" if trainer.world_size > 1 else "nonfinite"
        rows = self._batch.get("row", self._rows_before[:0])
        spoiled = [not finite(value) for value in self._batch[found.what]] if found.kind == "input" else [False] * len(rows)
        clips, bad_clips = _clips(trainer, rows), _clips(trainer, rows[torch.tensor(spoiled, dtype=torch.bool)])
        kind = type(pl_module.get_submodule(found.module)).__name__
        if not is_dry(trainer):
            entries = asdict(found) | {
                "class": kind, "loss": str(float(self._loss) / _scale(trainer)),
                "epoch": trainer.current_epoch, "batch": self._number, "iteration": trainer.global_step,
                "clips": clips, "bad_clips": bad_clips, "clips_before": _clips(trainer, self._rows_before),
                "precision": str(trainer.precision), "device": str(pl_module.device),
            }  # fmt: skip
            write_whole(folder / f"{name}.json", [json.dumps(entries, indent=2).encode()])
            save_whole(folder / f"{name}.pt", {key: value.cpu() for key, value in self._batch.items()})
        raise UserError(
            f"{_sentence(found, kind)} in batch {self._number} of epoch {trainer.current_epoch} (clips {', '.join(bad_clips or clips)});"
            f" {folder / name}.json says more, {name}.pt is the batch, and no checkpoint holds it; {_remedy(found)}"
        )


def _sentence(found: Finding, kind: str) -> str:
    where = f"{found.module} ({kind})" if found.module else kind
    if not found.seen_again:
        return f"the gradient of {found.what or 'another process'} was not finite, but was finite when run again,"
    return {
        "input": f"the input `{found.what}` is not finite",
        "weight": f"the weight {found.what} ({kind}) is not finite",
        "activation": f"the {found.what} is not finite, first in {where},",
        "gradient": f"the {found.what} is not finite, first in the backward pass of {where},",
    }[found.kind]


def _remedy(found: Finding) -> str:
    if found.kind == "input":
        return "look at these clips: `index` says what each file is"
    return "train anew with a lower --model.init_args.lr, or with --trainer.gradient_clip_val=1"


def _scale(trainer: pl.Trainer) -> float:
    """By which the loss is multiplied before the backward pass; 1 without a gradient scaler."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


def _clips(trainer: Any, rows: Tensor) -> list[str]:
    return list(trainer.datamodule.sources.clips["clip"].iloc[rows.cpu().numpy()])
