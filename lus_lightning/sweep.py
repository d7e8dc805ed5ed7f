"""W&B sweeps: registered with an account, or the same file run here with Optuna."""

import math
import os
import shlex
import socket
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from lus_lightning.data.tables import read_own
from lus_lightning.errors import UserError
from lus_lightning.recipes import recipe_file, with_files
from lus_lightning.runs import fingerprint, make_way, record, write_record
from lus_lightning.signals import run_child


def sweep_command(
    file: str, local: bool = False, trials: int | None = None, root: str | None = None, run: str | None = None, args: str = ""
) -> None:
    """Run a W&B sweep file: with an account it is registered and an agent started; with LOCAL, Optuna runs it here.

    A local sweep keeps its trials in RUN/trials and its state in RUN/trials/study.log: several processes may work on it at once,
    and one that was interrupted goes on when started again. With another file, other data or other options it is another sweep, and
    the old folder moves to RUN.n first.

    Args:
        file: the sweep: a shipped one by name, such as xing, or a file of your own.
        local: run it here, without W&B.
        trials: how many in all; none is the file's run_cap.
        root: data folder; none simulates the recipe's study.
        run: run folder of a local sweep; by default runs/sweep-NAME.
        args: further options of each fit, as one string.

    Raises:
        UserError: there is no such sweep, or W&B has no account here.
    """
    path = recipe_file(file, "sweeps")
    sweep = yaml.safe_load(path.read_text())
    extra = (["--data.init_args.root", root] if root else []) + shlex.split(args)
    if local:
        folder = Path(run or f"runs/sweep-{path.stem}")
        own_folder(folder, sweep, extra, root)
        run_here(sweep, folder, trials or sweep["run_cap"], extra)
        return
    from lus_lightning.training import wandb_account

    if not wandb_account():
        raise UserError(
            f"W&B has no account on this machine; log in with `wandb login`, or run the same file here: make sweep-{path.stem} LOCAL=1"
        )
    import wandb

    place = sweep["command"].index("${args}")
    sweep["command"][place:place] = extra
    number = wandb.sweep(sweep, project=sweep.get("project"))
    if code := run_child([sys.executable, "-m", "wandb", "agent", "--project", sweep["project"], number]):
        raise SystemExit(code)


def own_folder(folder: Path, sweep: dict[str, Any], extra: list[str], root: str | None) -> None:
    """Move the trials of another sweep out of the way: one of another file, recipe, overlay, data or option."""
    words = with_files([*sweep["command"], *extra])
    configs = [Path(name) for option, name in pairwise(" ".join(words).replace("--config=", "--config ").split()) if option == "--config"]
    asked = fingerprint(configs, [yaml.safe_dump({k: v for k, v in sweep.items() if k != "run_cap"}), *extra], [root])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # of several processes, one moves it
        if record(folder).get("asked") != asked:
            make_way(folder, "trials")
            write_record(folder, asked=asked)


def run_here(sweep: dict[str, Any], folder: Path, trials: int, extra: list[str]) -> None:
    """Run a sweep's trials with Optuna's TPE until `trials` are complete, over all processes that share `folder`.

    A trial whose process died is forgotten and its parameters are run again; its run folder is trials/NUMBER. One whose objective is NaN
    (a segmenter that finds no pleura has no kappa) is over too, and is never the best.

    Raises:
        SystemExit: a trial failed; it has said why.
        UserError: no trial has a value of the objective.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    (folder / "trials").mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "trials" / "study.log")))
    study = optuna.create_study(storage=storage, study_name=folder.name, direction=sweep["metric"]["goal"], load_if_exists=True,
                                sampler=optuna.samplers.TPESampler(seed=0))  # fmt: skip
    for unfinished in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        if _dead(unfinished.user_attrs.get("process")):
            study.tell(unfinished.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(unfinished.params)
    over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    done = optuna.study.MaxTrialsCallback(trials, states=over)
    if _complete(study) < trials:
        study.optimize(lambda trial: _run_trial(trial, sweep, folder, extra), callbacks=[done])
    if not study.get_trials(states=over[:1]):
        raise UserError(f"none of {_complete(study)} trials has a value of {sweep['metric']['name']}; train longer, or widen the sweep")
    best = study.best_trial
    epoch = best.user_attrs.get("best_epoch")
    when = "" if epoch is None else f" in its best epoch ({epoch + 1})"
    told = f"best {sweep['metric']['name']} {best.value:.4f}{when} on the validation patients: {folder}/trials/{best.number} {best.params}"
    print(f"{_complete(study)} trials; {told}")


def _complete(study: Any) -> int:
    return sum(t.state.name in ("COMPLETE", "PRUNED") for t in study.trials)


def _dead(process: list[Any] | None) -> bool:
    """Whether a trial's process has ended; of another machine's we cannot know, and leave them alone."""
    if process is None or process[0] != socket.gethostname():
        return process is None
    try:
        os.kill(process[1], 0)
    except ProcessLookupError:
        return True
    return False


def _run_trial(trial: Any, sweep: dict[str, Any], folder: Path, extra: list[str]) -> float:
    trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
    chosen = {name: suggest(trial, name, spec) for name, spec in sweep["parameters"].items()}
    run = folder / "trials" / str(trial.number)
    # What is drawn comes last: a configuration among the further options must not take its place.
    words = [*extra, *(f"--{name}={value}" for name, value in chosen.items()), "--trainer.default_root_dir", str(run)]
    command = [
        sys.executable if w == "${interpreter}" else w for w in sweep["command"] if w not in ("${env}", "${args}", "${program}")
    ] + words
    if code := run_child(command):
        raise SystemExit(code)
    value, epoch = objective(run, sweep["metric"]["name"])
    if epoch is not None:
        trial.set_user_attr("best_epoch", epoch)
    if math.isnan(value):
        import optuna

        raise optuna.TrialPruned
    return value


def objective(run: Path, metric: str) -> tuple[float, int | None]:
    """A finished run's value of a watched metric: in the epoch whose weights it keeps as the best, with that epoch, else in its last."""
    state = record(run)
    if "best" not in state:
        return state["final"][metric], None
    epochs = read_own(run / "curves.csv").set_index("epoch")
    return float(epochs.loc[state["best"]["epoch"], metric]), state["best"]["epoch"]


def suggest(trial: Any, name: str, spec: dict[str, Any]) -> Any:
    """Optuna's draw for one parameter of a W&B sweep: `values`, `value`, or a `distribution` with `min` and `max`.

    Raises:
        UserError: a distribution that the local sweep does not know.
    """
    if "values" in spec:
        return trial.suggest_categorical(name, spec["values"])
    if "value" in spec:
        return spec["value"]
    kind = spec.get("distribution", "int_uniform" if isinstance(spec["min"], int) else "uniform")
    if kind == "int_uniform":
        return trial.suggest_int(name, spec["min"], spec["max"])
    if kind in ("uniform", "log_uniform_values"):
        return trial.suggest_float(name, spec["min"], spec["max"], log=kind == "log_uniform_values")
    raise UserError(f"the local sweep knows values, value, uniform, log_uniform_values and int_uniform, not {kind} ({name})")
