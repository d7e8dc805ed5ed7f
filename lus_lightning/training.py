"""fit, validate, test and predict: Lightning's command line with our defaults, callbacks and refusals."""

import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import wandb
import yaml
from jsonargparse import Namespace
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import WandbLogger

from lus_lightning.callbacks.checkpoint import LastCheckpoint, WholeCheckpointIO
from lus_lightning.callbacks.clips import ClipRecord
from lus_lightning.callbacks.curves import Curves
from lus_lightning.callbacks.masks import MaskRecord
from lus_lightning.callbacks.nonfinite import FindNonFinite
from lus_lightning.callbacks.pictures import LogPictures
from lus_lightning.callbacks.predictions import PredictionWriter
from lus_lightning.callbacks.record import RunRecord, SaveConfig
from lus_lightning.data.base import LungDataModule
from lus_lightning.errors import UserError
from lus_lightning.methods.base import LungModule
from lus_lightning.runs import changes, flat, make_way

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # our samplers know their rank; the Trainer's would break the balance of folds
    "reload_dataloaders_every_n_epochs": 1,  # each epoch asks the method what it trains on
    "num_sanity_val_steps": 0,  # the validation may be a stage of the method
    "max_epochs": 1,
}


class LungCLI(LightningCLI):
    """`python -m lus_lightning fit|validate|test|predict`; see house rules in the README, section "Design"."""

    @classmethod
    def main(cls, words: list[str]) -> "LungCLI":
        """Run the command of `words`, such as `["fit", "--config", "experiments/xing.yaml"]`."""
        sys.argv = [sys.argv[0], *words]  # what Lightning starts again for each further process
        cli = cls(
            LungModule,
            LungDataModule,
            save_config_callback=SaveConfig,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
        )
        if isinstance(cli.trainer.logger, WandbLogger) and cli.trainer.is_global_zero:
            wandb.finish()  # or a second command in this process would write into the first one's run
        return cli

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Make the checkpoint callback's settings options: `--checkpoint.every_n_steps`."""
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")

    def before_instantiate_classes(self) -> None:
        """Give the logger its place in the run folder, and an old run makes way."""
        config = self.config[self.subcommand]
        folder = Path(config.trainer.default_root_dir or "runs/run")
        if "WANDB_SWEEP_ID" in os.environ:  # started by a W&B agent: each trial has a folder of its own
            folder = folder / "trials" / os.environ["WANDB_RUN_ID"]
        config.trainer.default_root_dir = str(folder)
        if self.subcommand == "fit" and not config.ckpt_path and not config.trainer.fast_dev_run and _first_process():
            make_way(folder)
        place_logger(config.trainer.logger, folder, str(self.subcommand))

    def _parse_ckpt_path(self) -> None:
        """Refuse a checkpoint whose hyper-parameters differ from the configuration: Lightning would silently take the checkpoint's."""
        config = self.config[self.config.subcommand]
        if not (path := config.get("ckpt_path")):
            return
        if not Path(path).is_file():
            raise UserError(f"there is no checkpoint {path}; a finished or interrupted run keeps checkpoints/last.ckpt in its folder")
        saved = torch.load(path, weights_only=True, map_location="cpu", mmap=True)["hyper_parameters"]
        given = config.model.init_args.as_dict()
        differ = [k for k in given if k in saved and not k.startswith("_") and _plain(given[k]) != _plain(saved[k])]
        if differ:
            told = "; ".join(f"{k} is {saved[k]!r} there and {given[k]!r} here" for k in differ)
            raise UserError(
                f"the checkpoint {path} was trained with other hyper-parameters: {told};"
                f" use --config {Path(path).parents[1] / 'config.yaml'}, or train anew without --ckpt_path"
            )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer, with the callbacks that write the run folder."""
        entries = self._entries()
        defaults = [RunRecord(entries), FindNonFinite(), Curves(), PredictionWriter(), MaskRecord(), ClipRecord(), LogPictures()]
        self.trainer_defaults = self.trainer_defaults | {"callbacks": defaults}
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # a plugin of the user or of the strategy stays
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        if trainer.logger is not None and self.subcommand == "fit":
            trainer.logger.log_hyperparams({"config": flat(self._dumped(self.config[self.subcommand])), "changes": len(entries["changes"])})
        return trainer

    def _dumped(self, config: Namespace) -> dict[str, Any]:
        return yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False, skip_validation=True))

    def _entries(self) -> dict[str, Any]:
        """What `run.json` says of how the run was asked for; the first --config is the recipe, what differs from it a change."""
        files = [str(f) for f in self.config[self.subcommand].get("config") or []]
        entries: dict[str, Any] = {
            "command": "python -m lus_lightning " + " ".join(sys.argv[1:]),
            "seed": self.config[self.subcommand].seed_everything,
        }
        entries |= {"recipe": Path(files[0]).stem if files else "none", "overlays": [Path(f).stem for f in files[1:]], "changes": []}
        if files and self.subcommand == "fit":
            recipe = self._parser(self.subcommand).parse_args(["--config", files[0]], with_meta=False)
            entries["changes"] = changes(self._dumped(recipe), self._dumped(self.config[self.subcommand]))
        return entries


def place_logger(logger: Any, folder: Path, command: str) -> None:
    """Send a logger's files to `logs/` of the run folder; a W&B logger without an account works offline, and says how to send its run."""
    if not logger or isinstance(logger, bool):
        return
    name, args = logger.class_path.rpartition(".")[2], logger.init_args
    args.save_dir = str(folder / "logs")
    if name == "CSVLogger":
        # One folder a command: the logger empties its folder before it writes.
        args.name, args.version = "", command
    if name == "WandbLogger":
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        args.name = args.name or f"{folder.name}-{command}"
        if not wandb_account():
            os.environ["WANDB_MODE"] = "offline"
            if _first_process():
                print(f"no W&B account here: logging offline; to send it later: wandb sync {folder}/logs/wandb/offline-run-*")


def wandb_account() -> bool:
    """Whether W&B knows an account on this machine."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return False
    known = bool(wandb.login(prompt=False))
    wandb.teardown()  # what it set up would not see the mode that is chosen now
    return known


def _first_process() -> bool:
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
