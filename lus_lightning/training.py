"""fit, validate, test and predict: Lightning's command line with our defaults, callbacks and refusals."""

import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
import yaml
from jsonargparse import Namespace
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lus_lightning.callbacks.checkpoint import LastCheckpoint, WholeCheckpointIO
from lus_lightning.callbacks.clips import ClipRecord
from lus_lightning.callbacks.console import shown
from lus_lightning.callbacks.curves import Curves
from lus_lightning.callbacks.masks import MaskRecord
from lus_lightning.callbacks.nonfinite import FindNonFinite
from lus_lightning.callbacks.pictures import LogPictures
from lus_lightning.callbacks.predictions import PredictionWriter
from lus_lightning.callbacks.record import RunRecord, SaveConfig
from lus_lightning.console import first_process, log_to, say, verbose
from lus_lightning.data.base import LungDataModule
from lus_lightning.data.division import Division
from lus_lightning.errors import UserError
from lus_lightning.methods.base import LungModule
from lus_lightning.nets.backbones import saved
from lus_lightning.options import choose_strategy, refuse_options
from lus_lightning.recipes import with_files
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
        sys.argv = [sys.argv[0], *with_files(words)]  # what Lightning starts again for each further process
        try:
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
        except ModuleNotFoundError as error:  # a callback looks for its package when it starts
            raise UserError(f"an option needs a package that is not here ({_first_line(error)}); install it, or leave it out") from None
        except MisconfigurationException as error:
            raise UserError(f"Lightning refuses these options: {_first_line(error)}") from None
        if isinstance(cli.trainer.logger, WandbLogger) and cli.trainer.is_global_zero:
            wandb.finish()  # or a second command in this process would write into the first one's run
        return cli

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Make the checkpoint callback's settings options: `--checkpoint.every_n_steps`."""
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")

    def before_fit(self) -> None:
        """An old run makes way, now that nothing is left to refuse; the logger gets the configuration."""
        config = self.config[self.subcommand]
        if not config.ckpt_path and not config.trainer.fast_dev_run and first_process():
            make_way(Path(config.trainer.default_root_dir))
        (Path(config.trainer.default_root_dir) / "logs").mkdir(parents=True, exist_ok=True)  # W&B makes no folder
        entries = self._entries()
        recipe = " with ".join([entries["recipe"], *entries["overlays"]])
        self._begin(f"{'going on with' if config.ckpt_path else 'training'} {recipe} in {config.trainer.default_root_dir}")
        if self.trainer.logger is not None:
            self.trainer.logger.log_hyperparams({"config": flat(self._dumped(config)), "changes": len(entries["changes"])})

    def before_test(self) -> None:
        """Say what is done."""
        config = self.config[self.subcommand]
        self._begin(f"{self.subcommand}: {config.ckpt_path or config.trainer.default_root_dir}")

    before_validate = before_predict = before_test

    def _begin(self, what: str) -> None:
        """Say what is done, and where the rest of what is said goes: into the run folder, now that no old run lies there."""
        folder = Path(self.trainer.default_root_dir) / "logs"
        say(what)
        if not self.config[self.subcommand].trainer.fast_dev_run:
            log_to(folder, str(self.subcommand))
            say(f"details: {folder / str(self.subcommand)}.log")
        if isinstance(self.trainer.logger, WandbLogger) and self.subcommand == "fit" and self.trainer.is_global_zero:
            offline = f"offline; to send the run: wandb sync {folder}/wandb/offline-run-*"
            say(f"W&B: {offline if os.environ.get('WANDB_MODE') == 'offline' else self.trainer.logger.experiment.url}")

    def before_instantiate_classes(self) -> None:
        """Give the logger its place in the run folder."""
        config = self.config[self.subcommand]
        folder = self._folder(config)
        if "WANDB_SWEEP_ID" in os.environ:  # started by a W&B agent: each trial has a folder of its own
            folder = folder / "trials" / os.environ["WANDB_RUN_ID"]
        config.trainer.default_root_dir = str(folder)
        if self.subcommand == "test" and not verbose():
            config.verbose = False  # the numbers to quote come from the report
        choose_strategy(config.trainer)
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            place_logger(logger, folder, str(self.subcommand))

    @staticmethod
    def _folder(config: Namespace) -> Path:
        """The run folder: the one that holds the checkpoint, wherever it lies now, unless the command line names one."""
        named = any(word.split("=")[0] == "--trainer.default_root_dir" for word in sys.argv)
        if config.get("ckpt_path") and not named and (there := Path(config.ckpt_path).resolve().parents[1] / "config.yaml").is_file():
            return there.parent
        return Path(config.trainer.default_root_dir or "runs/run")

    def after_instantiate_classes(self) -> None:
        """The checkpoint's division of the patients holds.

        Raises:
            UserError: the checkpoint does not tell it.
        """
        path = self.config[self.subcommand].get("ckpt_path")
        if not path or self.subcommand == "predict":
            return
        state = saved(path, mmap=True).get(type(self.datamodule).__qualname__)
        if not state:
            raise UserError(f"{path} does not say who was trained on (an earlier version made it): train again, or `predict` with it")
        self.datamodule.earlier = Division.of_state(state)

    def instantiate_classes(self) -> None:
        """Make model, data and trainer.

        Raises:
            UserError: a logger, a callback or a strategy needs a package that is not installed.
        """
        try:
            super().instantiate_classes()
        except (ImportError, ValueError) as error:  # jsonargparse wraps what a class's own __init__ raises
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, ImportError):
                cause = cause.__cause__ or cause.__context__
            if "cannot represent an object" in str(error):  # such as Timer's unit of time
                raise UserError("a callback has an option that config.yaml cannot hold: leave the callback out") from None
            if cause is None:
                raise
            raise UserError(f"an option needs a package that is not here ({_first_line(cause)}); install it, or leave it out") from None

    def _parse_ckpt_path(self) -> None:
        """Refuse a checkpoint whose hyper-parameters differ from the configuration: Lightning would silently take the checkpoint's."""
        config = self.config[self.config.subcommand]
        if not (path := config.get("ckpt_path")):
            return
        if not Path(path).is_file():
            raise UserError(f"there is no checkpoint {path}; a finished or interrupted run keeps checkpoints/last.ckpt in its folder")
        there = saved(path, mmap=True).get("hyper_parameters")
        if there is None:
            raise UserError(f"{path} is no checkpoint of a run (it holds no hyper-parameters); give runs/NAME/checkpoints/last.ckpt")
        given = config.model.init_args.as_dict()
        differ = [k for k in given if k in there and not k.startswith("_") and _plain(given[k]) != _plain(there[k])]
        if differ:
            told = "; ".join(f"{k} is {there[k]!r} there and {given[k]!r} here" for k in differ)
            raise UserError(
                f"the checkpoint {path} was trained with other hyper-parameters: {told};"
                f" use --config {Path(path).parents[1] / 'config.yaml'}, or train anew without --ckpt_path"
            )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer, with the callbacks that write the run folder.

        Raises:
            UserError: what `refuse_options` and the Trainer itself refuse.
        """
        asked = self.config_init[self.subcommand].trainer
        refuse_options(asked)
        entries = self._entries()
        defaults = [RunRecord(entries), FindNonFinite(), Curves(), PredictionWriter(), MaskRecord(), ClipRecord(), LogPictures()]
        defaults += shown(asked)
        self.trainer_defaults = self.trainer_defaults | {"callbacks": defaults}
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError) as error:
            raise UserError(f"Lightning refuses these options: {_first_line(error)}") from None
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # a plugin of the user or of the strategy stays
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
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
    """Send a logger's files to `logs/` of the run folder; a W&B logger without an account works offline."""
    if not logger or isinstance(logger, bool):
        return
    name, args = logger.class_path.rpartition(".")[2], logger.init_args
    args.save_dir = str(folder / "logs")
    if name == "CSVLogger":
        # One folder a command: the logger empties its folder before it writes.
        args.name, args.version = "", command
    if name == "WandbLogger":
        if command != "fit":  # an old run may still have to make way
            (folder / "logs").mkdir(parents=True, exist_ok=True)
        args.name = args.name or f"{folder.name}-{command}"
        if not wandb_account():
            os.environ["WANDB_MODE"] = "offline"
        wandb.setup()  # it reads WANDB_SILENT, which a run's first warnings do not wait for


def wandb_account() -> bool:
    """Whether W&B knows an account on this machine."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return False
    known = bool(wandb.login(prompt=False))
    wandb.teardown()  # what it set up would not see the mode that is chosen now
    return known


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
