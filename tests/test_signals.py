"""A command that is asked to stop: in a training, before it, and through `reproduce`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_lines import EXPERIMENTS, words

ROOT = Path(__file__).parents[1]
QUICK = EXPERIMENTS / "with" / "quick-munoz-classifier.yaml"


def long_training(study, run, *more):
    options = words(EXPERIMENTS / "munoz-classifier.yaml", QUICK, study, run, "--data.init_args.iterations=100000", *more)
    return [sys.executable, "-m", "lus_lightning", "fit", *options]


def stopped(command, number, ready, cwd=ROOT, group=False):
    """Exit code and last words of a command that gets a signal as soon as `ready` says so."""
    process = subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    started = time.monotonic()
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - started < 120
        time.sleep(0.1)
    (os.killpg if group else os.kill)(process.pid, number)
    return process.wait(60), process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_asked_to_stop_saves_says_how_to_go_on_and_ends_with_the_signals_exit_code(number, tiny_study, tmp_path):
    run = tmp_path / "run"
    saves = "--checkpoint.every_n_steps=20"
    code, said = stopped(long_training(tiny_study, run, saves), number, (run / "checkpoints" / "last.ckpt").is_file)
    assert code == 128 + number
    assert f"--ckpt_path {run / 'checkpoints' / 'last.ckpt'}" in said
    assert "Traceback" not in said
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"iteration {step} " in said
    assert not json.loads((run / "run.json").read_text())["finished"]


def test_a_signal_to_the_whole_process_group_does_not_kill_the_loaders_before_the_training_has_saved(tiny_study, tmp_path):
    run = tmp_path / "run"
    command = long_training(tiny_study, run, "--checkpoint.every_n_steps=20", "--data.init_args.num_workers=2")
    code, said = stopped(command, signal.SIGTERM, (run / "checkpoints" / "last.ckpt").is_file, group=True)
    assert code == 143, said
    assert "to go on" in said
    assert "Traceback" not in said


def test_reproduce_passes_the_signal_on_and_leaves_no_process_behind(tiny_study, tmp_path):
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    run = tmp_path / "runs" / "short"
    options = long_training(tiny_study, run, "--checkpoint.every_n_steps=20")
    args = " ".join(w for w in options[4:] if w not in ("--config", str(QUICK), str(EXPERIMENTS / "munoz-classifier.yaml")))
    command = [sys.executable, "-m", "lus_lightning", "reproduce", "munoz-classifier", "--size=quick", "--run=short", f"--args={args}"]
    command[-1] = command[-1].replace(str(EXPERIMENTS / "with/no-wandb.yaml"), f"--config {EXPERIMENTS / 'with/no-wandb.yaml'}")
    code, said = stopped(command, signal.SIGTERM, (run / "checkpoints" / "last.ckpt").is_file, tmp_path)
    assert code == 143, said
    before = (run / "checkpoints" / "last.ckpt").stat().st_mtime
    time.sleep(3)
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime == before
    assert "Traceback" not in said


def test_a_plain_command_ends_with_the_signals_exit_code(tmp_path):
    out = tmp_path / "study"
    command = [sys.executable, "-m", "lus_lightning", "simulate", str(out), "--patients=500"]
    code, said = stopped(command, signal.SIGTERM, lambda: any(tmp_path.iterdir()))
    assert code == 143
    assert "ended by SIGTERM" in said
    assert "Traceback" not in said


def test_an_error_while_pictures_are_loaded_ends_the_command_and_its_loaders():
    code = """
from torch.utils.data import DataLoader
from lus_lightning.signals import handled, ignore_signals
with handled():
    batches = iter(DataLoader(range(1000), num_workers=2, worker_init_fn=ignore_signals))
    next(batches)
    raise RuntimeError("in the middle")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: in the middle\n")
