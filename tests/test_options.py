"""Lightning's own options that cannot work here end in a sentence, and leave an earlier run where it is."""

import pickle

import pytest
import torch
from command_lines import EXPERIMENTS, words

from lus_lightning.cli import main

RECIPE, QUICK = EXPERIMENTS / "munoz-classifier.yaml", EXPERIMENTS / "with" / "quick-munoz-classifier.yaml"
REFUSED = {
    "--trainer.enable_checkpointing=false": "leave trainer.enable_checkpointing out",
    "--trainer.barebones=true": "leave trainer.barebones out",
    "--trainer.precision=bf16-true": "take bf16-mixed",
    "--trainer.devices=999": "999 processes are too many",
    "--trainer.strategy=nothing": "Lightning refuses these options",
    "--trainer.accelerator=mps": "Lightning refuses these options",
    "--trainer.logger=MLFlowLogger": "needs a package that is not here",
    "--trainer.callbacks+=LearningRateFinder": "LearningRateFinder sets a value that config.yaml does not know",
    "--trainer.callbacks+=BatchSizeFinder": "BatchSizeFinder sets a value that config.yaml does not know",
}


def refused(capsys, command, *options):
    with pytest.raises(SystemExit) as ended:
        main([command, *options])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_cannot_work_is_refused_in_a_sentence_and_an_earlier_run_stays(option, capsys, tiny_study, tmp_path):
    if option.endswith("mps") and torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("an earlier run's")
    said = refused(capsys, "fit", *words(RECIPE, QUICK, tiny_study, run, option))
    assert REFUSED[option] in said
    assert (run / "config.yaml").read_text() == "an earlier run's"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


class Code:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("what", ["code", "cut short", "a list", "no checkpoint"])
@pytest.mark.parametrize("use", ["checkpoint", "weights"])
def test_a_file_that_is_no_checkpoint_or_holds_code_is_refused_and_nothing_of_it_runs(what, use, capsys, tiny_study, tmp_path):
    file = tmp_path / "given.ckpt"
    torch.save({"weight": torch.zeros(3)} if what in ("cut short", "no checkpoint") else Code() if what == "code" else [1], file)
    if what == "cut short":
        file.write_bytes(file.read_bytes()[:200])
    option = f"--ckpt_path={file}" if use == "checkpoint" else f"--model.init_args.weights={file}"
    said = refused(capsys, "fit", *words(RECIPE, QUICK, tiny_study, tmp_path / "run", option))
    assert str(file) in said
    assert "this ran" not in said
    assert pickle.UnpicklingError.__name__ not in said


@pytest.mark.parametrize("seed", [0, 2**24, 2**32 - 1])
def test_any_seed_that_lightning_allows_trains(seed, tiny_study, tmp_path):
    main(["fit", *words(RECIPE, QUICK, tiny_study, tmp_path / "run", f"--seed_everything={seed}", "--trainer.fast_dev_run=true")])
