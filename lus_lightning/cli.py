"""The command line: Lightning's four commands and our plain ones, which start without importing torch."""

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Final

from lus_lightning.console import pipe, quiet, told_by_another, without_verbose
from lus_lightning.errors import UserError
from lus_lightning.signals import Stopped, handled

LIGHTNING: Final = {
    "fit": "train a method: --config xing [--config with/quick-xing] [--data.init_args.root FOLDER]",
    "validate": "metrics on the validation patients",
    "test": "predictions of the test patients: --config runs/NAME/config.yaml --ckpt_path runs/NAME/checkpoints/last.ckpt",
    "predict": "scores of any clips, labelled or not: as test, with --data.init_args.root FOLDER",
}
PLAIN: Final = {
    "index": ("lus_lightning.data.index", "index_command", "what a data folder holds, what is left out and why; writes the sample index"),
    "beams": ("lus_lightning.data.beams", "beams_command", "where the scan lines of every clip lie, estimated or refused; table and sheet"),
    "simulate": ("lus_lightning.simulator.command", "simulate_command", "write a simulated study with exact truth"),
    "reproduce": ("lus_lightning.reproduce", "reproduce_command", "fit, test and report a paper's recipe, with what is compared beside it"),
    "cache": ("lus_lightning.data.cache_command", "cache_command", "show what is kept of earlier runs, clear it, or hold it to a size"),
    "recipe": ("lus_lightning.recipes", "recipe_command", "list recipes, overlays and sweeps, or print one: recipe xing > mine.yaml"),
    "report": ("lus_lightning.report.html", "report_command", "write a run's tables, figures and page again"),
    "audit": ("lus_lightning.evaluation.audits", "audit_run", "check a run's own tables: no patient on two sides, nothing twice"),
    "sweep": ("lus_lightning.sweep", "sweep_command", "run a W&B sweep, with an account or here"),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: the words behind the program's name; none takes them from the command line.

    Raises:
        SystemExit: with 2 after a problem that the user can mend, told in one sentence; with 130 or 143 after SIGINT or SIGTERM.
    """
    words = without_verbose(list(sys.argv[1:] if args is None else args))
    with handled(), pipe(), quiet():
        _run(words)


def _run(words: list[str]) -> None:
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_help())
        elif words[0] in PLAIN:
            _plain(words)
        elif words[0] in LIGHTNING:
            # Threads that wait must not spin: beside another busy process two spinning ones were 2 to 10 times slower than one.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            from lus_lightning.training import LungCLI

            LungCLI.main(words)
        else:
            raise UserError(f"there is no command {words[0]!r}; `python -m lus_lightning --help` lists them")
    except UserError as error:
        if not told_by_another(2):
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Exception:
        if code := told_by_another(1):
            raise SystemExit(code) from None
        raise
    except Stopped as stopped:
        print(f"{words[0]} ended by {stopped.name}", file=sys.stderr)
        raise


def _plain(words: list[str]) -> None:
    from jsonargparse import auto_cli

    module, function, _ = PLAIN[words[0]]
    command = getattr(importlib.import_module(module), function)
    flags = {f"--{name}" for name, p in inspect.signature(command).parameters.items() if p.annotation is bool}
    given = [f"{word}=true" if word in flags else word for word in words[1:]]
    if words == ["recipe"]:
        given = ["all"]  # a default in the signature would make the name an option
    if words[0] == "cache" and words[-1] == "--clear":
        given[-1] = "--clear=all"  # an option with a value that may be left out
    if isinstance(told := auto_cli(command, args=given, prog=f"lus-lightning {words[0]}"), str):
        print(told)


def _help() -> str:
    lines = ["usage: python -m lus_lightning COMMAND [OPTIONS]    (COMMAND --help lists its options)", ""]
    lines += ["Published lung ultrasound severity methods, split by patient. Research only, not for clinical use.", ""]
    lines += [f"  {name:<11}{text}" for name, text in LIGHTNING.items()] + [""]
    lines += [f"  {name:<11}{text}" for name, (_, _, text) in PLAIN.items()]
    lines += ["", "  --verbose, with any command, also shows what otherwise goes to the run folder's logs/ only"]
    return "\n".join(lines)
