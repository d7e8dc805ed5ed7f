"""Where the best epoch is kept, validation and test rows are those of its weights."""

import json

import pandas as pd
import pytest
from command_lines import EXPERIMENTS, words
from sklearn.metrics import log_loss

from lus_lightning.cli import main

RECIPE, QUICK = EXPERIMENTS / "munoz-classifier.yaml", EXPERIMENTS / "with" / "quick-munoz-classifier.yaml"


@pytest.fixture(scope="module")
def trained(tiny_study, tmp_path_factory):
    """A run whose best epoch is not its last: its steps are too long."""
    run = tmp_path_factory.mktemp("best") / "run"
    main(["fit", *words(RECIPE, QUICK, tiny_study, run, "--checkpoint.monitor=val/loss", "--trainer.max_epochs=4",
                        "--model.init_args.lr=0.05", "--data.init_args.iterations=3")])  # fmt: skip
    return run


def epochs(run):
    table = pd.read_parquet(run / "predictions.parquet")
    return {split: set(rows["epoch"]) for split, rows in table.groupby("split")}


def test_validation_rows_are_those_of_the_best_epoch(trained):
    best = json.loads((trained / "run.json").read_text())["best"]
    assert best["epoch"] < 3, "the last epoch is the best, so this proves nothing"
    val = pd.read_parquet(trained / "predictions.parquet").query("split == 'val'")
    assert set(val["epoch"]) == {best["epoch"]}
    assert log_loss(val["target"], val[["p_0", "p_1", "p_2", "p_3"]], labels=range(4)) == pytest.approx(best["value"], rel=1e-4)


@pytest.mark.parametrize(("weights", "kept"), [("best", True), ("last", False)])
def test_a_test_of_other_weights_leaves_no_validation_rows_of_the_best(weights, kept, trained):
    before = epochs(trained).get("val")
    main(["test", "--config", str(trained / "config.yaml"), "--ckpt_path", str(trained / "checkpoints" / f"{weights}.ckpt")])
    after = epochs(trained)
    assert ("val" in after) == kept
    if kept:
        assert after["val"] == after["test"] == before
