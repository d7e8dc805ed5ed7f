"""What the README and the docs tell a user to type, as it ships: default logger, default callbacks, through `make`."""

import os
import shlex
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from command_lines import EXPERIMENTS, words
from documents import PAGES, ROOT, commands, parts
from small import LEFT_OUT, STUDIES, recipe_of, small

from lus_lightning.cli import LIGHTNING, PLAIN, main

# What the pages say in words, or as a part of a command.
MORE = [
    'make quick-four-signs RUN=multilabel ARGS="--config experiments/with/multilabel.yaml"',
    'make quick-munoz TEST_DATA=/data/theirs ARGS="--config experiments/with/picture-munoz.yaml"',
    'make quick-munoz-classifier RUN=handheld ARGS="--config experiments/with/handheld-munoz.yaml"',
    "make quick-corso DATA=/data/my-study FOLDS=5",
    'make quick-munoz-classifier RUN=two ARGS="--trainer.devices=4 --trainer.strategy=ddp_find_unused_parameters_true"',
    "make reproduce-munoz-classifier RECIPE=paper"
    ' ARGS="--model.init_args.weights=none --config experiments/with/no-wandb.yaml --data.init_args.split.unit=frame"',
    "python -m lus_lightning fit --config experiments/munoz.yaml --config experiments/with/quick-munoz.yaml"
    " --config with/handheld-munoz --config experiments/with/handheld-rule-munoz.yaml --data.init_args.root /data/my-study",
    "python -m lus_lightning fit --config experiments/corso.yaml --config experiments/with/quick-corso.yaml"
    " --config experiments/with/san-matteo.yaml --data.init_args.root /data/my-study",
    "make quick-raillard RUN=kept ARGS='--data.init_args.beam_space=true'",
    "make quick-raillard RUN=kept-again ARGS='--data.init_args.beam_space=true'",
    "make sweep-four-signs LOCAL=1",
    "make sweep-munoz LOCAL=1",
    "make sweep-corso LOCAL=1",
    "python -m lus_lightning index /data/my-study --strict --verbose",
    "python -m lus_lightning simulate OUT --preview",
    "python -m lus_lightning validate --config runs/xing/config.yaml --ckpt_path runs/NAME/checkpoints/last.ckpt",
    *(
        "python -m lus_lightning test --config runs/xing/config.yaml --ckpt_path runs/xing/checkpoints/last.ckpt"
        f" --data.init_args.after_change={how}"
        for how in ("leave_out", "test")
    ),
    "python -m lus_lightning report runs/xing",
    "python -m lus_lightning audit runs/xing",
    *(f"make reproduce-{recipe}" for recipe in STUDIES),
]
SAID = [command for page in PAGES for command in commands(page.read_text())]
RUN = [c for c in dict.fromkeys(SAID + MORE) if c.split()[-1] not in LEFT_OUT]
TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true"]
FINISHED = "python -m lus_lightning ", "make report-"
"""How commands begin that may read runs/xing."""


@pytest.fixture(scope="session")
def place(_own_cache, tmp_path_factory):
    """A copy of the repository's root, as far as commands read it."""
    place = tmp_path_factory.mktemp("repository")
    for name in ("Makefile", "experiments", "lus_lightning", "pyproject.toml"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.fixture(scope="session")
def study(place):
    @cache
    def simulated(recipe, seed):
        folder = place / f"{recipe}-{seed}"
        main(["simulate", str(folder), f"--study={recipe}", f"--seed={seed}", "--workers=1", *STUDIES[recipe]])
        return folder

    return simulated


def environment():
    """No W&B account, no GPU: the logger goes offline by itself and `auto` takes the quick recipe."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "PYTEST_", "MAKE", "MFLAGS"))}
    return kept | {"NETRC": os.devnull, "CUDA_VISIBLE_DEVICES": ""}


def start(words, place):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(words, cwd=place, env=environment(), text=True, start_new_session=True, **pipes)


def ended(words, place, seconds=300):
    """Exit code and what was said; a command that stands still is killed with all its processes."""
    process = start(words, place)
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        pytest.fail(f"{shlex.join(words)} has not ended after {seconds} s:\n{said[-3000:]}")
    return process.returncode, said


def test_every_part_of_a_command_that_the_pages_name_is_in_a_command_that_is_run():
    run = {" ".join(shlex.split(c)) for c in RUN}
    asked = [part for page in PAGES for part in parts(page.read_text())]
    assert not [part for part in asked if not any(" ".join(shlex.split(part)) in command for command in run)]


def test_every_command_recipe_overlay_and_sweep_is_in_a_command_that_is_run():
    run = " ".join(RUN).replace("lus-lightning", "lus_lightning")
    assert all(f"lus_lightning {command} " in run for command in {*LIGHTNING, *PLAIN} - {"sweep"})
    assert all(f"with/{p.name}" in run for p in EXPERIMENTS.glob("with/*") if not p.name.startswith("quick-"))
    assert {kind.recipe for kind in Shipped.__subclasses__()} == set(STUDIES)
    assert all(p.stem.startswith(tuple(STUDIES)) for p in EXPERIMENTS.glob("*.yaml"))
    assert all(f"sweep-{p.stem} " in run for p in EXPERIMENTS.glob("sweeps/*"))


def test_a_command_that_cannot_be_made_small_is_told():
    for command in ("make fly-xing", "python -m lus_lightning fly"):
        with pytest.raises(KeyError, match="no way to make"):
            small(command, lambda recipe, seed: Path("x"))


def pytest_generate_tests(metafunc):
    if "command" in metafunc.fixturenames:
        metafunc.parametrize("command", [c for c in RUN if recipe_of(c) == metafunc.cls.recipe])
    if "file" in metafunc.fixturenames:
        metafunc.parametrize("file", sorted(EXPERIMENTS.glob(f"{metafunc.cls.recipe}*.yaml")), ids=lambda p: p.stem)


@pytest.mark.shipped
class Shipped:
    """The commands of one recipe, in order and in one process: later ones find the run folders of earlier ones."""

    recipe: str

    def test_a_run_that_is_killed_in_the_middle_goes_on_and_a_finished_one_only_reports(self, place, study):
        ours = small(f"make reproduce-{self.recipe}", study)
        process = start(ours.words, place)
        while not list(place.glob(f"runs/{self.recipe}*/checkpoints/last.ckpt")):
            assert process.poll() is None, process.communicate()[0][-3000:]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for told in ("going on with", "is finished: reporting only"):
            code, said = ended(ours.words, place)
            assert code == 0, said[-3000:]
            assert told in said
            assert "Report: " in said

    def test_a_documented_command_does_what_it_says(self, command, place, study):
        reads = command.startswith(FINISHED) and "runs/" in command.replace("report-", "runs/")
        if reads and not (place / "runs" / "xing" / "report" / "index.html").is_file():
            code, said = ended(small("make reproduce-xing", study).words, place)
            assert code == 0, said[-3000:]
        ours = small(command, study)
        code, said = ended(ours.words, place)
        assert code == ours.code, said[-3000:]
        assert ours.says in said
        assert "Traceback" not in said
        if ours.file:
            (place / ours.file).write_text(said)

    def test_two_processes_train_a_recipe_as_it_ships_and_end(self, file, place, tiny_study, tiny_signs, tmp_path):
        root = tiny_signs if self.recipe == "four-signs" else tiny_study
        command = ["fit", *words(file, None, root, tmp_path / "run", *TWO, logger="wandb")]
        code, said = ended([sys.executable, "-m", "lus_lightning", *command], place, seconds=150)
        assert code == 0, said[-3000:]


class TestXing(Shipped):
    recipe = "xing"


class TestRaillard(Shipped):
    recipe = "raillard"


class TestFourSigns(Shipped):
    recipe = "four-signs"


class TestMunoz(Shipped):
    recipe = "munoz"


class TestCorso(Shipped):
    recipe = "corso"
