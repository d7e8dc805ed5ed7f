import hashlib

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from lus_lightning.data.index import build_index
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES, SIGNS
from lus_lightning.simulator import clips, dataset
from lus_lightning.simulator.dataset import write_study
from lus_lightning.simulator.studies import STUDIES, ensure_study, find_study, held_out_patients, patient_names


def _small(**changes):
    return find_study("tiny", **{"patients": 3, "frames": 4, "size": 64} | changes)


def _digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_on_one_and_two_processes(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        write_study(_small(), tmp_path / name, workers)
    assert _digest(tmp_path / "one") == _digest(tmp_path / "two")
    write_study(_small(seed=1), tmp_path / "other", 1)
    assert _digest(tmp_path / "one")["index.csv"] != _digest(tmp_path / "other")["index.csv"]


def test_an_interrupted_simulation_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    write_study(_small(), tmp_path / "whole", 1)
    done, save = [], dataset.save_row

    def breaks_off(path, row):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(row["clip"])
        save(path, row)

    monkeypatch.setattr(dataset, "save_row", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        write_study(_small(), tmp_path / "broken", 1)
    assert not (tmp_path / "broken").exists()
    again = []
    monkeypatch.setattr(dataset, "save_row", lambda path, row: (again.append(row["clip"]), save(path, row)))
    write_study(_small(), tmp_path / "broken", 1)
    assert not set(done) & set(again)
    assert _digest(tmp_path / "broken") == _digest(tmp_path / "whole")


def test_the_index_tells_what_the_files_hold(tiny):
    table = pd.read_csv(tiny / "index.csv", dtype={"protocol": str})
    assert table["clip"].is_unique
    assert len(table) == 48
    for row in table.iloc[::9].itertuples():
        with av.open(str(tiny / row.path)) as video:
            frames = np.stack([frame.to_ndarray(format="gray") for frame in video.decode(video=0)])
            assert float(video.streams.video[0].average_rate) == row.fps
        assert frames.shape == (row.frames, row.height, row.width)
        arrays = np.load(tiny / row.mask)
        assert arrays["mask"].shape == frames.shape
        assert arrays["beam"].shape == arrays["beam_mask"].shape == (row.frames, 128, 256)
        assert arrays["mask"].max() < 1 << len(MASK_CLASSES)
        labels = pd.read_csv(tiny / row.frame_labels)
        assert labels["frame"].is_unique
        assert set(labels["frame"]) <= set(range(row.frames))


def test_decoded_pictures_are_the_rendered_ones_but_for_little_coding_loss(tiny):
    study = find_study("tiny")
    row = pd.read_csv(tiny / "index.csv").iloc[7]
    scene, _ = clips.study_scene(study, 1, 1, 0)
    settings = clips.study_patient(study, 1)[1]
    rendered = clips.render_clip(scene, settings, np.arange(study.frames) / settings.fps).frames
    with av.open(str(tiny / row["path"])) as video:
        decoded = np.stack([frame.to_ndarray(format="gray") for frame in video.decode(video=0)])
    assert np.abs(decoded[3].astype(int) - rendered[3]).mean() < 5
    assert np.corrcoef(decoded[3].ravel(), rendered[3].ravel())[0, 1] > 0.97


def test_the_tiny_study_has_all_scores_two_raters_and_known_test_patients(tiny):
    table, facts = pd.read_csv(tiny / "index.csv"), yaml.safe_load((tiny / "study.yaml").read_text())
    assert set(table["truth_score"]) == {0, 1, 2, 3}
    assert set(table["score"].dropna()) == {0, 1, 2, 3}
    assert {"rater_1", "rater_2"} <= set(table)
    assert set(facts["test_patients"]) < set(table["patient"])
    assert "simulated" in facts
    agree = table["rater_1"] == table["rater_2"]
    assert (table["score"].notna() == agree).all()
    assert (table.loc[agree, "score"] == table.loc[agree, "rater_1"]).all()
    assert set(SIGNS) <= set(table)


def test_a_san_matteo_study_is_folders_of_stills_and_an_annotations_file(tmp_path):
    write_study(_small(layout="san-matteo", masks=False), tmp_path / "out", 1)
    notes = pd.read_csv(tmp_path / "out" / "Annotations.txt")
    assert list(notes.columns) == ["patient", "exam", "area", "score"]
    note = notes.iloc[0]
    stills = sorted((tmp_path / "out" / note.patient / note.exam / note.area).glob("*.jpg"))
    assert len(stills) == 4
    assert cv2.imread(str(stills[0]), cv2.IMREAD_GRAYSCALE).shape == (64, 64)


def test_the_san_matteo_adapter_reads_the_clips_and_scores_that_the_simulator_wrote(tiny_clips):
    written = pd.read_csv(tiny_clips / "index.csv", dtype={"zone": str})
    read = build_index(tiny_clips, "san-matteo").table.set_index("path").loc[written["path"]]
    assert read["score"].tolist() == written["score"].astype("Int64").tolist()
    assert (read[["patient", "zone"]].to_numpy() == written[["patient", "zone"]].to_numpy()).all()
    assert read["frames"].tolist() == written["frames"].tolist()
    assert written["frames"].nunique() > 5
    assert set(read["standard"]) == {"soldati"}


def test_a_study_is_simulated_into_the_cache_once_for_each_set_of_parameters(tmp_path, monkeypatch):
    changes = {"patients": 2, "frames": 2, "size": 64}
    folder = ensure_study("tiny", tmp_path, workers=1, **changes)
    assert (folder / "index.csv").is_file()
    monkeypatch.setattr(dataset, "write_clip", lambda *_: pytest.fail("simulated a second time"))
    assert ensure_study("tiny", tmp_path, workers=1, **changes) == folder
    monkeypatch.undo()
    assert ensure_study("tiny", tmp_path, workers=1, **changes, seed=5) != folder


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no simulated study"):
        write_study(_small(), tmp_path / "out", 1)
    write_study(_small(), tmp_path / "study", 1)
    with pytest.raises(UserError, match="another simulated study"):
        write_study(_small(seed=3), tmp_path / "study", 1)


@pytest.mark.parametrize("changes", [{"patients": 0}, {"size": 8}, {"protocol": "13"}, {"colour": 1}, {"layout": "zip"}, {"held_out": 3}])
def test_impossible_studies_are_refused(changes):
    with pytest.raises(UserError):
        _small(**changes)


def test_an_unknown_study_or_scanner_is_named():
    with pytest.raises(UserError, match="'xin'"):
        find_study("xin")
    with pytest.raises(UserError, match="'ge'"):
        clips.study_patient(_small(scanners=("ge",)), 0)


@pytest.mark.parametrize("name", STUDIES)
def test_every_default_study_names_its_test_patients_among_its_patients(name):
    study = STUDIES[name]
    held_out = held_out_patients(study)
    assert len(set(held_out)) == study.held_out
    assert set(held_out) <= set(patient_names(study))
