"""Which of Lightning's own options cannot work here, and what to take instead."""

from typing import Any, Final

import torch
from jsonargparse import Namespace

from lus_lightning.data.parallel import cpu_count
from lus_lightning.errors import UserError

SEVERAL: Final = "ddp_find_unused_parameters_true"
"""The strategy of several processes: in each stage of a method some networks may idle."""
_UNKNOWN: Final = (
    "sets a value that config.yaml does not know, so that nobody could train the same again: leave it out, and search with a sweep"
    " (experiments/sweeps) or set the value by hand"
)
_CALLBACKS: Final = {
    "LearningRateFinder": _UNKNOWN,
    "BatchSizeFinder": _UNKNOWN,
    "BackboneFinetuning": "unfreezes a part called `backbone` of the model, which no method here has: leave it out",
    "ModelPruning": "renames the weights, so that their checkpoint fits no network: leave it out",
}
_PRECISIONS: Final = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


def choose_strategy(trainer: Namespace) -> None:
    """Several processes need a strategy that lets networks idle: taken where none is named."""
    if trainer.strategy == "auto" and _processes(trainer) > 1:
        trainer.strategy = SEVERAL


def refuse_options(trainer: Namespace) -> None:
    """Refuse what would leave a run that cannot be tested, or whose config.yaml does not say what was trained.

    Args:
        trainer: the Trainer's options, callbacks and loggers made.

    Raises:
        UserError: there is such an option.
    """
    if trainer.enable_checkpointing is False or trainer.barebones:
        name = "barebones" if trainer.barebones else "enable_checkpointing"
        raise UserError(f"without a checkpoint a run cannot be tested or resumed: leave trainer.{name} out")
    if str(trainer.precision) in _PRECISIONS:
        raise UserError(f"pictures and losses are float32, so trainer.precision cannot be {trainer.precision}: take bf16-mixed or 16-mixed")
    if trainer.accelerator in ("cpu", "auto") and not torch.accelerator.is_available() and _processes(trainer) > 2 * max(2, cpu_count()):
        raise UserError(f"{_processes(trainer)} processes are too many for {cpu_count()} processors: lower trainer.devices")
    for callback in trainer.callbacks or []:
        if why := _CALLBACKS.get(type(callback).__name__):
            raise UserError(f"{type(callback).__name__} {why}")


def _processes(trainer: Any) -> int:
    """How many processes train on this machine."""
    devices = trainer.devices
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([d for d in devices.split(",") if d])
    if str(devices) in ("auto", "-1"):
        return torch.cuda.device_count() if trainer.accelerator not in ("cpu", "mps") else 1
    return int(devices) if str(devices).isdigit() else 1
