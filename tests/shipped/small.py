"""A documented command made small by its data and by ARGS alone, or the reason why it is not run."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = {
    "install": "it made the environment that runs this",
    "test": "it is run beside this",
    "test-slow": "it is run by hand",
    "test-shipped": "it is this",
    "check": "it is `make test` with lint and types",
    "bench": "it measures speed",
}

# A study's clips, as `simulate` makes them; of four signs, enough patients that each part shows every sign.
STUDIES = dict.fromkeys(("xing", "raillard", "munoz", "corso"), ("--patients=11", "--loops=1", "--frames=4", "--size=96"))
STUDIES["four-signs"] = ("--patients=24", "--loops=1", "--frames=1", "--size=64")

_EVERY = ("--data.init_args.size=64", "--data.init_args.choice.max_frames=2", "--checkpoint.every_n_steps=1")
_FEW = {
    "xing": (*_EVERY, "--data.init_args.iterations=5"),
    "raillard": (*_EVERY, "--trainer.max_epochs=2"),
    "four-signs": (*_EVERY, "--data.init_args.iterations=5"),
    "munoz": (*_EVERY, "--data.init_args.iterations=5"),
    "corso": (*_EVERY, "--trainer.max_epochs=2"),
}
"""Further options of `fit`, which the recipes that are run beside know too."""
_ALONE = ("--data.init_args.study=tiny", "--data.init_args.split.test_share=0.25")
"""Options without a data folder."""
_PLACES = {"/data/my-study": 0, "FOLDER": 0, "/data/theirs": 1, "/data/new-clips": 1}


@dataclass
class Small:
    """What is typed instead, the exit code, what is said, and the file it is written to."""

    words: list[str]
    recipe: str
    code: int = 0
    says: str = ""
    file: str = ""


def recipe_of(command: str) -> str:
    """The recipe of a command: its data, its run folder, and the process that runs its tests."""
    named = [recipe for recipe in sorted(STUDIES, key=len, reverse=True) if recipe in command]
    return named[0] if named else "xing"


def small(command: str, study: Callable[[str, int], Path]) -> Small:
    """A documented command made small; `study(recipe, seed)` is a folder of simulated clips.

    Raises:
        KeyError: there is no way to make it small.
    """
    words = shlex.split(command.replace("<name>", "NAME").replace("NAME", "xing"))
    recipe = recipe_of(command)
    words = [str(study(recipe, _PLACES[w])) if w in _PLACES else w for w in words]
    return _make(words, recipe, study) if words[0] == "make" else _plain(words, recipe)


def _make(words: list[str], recipe: str, study: Callable[[str, int], Path]) -> Small:
    target, given = words[1] if len(words) > 1 else "help", dict(w.split("=", 1) for w in words[2:])
    start = ["make", "-o", "install", f"PY={sys.executable}", target]
    verb = target.partition("-")[0]
    if target == "help" or verb == "report":
        return Small(start, recipe)
    if verb not in ("reproduce", "quick", "sweep"):
        raise KeyError(f"no way to make {' '.join(words)!r} small: add one to {Path(__file__).name}")
    if verb == "sweep" and "LOCAL" not in given:
        return Small(start, recipe, 2, "W&B has no account")
    args = [given.pop("ARGS", ""), *_FEW[recipe]]
    if verb == "sweep":
        given["TRIALS"] = "2"
        args = [f"--config=experiments/with/quick-{recipe}.yaml", *args, "--trainer.limit_train_batches=3"]
    for n, variable in enumerate(("DATA", "TEST_DATA")):
        if variable in given or (variable == "DATA" and (recipe != "xing" or verb == "sweep")):
            given[variable] = str(study(recipe, n))
    if "DATA" not in given:
        args += _ALONE
    if "FOLDS" in given:
        given["FOLDS"] = "2"
    given["ARGS"] = " ".join(args).replace("devices=4", "devices=2 --trainer.accelerator=cpu").strip()
    return Small([*start, *(f"{name}={value}" for name, value in given.items())], recipe)


def _plain(words: list[str], recipe: str) -> Small:
    first = words.index("lus_lightning") + 1 if "lus_lightning" in words else 1
    verb, options = words[first], words[first + 1 :]
    if verb == "simulate":
        options = ["4" if before == "--patients" else word for before, word in zip(["", *options], options, strict=False)]
        options += [] if "--preview" in words else ["--loops=1", "--frames=3", "--size=64"]
    elif verb == "fit":
        options += _FEW[recipe]
        if any("san-matteo" in word for word in words):  # which names patients of its own
            options.append("--data.init_args.split.test_patients=[sim-001,sim-002]")
    elif verb == "reproduce":
        options += ["--run=plain", f"--args={' '.join([*_FEW[recipe], *_ALONE])}"]
    elif verb not in ("--help", "index", "beams", "validate", "test", "predict", "report", "audit", "recipe", "cache"):
        raise KeyError(f"no way to make {' '.join(words)!r} small: add one to {Path(__file__).name}")
    to = options.index(">") if ">" in options else len(options)
    return Small([sys.executable, "-m", "lus_lightning", verb, *options[:to]], recipe, file="".join(options[to + 1 :]))
