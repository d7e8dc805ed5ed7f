import json
from pathlib import Path

import pytest
from command_lines import EXPERIMENTS

from lus_lightning import reproduce
from lus_lightning.cli import main
from lus_lightning.runs import write_record


class Steps:
    """Stands for the commands `fit` and `test`: writes what they write, and remembers how it was called."""

    def __init__(self):
        self.calls, self.dies = [], False

    def __call__(self, command, words):
        self.calls.append((command, "--ckpt_path" in words))
        if command == "fit":
            folder = Path(words[words.index("--trainer.default_root_dir") + 1])
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            for file in ("config.yaml", "checkpoints/last.ckpt"):
                (folder / file).touch()
            if self.dies:
                raise KeyboardInterrupt
            write_record(folder, finished=True)


@pytest.fixture
def steps(monkeypatch):
    steps = Steps()
    monkeypatch.setattr(reproduce, "_run", steps)
    return steps


def run(folder, *options, roots=()):
    reproduce.fit_and_test(folder, [EXPERIMENTS / "xing.yaml"], list(options), roots)


def test_a_finished_run_is_not_trained_again(steps, tmp_path):
    run(tmp_path / "run")
    run(tmp_path / "run")
    assert steps.calls == [("fit", False), ("test", True)]


def test_an_unfinished_run_goes_on_from_its_checkpoint(steps, tmp_path):
    steps.dies = True
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run")
    steps.dies = False
    run(tmp_path / "run")
    assert steps.calls == [("fit", False), ("fit", True), ("test", True)]
    assert not (tmp_path / "run.1").exists()


@pytest.mark.parametrize("changed", ["options", "data"])
def test_a_run_with_another_configuration_or_other_data_moves_the_old_folder_aside(changed, steps, tmp_path, tiny_study):
    run(tmp_path / "run", "--model.init_args.lr=0.1")
    if changed == "options":
        run(tmp_path / "run", "--model.init_args.lr=0.2")
    else:
        run(tmp_path / "run", "--model.init_args.lr=0.1", roots=[str(tiny_study)])
    assert steps.calls == [("fit", False), ("test", True)] * 2
    assert json.loads((tmp_path / "run.1" / "run.json").read_text())["tested"]


def test_an_unknown_recipe_names_the_known_ones_in_any_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "nobody"])
    assert ended.value.code == 2
    assert "corso, corso-frames, four-signs" in capsys.readouterr().err


@pytest.mark.parametrize(("recipe", "beside"), [("munoz", "classifier"), ("xing", "initial"), ("four-signs", None)])
def test_a_recipe_is_compared_with_its_variants_and_with_the_recipes_that_carry_its_name(recipe, beside, steps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reported = {}
    monkeypatch.setattr("lus_lightning.report.html.make_report", lambda folder, others: reported.update({folder: others}))
    monkeypatch.setattr("lus_lightning.report.html.print_summary", lambda folder: None)
    reproduce.reproduce_command(recipe, size="quick")
    folder = Path("runs") / f"{recipe}-quick"
    assert reported == {folder: {beside: folder / "beside" / beside} if beside else {}}
    assert len(steps.calls) == (4 if beside else 2)
