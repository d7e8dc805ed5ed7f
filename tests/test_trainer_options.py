"""Lightning's own options, each alone, on the cheapest recipe: it trains to the end, or one sentence says why not and what to do."""

import json
import shlex

import pytest
from command_lines import EXPERIMENTS, words

from lus_lightning.cli import main

pytestmark = pytest.mark.shipped  # three minutes


def callback(name, **arguments):
    """The words that add a callback with its arguments."""
    return " ".join([f"callbacks+=pytorch_lightning.callbacks.{name}", *(f"callbacks.{key}={value}" for key, value in arguments.items())])


def logger(name):
    """The word that sets a logger."""
    return f"logger=pytorch_lightning.loggers.{name}"


TWO_LOGGERS = "logger=[pytorch_lightning.loggers.CSVLogger,pytorch_lightning.loggers.WandbLogger]"

# Options of the Trainer; a word with dashes is whole.
TRAINS = [
    "accelerator=cpu", "accelerator=cpu devices=1", "strategy=auto", "strategy=single_device", "num_nodes=1",
    "precision=bf16-mixed", "precision=16-mixed", "precision=32-true", "precision=64-true",
    "plugins=pytorch_lightning.plugins.io.AsyncCheckpointIO",   
    "logger=false", "logger=null", "logger=true", logger("CSVLogger"), logger("WandbLogger"),
    TWO_LOGGERS, "callbacks=null", "max_epochs=0", "max_epochs=3 min_epochs=2", "max_steps=1", "max_epochs=-1 max_steps=3",
    "max_steps=3 min_steps=2", "max_time=00:00:01:00", "limit_train_batches=0", "limit_train_batches=1", "limit_train_batches=0.5",
    "limit_val_batches=0", "limit_val_batches=1", "limit_test_batches=1", "limit_predict_batches=1", "overfit_batches=1",
    "val_check_interval=1", "val_check_interval=0.5", "max_epochs=2 val_check_interval=3 check_val_every_n_epoch=null",
    "max_epochs=3 check_val_every_n_epoch=2", "num_sanity_val_steps=1", "num_sanity_val_steps=-1", "log_every_n_steps=2",
    "enable_checkpointing=true", "enable_progress_bar=true", "enable_model_summary=true",
    "accumulate_grad_batches=2", "gradient_clip_val=0.5", "gradient_clip_val=0.5 gradient_clip_algorithm=value",
    "deterministic=true", "deterministic=warn", "benchmark=true", "inference_mode=false", "use_distributed_sampler=true",
    "profiler=simple", "profiler=advanced", "profiler=pytorch", "detect_anomaly=true", "sync_batchnorm=true",
    "reload_dataloaders_every_n_epochs=0", "enable_autolog_hparams=false",
    "--seed_everything=4294967295", "--seed_everything=true", "--seed_everything=false",
    callback("EarlyStopping", monitor="val/loss"), callback("GradientAccumulationScheduler", scheduling="'{0: 2}'"),
    callback("LearningRateMonitor"), callback("ModelCheckpoint"),
    callback("ModelCheckpoint", monitor="val/loss", save_top_k=2, save_last="true"),
    callback("ModelCheckpoint", monitor="val/loss") + " " + callback("ModelCheckpoint", every_n_train_steps=1),
    callback("ModelSummary", max_depth=2), callback("RichModelSummary"), callback("OnExceptionCheckpoint", dirpath="x"),
    "enable_progress_bar=true " + callback("TQDMProgressBar"), "enable_progress_bar=true " + callback("RichProgressBar"),
    callback("StochasticWeightAveraging", swa_lrs=0.01), callback("WeightAveraging"),
    callback("EMAWeightAveraging"), callback("SpikeDetection"),
]  # fmt: skip

# Options that need another machine, package or network, or a value that means something else: told in a sentence where they do not train.
TRAINS_OR_TELLS = [
    "enable_checkpointing=false", "accelerator=gpu", "accelerator=mps", "accelerator=tpu",
    "strategy=fsdp", "strategy=deepspeed", "strategy=nothing",
    "precision=bf16-true", "precision=transformer-engine", "barebones=true",
    *map(logger, ("TensorBoardLogger", "MLFlowLogger", "CometLogger", "LitLogger")),
    callback("BackboneFinetuning"), callback("BatchSizeFinder"), callback("DeviceStatsMonitor"), callback("LearningRateFinder"),
    callback("ModelPruning", pruning_fn="l1_unstructured", amount=0.5), callback("RichProgressBar"), callback("Timer"),
    callback("ThroughputMonitor", batch_size_fn="builtins.len"), "--optimizer=torch.optim.SGD",
]  # fmt: skip


@pytest.fixture
def fit(tiny_study, tmp_path, monkeypatch):
    """Runs `fit` with a row of a table, and says what its run.json holds."""
    monkeypatch.chdir(tmp_path)
    recipe, folder = EXPERIMENTS / "munoz-classifier.yaml", tmp_path / "run"
    small = words(recipe, EXPERIMENTS / "with" / "quick-munoz-classifier.yaml", tiny_study, folder, "--data.init_args.iterations=2")

    def run(row):
        main(["fit", *small, *(word if word.startswith("--") else f"--trainer.{word}" for word in shlex.split(row))])
        return json.loads((folder / "run.json").read_text())

    return run


@pytest.mark.parametrize("row", TRAINS)
def test_an_option_of_lightning_trains_to_the_end(row, fit):
    assert fit(row)["finished"]


@pytest.mark.parametrize("row", TRAINS_OR_TELLS)
def test_an_option_of_lightning_that_cannot_be_had_is_told_in_a_sentence(row, fit, capfd):
    try:
        code = 0 if fit(row)["finished"] else "not finished"
    except SystemExit as ended:
        code = ended.code
    told = capfd.readouterr().err
    assert code in (0, 2)
    assert not code or "error: " in told
    assert "this network is untrained" not in told, "it is being trained"


@pytest.mark.parametrize("row", ["fast_dev_run=true", "fast_dev_run=2"])
def test_a_dry_run_leaves_nothing(row, fit, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        fit(row)
    assert not (tmp_path / "run" / "checkpoints").exists()
