"""A paper from data to report: fit and test its recipe and what is compared beside it, then write the report."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from lus_lightning.console import say
from lus_lightning.errors import UserError
from lus_lightning.recipes import EXPERIMENTS, names
from lus_lightning.runs import fingerprint, make_way, record, write_record
from lus_lightning.signals import run_child


def reproduce_command(
    recipe: str,
    data: str | None = None,
    test_data: str | None = None,
    run: str | None = None,
    size: Literal["auto", "paper", "quick"] = "auto",
    args: str = "",
    folds: int = 0,
) -> None:
    """Fit, test and report a shipped recipe and what it is compared with, into runs/ of the current folder.

    That is each variant beside/RECIPE/<name>, and each recipe RECIPE-<name>: another method on the same patients (`recipe` lists them).

    Started again with the same configuration and data, an unfinished run goes on and a finished one only reports; with another
    configuration or other data the old folder moves to RUN.n first.

    Args:
        recipe: name of the recipe, such as xing.
        data: data folder or URL; none simulates the recipe's study.
        test_data: another data folder to test on.
        run: name of the folder in runs/; by default made of recipe, size and data.
        size: the paper's recipe, the quick one, or (auto) the paper's only where there is a GPU.
        args: further options of fit, as one string.
        folds: cross-validate: so many fits, each tested on another part of the patients, and one report of all; 0 is one fit.

    Raises:
        UserError: there is no such recipe, or a data folder cannot be read.
    """
    if recipe not in names("recipes"):
        raise UserError(f"there is no recipe {recipe}; there are {', '.join(names('recipes'))}")
    path = EXPERIMENTS / f"{recipe}.yaml"
    quick = _quick(size)
    name = "-".join(
        [
            recipe,
            *(["quick"] if size == "quick" else []),
            *([_tail(data)] if data else []),
            *(["on", _tail(test_data)] if test_data else []),
            *([f"{folds}-folds"] if folds else []),
        ]
    )
    folder = Path("runs") / (run or name)
    roots = {"--data.init_args.root": data, "--data.init_args.test_root": test_data}
    options = [word for option, root in roots.items() if root for word in (option, root)] + shlex.split(args)
    own = _whole(path, quick)
    cross_validate(folder, own, options, roots.values(), folds)
    beside = {v.stem: [*own, v] for v in sorted((path.parent / "beside" / recipe).glob("*.yaml"))}
    beside |= {v.stem.removeprefix(f"{recipe}-"): _whole(v, quick) for v in sorted(path.parent.glob(f"{recipe}-*.yaml"))}
    for variant, configs in beside.items():
        cross_validate(folder / "beside" / variant, configs, options, roots.values(), folds)
    from lus_lightning.report.html import make_report, print_summary

    make_report(folder, {variant: folder / "beside" / variant for variant in beside})
    print_summary(folder)


def cross_validate(folder: Path, configs: list[Path], options: list[str], roots: Iterable[str | None], folds: int) -> None:
    """`fit_and_test` into `folder`, or of so many folds into `folder`/folds/0, 1, ... and what they say together into `folder`."""
    if not folds:
        fit_and_test(folder, configs, options, roots)
        return
    from lus_lightning.evaluation.pooling import pool_folds

    runs = [folder / "folds" / str(i) for i in range(folds)]
    for i, run in enumerate(runs):
        which = [f"--data.init_args.split.test_folds={folds}", f"--data.init_args.split.test_fold={i}"]
        fit_and_test(run, configs, options + which, roots)
    pool_folds(folder, runs)


def fit_and_test(folder: Path, configs: list[Path], options: list[str], roots: Iterable[str | None]) -> None:
    """Fit and test into a run folder, going on where a run of the same words and data stopped.

    Args:
        folder: the run folder.
        configs: recipe and overlays.
        options: further words of `fit`.
        roots: the data roots among them, none for simulated data.

    Raises:
        SystemExit: fit or test failed; it has said why.
    """
    last, wanted = folder / "checkpoints" / "last.ckpt", fingerprint(configs, options, roots)
    state = record(folder)
    if state.get("asked") != wanted or not (state.get("finished") or last.is_file()):
        make_way(folder)
        write_record(folder, asked=wanted)
        state = {}
    if state.get("tested"):
        say(f"{folder} is finished: reporting only")
        return
    if not state.get("finished"):
        words = [word for config in configs for word in ("--config", str(config))] + options + ["--trainer.default_root_dir", str(folder)]
        _run("fit", words + (["--ckpt_path", str(last)] if state else []))
    best = last.with_name("best.ckpt")
    _run("test", ["--config", str(folder / "config.yaml"), "--ckpt_path", str(best if best.is_file() else last)])
    write_record(folder, tested=True)


def _whole(path: Path, quick: bool) -> list[Path]:
    """A recipe, with its quick overlay if asked for."""
    return [path, *([path.parent / "with" / f"quick-{path.stem}.yaml"] if quick else [])]


def _tail(root: str) -> str:
    return root.rstrip("/").rpartition("/")[2]


def _quick(size: str) -> bool:
    if size != "auto":
        return size == "quick"
    import torch

    if not torch.cuda.is_available():
        say("no GPU here: taking the quick recipe (the report lists what it changes); --size paper or RECIPE=paper takes the paper's")
    return not torch.cuda.is_available()


def _run(command: str, words: list[str]) -> None:
    if code := run_child([sys.executable, "-m", "lus_lightning", command, *words]):
        raise SystemExit(code)
