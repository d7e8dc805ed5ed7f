"""Two processes (DDP on CPU) through the real command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


def lus(*words):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lus_lightning", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def two_processes(tiny_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    lus("fit", "--config", "experiments/xing.yaml", "--config", "experiments/with/quick-xing.yaml",
        "--config", "experiments/with/no-wandb.yaml",
        "--data.init_args.root", tiny_study, "--data.init_args.iterations=3", "--data.init_args.num_workers=0", "--data.init_args.size=64",
        "--data.init_args.choice.min_gap=2", "--data.init_args.split.test_share=0.25", "--data.init_args.batch_size=4",
        "--model.init_args.selector=test_resnet", "--model.init_args.networks=[test_resnet,test_efficientnet]", "--model.init_args.folds=3",
        "--trainer.default_root_dir", folder / "run", "--trainer.accelerator=cpu", "--trainer.devices=2",
        "--trainer.strategy=ddp_find_unused_parameters_true", "--trainer.enable_progress_bar=false",
        "--trainer.callbacks+=ddp_witness.DrawWitness", "--trainer.callbacks.folder", folder)  # fmt: skip
    return folder


def test_two_processes_read_disjoint_samples_in_every_iteration_of_both_stages(two_processes):
    ranks = [json.loads((two_processes / f"draws-{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(r) for r in ranks] == [6, 6]
    for one, other in zip(*ranks, strict=True):
        assert (one["stage"], one["step"]) == (other["stage"], other["step"])
        assert not {tuple(d) for d in one["draws"]} & {tuple(d) for d in other["draws"]}


def test_the_selection_of_two_processes_holds_every_training_image_once(two_processes):
    chosen, split = pd.read_csv(two_processes / "run" / "selection.csv"), pd.read_csv(two_processes / "run" / "split.csv")
    assert not chosen.duplicated(["row", "frame"]).any()
    assert set(chosen["clip"]) == set(split.loc[split["split"] == "train", "clip"])


def test_two_processes_and_one_give_the_same_predictions_from_the_same_checkpoint(two_processes):
    tables = []
    for devices in (2, 1):
        run = two_processes / "run"
        lus("test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--trainer.devices", devices,
            "--trainer.strategy", "ddp_find_unused_parameters_true" if devices == 2 else "auto", "--trainer.callbacks=null")  # fmt: skip
        table = pd.read_parquet(run / "predictions.parquet").query("split == 'test'").reset_index(drop=True)
        assert not table.duplicated(["row", "frame", "member"]).any()
        tables.append(table)
    keys = ["row", "frame", "member", "target", "pred"]
    pd.testing.assert_frame_equal(tables[0][keys], tables[1][keys])
    classes = ["p_0", "p_1", "p_2", "p_3"]
    np.testing.assert_allclose(tables[0][classes], tables[1][classes], atol=1e-5)
