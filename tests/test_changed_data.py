"""Between two commands the data change: the checkpoint's division of the patients holds, and what has changed is told."""

import json
import shutil

import pandas as pd
import pytest
from command_lines import EXPERIMENTS, words

from lus_lightning.cli import main

RECIPE, QUICK = EXPERIMENTS / "munoz-classifier.yaml", EXPERIMENTS / "with" / "quick-munoz-classifier.yaml"


@pytest.fixture
def data(tiny_study, tmp_path):
    """A copy of the tiny study, whose table may be written anew."""
    return shutil.copytree(tiny_study, tmp_path / "data")


@pytest.fixture
def trained(data, tmp_path):
    """A run on it, and the patients of each side."""
    run = tmp_path / "run"
    main(["fit", *words(RECIPE, QUICK, data, run)])
    return run


def sides(run):
    table = pd.read_csv(run / "split.csv", dtype=str)
    return {side: set(rows["patient"]) for side, rows in table.groupby("split")}


def edit(data, change):
    table = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)
    change(table).to_csv(data / "index.csv", index=False)


def relabel(table):
    return table.assign(score=[str((int(s) + 1) % 4) if i == 0 and s else s for i, s in enumerate(table["score"])])


def add_patient(table):
    new = table.head(3).assign(clip=[f"new-{i}" for i in range(3)], patient="somebody-new", exam="somebody-new")
    return pd.concat([table, new.assign(path=[f"new/{p}" for p in new["path"]], mask="", frame_labels="")])


def copy_files(data):
    """The new patient's clips: other files, as the same content under two patients is another matter."""
    table = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)
    for path, source in zip(table["path"].head(3), table["path"].tail(3), strict=True):
        target = data / "new" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / source, target)
        with target.open("ab") as file:  # an MP4 may carry a free box at its end
            file.write(b"\0\0\0\x0cfreenew!")


def again(command, run, *more):
    main([command, "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *more])


@pytest.mark.parametrize("command", ["fit", "test", "validate"])
def test_a_corrected_label_is_told_and_refused(command, data, trained, capsys):
    edit(data, relabel)
    with pytest.raises(SystemExit) as ended:
        again(command, trained)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    clip = pd.read_csv(data / "index.csv")["clip"][0]
    assert "1 clips have another label" in said
    assert f"{clip}: score" in said
    assert "after_change=leave_out" in said


@pytest.mark.parametrize("how", ["leave_out", "test"])
def test_a_new_patient_is_left_out_or_tested_only_and_nobody_changes_sides(how, data, trained):
    before = sides(trained)
    copy_files(data)
    edit(data, add_patient)
    again("fit", trained, f"--data.init_args.after_change={how}", "--trainer.max_epochs=2")
    again("test", trained, f"--data.init_args.after_change={how}")
    after = sides(trained)
    assert after["train"] == before["train"]
    assert after["test"] == before["test"] | ({"somebody-new"} if how == "test" else set())
    tested = set(pd.read_parquet(trained / "predictions.parquet").query("split == 'test'")["patient"])
    assert tested == after["test"]
    assert "somebody-new" in json.loads((trained / "run.json").read_text())["data"]["changed"][0]


def replace_file(data, table):
    with (data / table["path"][0]).open("ab") as file:
        file.write(b"\0\0\0\x0cfreenew!")
    return table


def to_another_patient(data, table):
    others = table.loc[table["patient"] != table["patient"][0], "patient"]
    return table.assign(patient=table["patient"].where(table.index > 0, others.iloc[-1]), exam=[f"e{i}" for i in range(len(table))])


CHANGES = {
    "are other files": replace_file,
    "are gone or without a label": lambda data, table: table.iloc[1:],
    "are another patient's now, and left out": to_another_patient,
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_change_of_the_data_is_told_refused_and_moves_nobody_to_another_side(what, data, trained, capsys):
    before = pd.read_csv(trained / "split.csv", dtype=str).set_index("clip")["split"]
    edit(data, lambda table: CHANGES[what](data, table))
    with pytest.raises(SystemExit):
        again("test", trained)
    assert f"1 clips {what}" in capsys.readouterr().err.replace("1 clips of 1 patients", "1 clips")
    again("fit", trained, "--data.init_args.after_change=leave_out", "--trainer.max_epochs=2")
    after = pd.read_csv(trained / "split.csv", dtype=str)
    assert dict(after.set_index("clip")["split"]).items() <= dict(before).items()
    assert (after.groupby("patient")["split"].nunique() == 1).all()
    main(["audit", str(trained)])


def test_a_corrected_label_is_the_one_that_is_tested_if_asked_for(data, trained):
    again("test", trained)
    tested = sides(trained)["test"]
    other = {str(s): str((s + 1) % 4) for s in range(4)}
    edit(data, lambda t: t.assign(score=t["score"].map(other).where(t["patient"].isin(tested), t["score"]), frame_labels=""))
    again("test", trained, "--data.init_args.after_change=leave_out")
    truth = pd.read_csv(data / "index.csv").set_index("clip")["score"]
    table = pd.read_parquet(trained / "predictions.parquet").query("split == 'test'")
    assert (table["target"].to_numpy() == truth[table["clip"]].to_numpy()).all()


@pytest.mark.parametrize("option", ["--data.init_args.split.test_share=0.5", "--data.init_args.split.seed=3", "--seed_everything=7"])
def test_another_division_than_the_checkpoints_is_refused(option, trained, capsys):
    with pytest.raises(SystemExit):
        again("test", trained, option)
    assert "divided otherwise" in capsys.readouterr().err


CONDITIONS = {"torch": ("versions", "torch", "0.1"), "processes": ("processes", None, 4), "device": ("device", None, "tpu")}


@pytest.mark.parametrize("what", CONDITIONS)
def test_other_versions_devices_or_processes_than_in_training_are_told_in_the_terminal_and_on_the_page(what, trained, capsys):
    entry, name, other = CONDITIONS[what]
    info = json.loads((trained / "run.json").read_text())
    info[entry] = info[entry] | {name: other} if name else other
    (trained / "run.json").write_text(json.dumps(info))
    again("fit", trained, "--trainer.max_epochs=2")
    assert f"{what} was {other} and is" in capsys.readouterr().out
    again("test", trained)
    assert "other conditions" not in capsys.readouterr().out  # as the training that went on
    main(["report", str(trained)])
    assert f"The training went on under other conditions: {what} was {other} and is" in (trained / "report" / "index.html").read_text()
    (trained / "run.json").write_text(json.dumps(json.loads((trained / "run.json").read_text()) | {entry: info[entry]}))
    again("test", trained)
    assert f"{what} was {other} and is" in capsys.readouterr().out
    main(["report", str(trained)])
    assert f"It was tested under other conditions: {what} was {other} and is" in (trained / "report" / "index.html").read_text()


def test_other_data_than_it_was_trained_on_are_refused_and_the_option_named(trained, tiny_signs, capsys):
    with pytest.raises(SystemExit):
        again("test", trained, "--data.init_args.root", str(tiny_signs))
    assert "data.init_args.test_root" in capsys.readouterr().err


def test_predict_takes_any_clips(trained, tiny_signs):
    again("predict", trained, "--data.init_args.root", str(tiny_signs))
    assert set(pd.read_csv(trained / "predict" / "clips.csv")["clip"]) == set(pd.read_csv(tiny_signs / "index.csv")["clip"])
    assert pd.read_csv(trained / "predict" / "left_out.csv").empty


def test_predict_on_a_folder_ends_with_what_it_left_out(trained, tiny_study, tmp_path, capsys):
    folder = tmp_path / "new"
    (folder / "P1").mkdir(parents=True)
    shutil.copyfile(tiny_study / pd.read_csv(tiny_study / "index.csv")["path"][0], folder / "P1" / "a.mp4")
    for name in ("empty.mp4", "a.dcm", "._a.mp4", ".DS_Store"):
        (folder / "P1" / name).touch()
    again("predict", trained, "--data.init_args.root", str(folder))
    assert pd.read_csv(trained / "predict" / "clips.csv")["clip"].tolist() == ["P1/a"]
    assert pd.read_csv(trained / "predict" / "left_out.csv")["path"].tolist() == ["P1/empty.mp4", "P1/a.dcm"]
    said = capsys.readouterr().out
    assert "left out, 1: is empty (0 bytes)" in said
    assert "left out, 1: is DICOM, which is not read yet; convert it to MP4 or PNG first\n    P1/a.dcm" in said
    assert "2 left out: predict/left_out.csv" in said


def test_a_moved_run_is_tested_where_it_lies_now(trained, tmp_path):
    moved = trained.rename(tmp_path / "moved")
    again("test", moved)
    assert len(pd.read_parquet(moved / "predictions.parquet"))
    assert not trained.exists()


def test_a_run_tested_on_other_data_says_so_and_back_again(trained, tiny_clips):
    again("test", trained)
    own = json.loads((trained / "run.json").read_text())["data"]
    again("test", trained, "--data.init_args.test_root", str(tiny_clips))
    card = json.loads((trained / "run.json").read_text())["data"]
    assert card["test_name"] == tiny_clips.name
    assert card["name"] == own["name"]
    assert card["test_patients"] == pd.read_parquet(trained / "predictions.parquet").query("split == 'test'")["patient"].nunique()
    again("test", trained)
    assert json.loads((trained / "run.json").read_text())["data"] == own


def test_the_split_and_the_batches_follow_seed_everything_unless_set(tiny_study, tmp_path):
    main(["fit", *words(RECIPE, QUICK, tiny_study, tmp_path / "a", "--seed_everything=7")])
    main(["fit", *words(RECIPE, QUICK, tiny_study, tmp_path / "b", "--seed_everything=8", "--data.init_args.split.seed=7")])
    card = [json.loads((tmp_path / run / "run.json").read_text())["data"] for run in "ab"]
    assert [(c["split_seed"], c["batch_seed"]) for c in card] == [(7, 7), (7, 8)]
    assert sides(tmp_path / "a") == sides(tmp_path / "b")
