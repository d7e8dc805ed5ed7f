import subprocess
import sys
import time

import pytest
import torch
from command_lines import EXPERIMENTS, words

from lus_lightning.cli import LIGHTNING, PLAIN, main


def test_help_lists_every_command_in_less_than_a_second_and_a_half_without_torch():
    code = "import sys; from lus_lightning.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert time.monotonic() - started < 1.5
    assert done.returncode == 0
    for command in (*LIGHTNING, *PLAIN):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", PLAIN)
def test_every_plain_command_starts_without_torch(command):
    start = f"try: main(['{command}', '--help'])\nexcept SystemExit: pass"
    code = f"import sys\nfrom lus_lightning.cli import main\n{start}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_an_unknown_command_and_a_missing_data_folder_are_told_in_one_sentence(capsys):
    assert "no command 'fly'" in refused(capsys, "fly")
    assert "nowhere" in refused(capsys, "index", "nowhere/at/all")


def test_a_checkpoint_with_other_hyper_parameters_is_refused_and_the_conflict_named(capsys, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save(
        {"hyper_parameters": {"lr": 0.5, "networks": ["resnet50", "vgg19", "torchvision:googlenet"]}},
        tmp_path / "checkpoints" / "last.ckpt",
    )
    said = refused(capsys, "fit", "--config", str(EXPERIMENTS / "xing.yaml"), "--ckpt_path", str(tmp_path / "checkpoints" / "last.ckpt"))
    assert "lr is 0.5 there and 0.001 here" in said
    assert "networks" not in said.split("use --config")[0]


def test_a_checkpoint_that_is_not_there_is_told(capsys):
    assert "no checkpoint nowhere.ckpt" in refused(
        capsys, "test", "--config", str(EXPERIMENTS / "xing.yaml"), "--ckpt_path", "nowhere.ckpt"
    )


def test_testing_without_a_checkpoint_is_refused(capsys, tiny_study, tmp_path):
    said = refused(capsys, "test", *words(EXPERIMENTS / "xing.yaml", EXPERIMENTS / "with/quick-xing.yaml", tiny_study, tmp_path / "run"))
    assert "untrained" in said


def test_a_loss_that_is_no_longer_finite_stops_the_run_and_leaves_no_spoiled_checkpoint(capsys, tiny_study, tmp_path):
    options = words(EXPERIMENTS / "xing.yaml", EXPERIMENTS / "with/quick-xing.yaml", tiny_study, tmp_path / "run")
    said = refused(capsys, "fit", *options, "--model.init_args.lr=1e30", "--data.init_args.iterations=3", "--model.init_args.folds=3",
                   "--model.init_args.selector=test_resnet", "--model.init_args.networks=[test_resnet,test_efficientnet]")  # fmt: skip
    assert "lower" in said
    assert not (tmp_path / "run" / "checkpoints").exists()
