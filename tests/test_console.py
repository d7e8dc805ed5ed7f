"""What a user sees: of the real commands in processes of their own, and of progress with and without a terminal."""

import logging
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from lus_lightning import console
from lus_lightning.console import Progress, log_to, quiet, span, track, without_verbose

ROOT = Path(__file__).parents[1]
NOISE = ("warning", "tip:", "weights_only", "across ranks", "on_after_batch_transfer", "deprecat", "flops", "modules in", "wandb:",
         "\r", "\x1b")  # fmt: skip


def lus(folder, *words):
    """A command from another folder than the repository's, as after `pip install`, on one core."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "WANDB", "LUS_VERBOSE"))}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    return subprocess.run([sys.executable, "-m", "lus_lightning", *map(str, words)], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=300)  # fmt: skip


def test_a_quick_run_says_what_it_does_on_what_data_and_where_the_result_is_and_nothing_else(tiny_signs, tmp_path):
    small = "--data.init_args.iterations=2 --model.init_args.network=test_resnet --data.init_args.split.test_share=0.25"
    done = lus(tmp_path, "reproduce", "four-signs", "--size", "quick", "--data", tiny_signs, "--run", "r",
               f"--args={small} --data.init_args.split.val_share=0.25 --data.init_args.num_workers=0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = (done.stderr + done.stdout).partition("┏")[0]
    assert len(said.splitlines()) < 25
    assert not [noise for noise in NOISE if noise in (done.stderr + done.stdout).lower()]
    for told in ("training four-signs with quick-four-signs in runs/r", "(simulated); 4 patients to train, 2 patients to test",
                 "details: runs/r/logs/fit.log", "wandb sync runs/r/logs/wandb/offline-run-*", "runs/r/checkpoints",
                 "runs/r/predictions.parquet"):  # fmt: skip
        assert told in said
    assert "Report: runs/r/report/index.html" in done.stdout
    details = (tmp_path / "runs/r/logs/fit.log").read_text()
    assert all(kept in details for kept in ("GPU available", "on_after_batch_transfer", "Trainable params"))


def test_verbose_shows_what_otherwise_goes_to_the_log(tiny_signs, tmp_path):
    done = lus(tmp_path, "fit", "--verbose", "--config=four-signs", "--config=with/quick-four-signs", "--config=with/no-wandb",
               f"--data.init_args.root={tiny_signs}", "--data.init_args.iterations=1", "--model.init_args.network=test_resnet",
               "--data.init_args.split.test_share=0.25", "--data.init_args.split.val_share=0.25",
               "--data.init_args.num_workers=0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "GPU available" in done.stderr
    assert "on_after_batch_transfer" in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_of_which_one_meets_a_users_error_say_it_once_and_end_with_2(rank, tiny_study, tmp_path):
    done = lus(tmp_path, "fit", "--config", "xing", "--config", "with/quick-xing", "--config", "with/no-wandb",
               "--data.init_args.root", tiny_study, "--data.init_args.iterations=3", "--data.init_args.num_workers=0",
               "--data.init_args.split.test_share=0.25", "--data.init_args.batch_size=4", "--model.init_args.selector=test_resnet",
               "--model.init_args.networks=[test_resnet,test_efficientnet]", "--model.init_args.folds=3",
               "--trainer.default_root_dir=run", "--trainer.accelerator=cpu", "--trainer.devices=2",
               "--trainer.strategy=ddp_find_unused_parameters_true",
               "--trainer.callbacks+=rank_error.FailsOnRank", f"--trainer.callbacks.rank={rank}")  # fmt: skip
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if " left" not in line]  # a slow machine shows progress
    assert said == ["error: the clip a.mp4 cannot be read; take it out of the index"]


@pytest.mark.parametrize("command", ["", "fit", "index", "recipe"])
def test_help_that_is_read_no_further_than_its_first_line_ends_without_a_traceback(command):
    words = [command] if command else []
    process = subprocess.Popen([sys.executable, "-m", "lus_lightning", *words, "--help"], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 141)


def test_without_a_terminal_progress_is_a_plain_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(console, "EVERY_SECONDS", 0)
    for _ in track("abc", "reading", 3):
        pass
    with Progress("training", float("inf")) as progress:
        progress.advance(5, lambda: "loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading: 1 of 3, 0 s left", "reading: 2 of 3, 0 s left", "reading: 3 of 3, 0 s left", "training: 5, loss 0.5"]
    monkeypatch.setattr(console, "EVERY_SECONDS", 30)
    for _ in track("abc", "reading", 3):
        pass
    assert capsys.readouterr().err == ""


def test_on_a_terminal_progress_is_a_bar():
    ours, theirs = pty.openpty()
    code = "from lus_lightning.console import track\nfor _ in track('abc', 'reading', 3): pass"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, env=os.environ | {"TERM": "xterm"}, check=True)
    os.close(theirs)
    assert b"reading" in (shown := os.read(ours, 100_000))
    assert b"\x1b" in shown


def test_the_second_of_two_processes_shows_no_progress_and_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(console, "EVERY_SECONDS", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for _ in track("abc", "reading", 3):
        pass
    console.say("here")
    assert capsys.readouterr() == ("", "")


def test_what_libraries_say_before_the_folder_is_known_is_in_its_log_too_and_afterwards_all_is_as_it_was(capsys, tmp_path):
    lightning = logging.getLogger("pytorch_lightning")
    before = (lightning.handlers, lightning.propagate, warnings.showwarning)
    with quiet():
        lightning.warning("early")
        log_to(tmp_path / "logs", "fit")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)
            warnings.warn("late", stacklevel=1)
    assert (lightning.handlers, lightning.propagate, warnings.showwarning) == before
    told = (tmp_path / "logs" / "fit.log").read_text()
    assert "early" in told
    assert "late" in told
    assert capsys.readouterr().err == ""


def test_verbose_is_taken_out_of_the_words_and_remembered(monkeypatch):
    monkeypatch.setenv("LUS_VERBOSE", "")
    assert without_verbose(["fit", "--verbose", "--config", "xing"]) == ["fit", "--config", "xing"]
    assert console.verbose()


def test_times_are_told_in_the_unit_that_fits():
    assert [span(s) for s in (4.4, 89, 200, 7200)] == ["4 s", "89 s", "3 min", "2.0 h"]
