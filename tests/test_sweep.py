import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from command_lines import EXPERIMENTS

from lus_lightning.cli import main
from lus_lightning.errors import UserError
from lus_lightning.sweep import run_here, suggest

SWEEPS = sorted(EXPERIMENTS.glob("sweeps/*.yaml"))


def fixed(parameters):
    """One value of each parameter."""
    return {name: spec["values"][0] if "values" in spec else spec.get("value", spec.get("min")) for name, spec in parameters.items()}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_the_parameters_of_a_sweep_are_keys_of_the_command_line(path, capsys):
    sweep = yaml.safe_load(path.read_text())
    chosen = fixed(sweep["parameters"])
    command = [w for w in sweep["command"] if not w.startswith("${")]
    assert command[:3] == ["-m", "lus_lightning", "fit"]
    with pytest.raises(SystemExit) as ended:
        main([*command[2:], *(f"--{k}={v}" for k, v in chosen.items()), "--print_config"])
    assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for key, value in chosen.items():
        branch = printed
        for name in key.split("."):
            branch = branch[name]
        assert branch == value


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_the_objective_of_a_sweep_is_on_validation_patients(path):
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"]["name"].startswith("val/")
    assert any(w.startswith("--data.init_args.split.val_share=0.") for w in sweep["command"])


def test_the_local_sweep_draws_within_the_bounds_of_the_file():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    spec = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}
    draws = [suggest(study.ask(), "lr", spec) for _ in range(200)]
    assert 1e-4 <= min(draws) < 1e-3
    assert 1e-2 < max(draws) <= 1e-1
    assert {suggest(study.ask(), "b", {"values": [4, 8]}) for _ in range(20)} == {4, 8}
    assert suggest(study.ask(), "s", {"value": 7}) == 7


def test_a_distribution_that_the_local_sweep_does_not_know_is_refused():
    with pytest.raises(UserError, match="q_beta"):
        suggest(optuna.create_study().ask(), "x", {"distribution": "q_beta", "min": 0, "max": 1})


TRIAL = """
import json, os, sys, time
words = dict(w.lstrip("-").split("=") for w in sys.argv[1:] if "=" in w)
folder = sys.argv[sys.argv.index("--trainer.default_root_dir") + 1]
os.makedirs(folder)
if os.path.exists("wait"):
    time.sleep(60)
json.dump({"final": {"val/qwk": -(float(words["x"]) - 0.3) ** 2}}, open(folder + "/run.json", "w"))
"""


def test_a_local_sweep_that_was_killed_in_a_trial_goes_on_and_ends_with_all_its_trials(tmp_path):
    (tmp_path / "trial.py").write_text(TRIAL)
    sweep = {"metric": {"name": "val/qwk", "goal": "maximize"}, "parameters": {"x": {"distribution": "uniform", "min": 0.0, "max": 1.0}},
             "command": ["${env}", "${interpreter}", str(tmp_path / "trial.py"), "${args}"]}  # fmt: skip
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    run_here(sweep, tmp_path / "sweep", trials=2, extra=[])
    (tmp_path / "wait").touch()
    call = f"run_here(json.load(open('sweep.json')), Path({str(tmp_path / 'sweep')!r}), 4, [])"
    code = f"import json; from pathlib import Path; from lus_lightning.sweep import run_here; {call}"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True)
    while not (tmp_path / "sweep" / "trials" / "2").is_dir():
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (tmp_path / "wait").unlink()
    run_here(sweep, tmp_path / "sweep", trials=4, extra=[])
    done = sorted((tmp_path / "sweep" / "trials").glob("*/run.json"))
    assert len(done) == 4
    assert not Path(tmp_path / "sweep" / "trials" / "2" / "run.json").exists()


def test_a_further_option_never_takes_the_place_of_what_a_sweep_draws(tmp_path):
    (tmp_path / "trial.py").write_text(TRIAL)
    sweep = {"metric": {"name": "val/qwk", "goal": "maximize"}, "parameters": {"x": {"values": [0.25]}},
             "command": ["${interpreter}", str(tmp_path / "trial.py"), "${args}"]}  # fmt: skip
    run_here(sweep, tmp_path / "sweep", trials=1, extra=["--x=9"])
    final = json.loads((tmp_path / "sweep" / "trials" / "0" / "run.json").read_text())["final"]
    assert final["val/qwk"] == -((0.25 - 0.3) ** 2)


NAN_BELOW_HALF = TRIAL.replace("-(float(words", "float('nan') if float(words['x']) < 0.5 else -(float(words")


def test_a_trial_without_a_value_is_over_and_never_the_best(tmp_path, capsys):
    (tmp_path / "trial.py").write_text(NAN_BELOW_HALF)
    sweep = {"metric": {"name": "val/qwk", "goal": "maximize"}, "parameters": {"x": {"distribution": "uniform", "min": 0.0, "max": 1.0}},
             "command": ["${interpreter}", str(tmp_path / "trial.py"), "${args}"]}  # fmt: skip
    run_here(sweep, tmp_path / "sweep", trials=6, extra=[])
    finals = [json.loads(p.read_text())["final"]["val/qwk"] for p in sorted((tmp_path / "sweep" / "trials").glob("*/run.json"))]
    assert len(finals) == 6
    valued = [value for value in finals if value == value]
    assert 0 < len(valued) < 6, "the draws of this seed lie on both sides"
    assert f"6 trials; best val/qwk {max(valued):.4f}" in capsys.readouterr().out


def test_a_sweep_in_which_no_trial_has_a_value_says_so(tmp_path):
    (tmp_path / "trial.py").write_text(NAN_BELOW_HALF)
    sweep = {"metric": {"name": "val/qwk", "goal": "maximize"}, "parameters": {"x": {"values": [0.1]}},
             "command": ["${interpreter}", str(tmp_path / "trial.py"), "${args}"]}  # fmt: skip
    with pytest.raises(UserError, match="none of 2 trials has a value"):
        run_here(sweep, tmp_path / "sweep", trials=2, extra=[])


BEST_OF_THREE = TRIAL + """
values = [0.1, 0.6, 0.2]
json.dump({"final": {"val/qwk": values[-1]}, "best": {"epoch": 1}}, open(folder + "/run.json", "w"))
open(folder + "/curves.csv", "w").write("epoch,val/qwk\\n" + "".join(f"{e},{v}\\n" for e, v in enumerate(values)))
"""


def test_a_trial_whose_recipe_keeps_the_best_epoch_is_scored_by_that(tmp_path, capsys):
    (tmp_path / "trial.py").write_text(BEST_OF_THREE)
    sweep = {"metric": {"name": "val/qwk", "goal": "maximize"}, "parameters": {"x": {"values": [0.25]}},
             "command": ["${interpreter}", str(tmp_path / "trial.py"), "${args}"]}  # fmt: skip
    run_here(sweep, tmp_path / "sweep", trials=1, extra=[])
    assert "best val/qwk 0.6000 in its best epoch (2)" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["file", "args", "config", "data", "nothing"])
def test_a_sweep_of_another_file_of_other_options_or_data_takes_no_earlier_trials_as_its_own(changed, tmp_path, tiny_study, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("trial.py").write_text(TRIAL.replace('if "=" in w', 'if "=" in w and "config" not in w'))
    Path("mine.yaml").write_text("a: 1")
    data = Path(shutil.copytree(tiny_study, "data"))
    sweep = {"metric": {"name": "val/qwk", "goal": "maximize"}, "parameters": {"x": {"values": [0.25, 0.75]}}, "run_cap": 1,
             "command": ["${interpreter}", "trial.py", "--config", "mine.yaml", "${args}"]}  # fmt: skip
    Path("s.yaml").write_text(yaml.safe_dump(sweep))
    words = ["sweep", "s.yaml", "--local", "--root=data"]
    main(words)
    if changed == "file":
        Path("s.yaml").write_text(yaml.safe_dump(sweep | {"parameters": {"x": {"values": [0.5]}}}))
    elif changed == "config":
        Path("mine.yaml").write_text("a: 2")
    elif changed == "data":
        table = pd.read_csv(data / "index.csv")
        table.assign(score=table["score"].where(table.index > 0, 3 - table["score"])).to_csv(data / "index.csv", index=False)
    main([*words, *(["--args=--y=1"] if changed == "args" else [])])
    assert Path("runs/sweep-s.1/trials/0").exists() == (changed != "nothing")
    assert len(list(Path("runs/sweep-s/trials").glob("*/run.json"))) == 1


@pytest.mark.slow
def test_the_shipped_sweep_runs_two_trials_here_is_killed_in_the_second_and_goes_on(small_study, tmp_path):
    sweep = yaml.safe_load((EXPERIMENTS / "sweeps" / "xing.yaml").read_text())
    sweep["parameters"]["data.init_args.iterations"] = {"values": [3, 4]}
    (tmp_path / "xing.yaml").write_text(yaml.safe_dump(sweep))
    small = [
        "--config=experiments/with/quick-xing.yaml",
        "--config=experiments/with/no-wandb.yaml",
        "--model.init_args.selector=test_resnet",
        "--model.init_args.networks=[test_resnet,test_efficientnet]",
        "--model.init_args.folds=3",
        "--data.init_args.size=64",
        "--data.init_args.num_workers=0",
        "--data.init_args.choice.max_frames=1",
    ]
    words = ["sweep", str(tmp_path / "xing.yaml"), "--local", "--trials=2", f"--root={small_study}", f"--run={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "lus_lightning", *words, f"--args={' '.join(small)}"]
    process = subprocess.Popen(command, cwd=EXPERIMENTS.parent, start_new_session=True)
    while not (tmp_path / "run" / "trials" / "1" / "run.json").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, cwd=EXPERIMENTS.parent, check=True)
    states = {p.parent.name: json.loads(p.read_text()) for p in (tmp_path / "run" / "trials").glob("*/run.json")}
    finals = {name: state["final"] for name, state in states.items() if state["finished"]}
    assert len(finals) == 2
    assert "0" in finals
    assert all("val/qwk" in final and not any(k.startswith("test/") for k in final) for final in finals.values())
