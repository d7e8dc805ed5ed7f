import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from command_lines import EXPERIMENTS

from lus_lightning import sweep
from lus_lightning.cli import main
from lus_lightning.errors import UserError
from lus_lightning.recipes import KINDS, names, recipe_file, with_files

SHIPPED = {str(path.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("*.yaml")}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_shipped_file_has_a_name_and_is_found_from_another_folder():
    assert {f"{name}.yaml" for kind in KINDS for name in names(kind)} == SHIPPED
    for name in SHIPPED:
        for asked in (name, name.removesuffix(".yaml"), f"experiments/{name}"):
            assert recipe_file(asked) == EXPERIMENTS / name


def test_a_file_of_the_users_own_comes_before_a_shipped_one():
    Path("experiments").mkdir()
    Path("experiments/xing.yaml").touch()
    assert recipe_file("experiments/xing.yaml") == Path("experiments/xing.yaml")
    assert recipe_file("xing") == EXPERIMENTS / "xing.yaml"


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(UserError, match=r"no recipe nobody.*munoz, munoz-classifier"):
        recipe_file("nobody")
    with pytest.raises(UserError, match=r"no sweep nobody.*sweeps/munoz"):
        recipe_file("nobody", "sweeps")


def test_fit_takes_the_names_of_recipes_and_overlays_as_configurations():
    words = with_files(["fit", "--config", "xing", "--config=with/quick-xing", "--trainer.max_epochs", "xing"])
    assert words == ["fit", "--config", str(EXPERIMENTS / "xing.yaml"), f"--config={EXPERIMENTS / 'with/quick-xing.yaml'}",
                     "--trainer.max_epochs", "xing"]  # fmt: skip


def test_a_recipe_is_printed_to_be_edited_and_all_are_listed(capsys):
    main(["recipe", "xing"])
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load((EXPERIMENTS / "xing.yaml").read_text())
    main(["recipe"])
    listed = capsys.readouterr().out
    assert all(name.removesuffix(".yaml") in listed for name in SHIPPED)


def test_a_sweep_is_found_by_name_and_its_trials_find_their_recipe_elsewhere(monkeypatch):
    asked = {}
    monkeypatch.setattr(sweep, "run_here", lambda spec, folder, trials, extra: asked.update({folder: spec}))
    sweep.sweep_command("xing", local=True)
    command = asked[Path("runs/sweep-xing")]["command"]
    assert str(EXPERIMENTS / "xing.yaml") in with_files(command)


def test_a_wheel_built_from_a_checkout_or_from_its_sdist_holds_every_recipe_and_nothing_beside_the_package(tmp_path):
    if not find_spec("setuptools"):
        pytest.skip("setuptools is not installed here")
    source = tmp_path / "source"
    for name in ("lus_lightning", "experiments"):
        shutil.copytree(EXPERIMENTS.parent / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(EXPERIMENTS.parent / name, source)
    build = "from setuptools import build_meta as backend; backend.build_sdist('.'); backend.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    sdist, wheel = next(source.glob("*.tar.gz")), next(source.glob("*.whl"))
    shutil.unpack_archive(sdist, tmp_path)
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    subprocess.run([sys.executable, "-c", build], cwd=unpacked, capture_output=True, check=True)
    for path in (wheel, next(unpacked.glob("*.whl"))):
        files = set(zipfile.ZipFile(path).namelist())
        assert {f"lus_lightning/experiments/{name}" for name in SHIPPED} <= files
        assert {file.split("/")[0].split("-")[0] for file in files} == {"lus_lightning"}
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    listed = subprocess.run([sys.executable, "-m", "lus_lightning", "recipe"], cwd=tmp_path / "installed", capture_output=True, text=True)
    assert "with/quick-xing" in listed.stdout
