"""The `index` command: what it finds, what it leaves out, and that it never touches the data."""

import re
import time

import numpy as np
import pandas as pd
import pytest
from clip_files import edit_index, smooth_frames, state, write_index, write_stills, write_video

from lus_lightning.cli import main
from lus_lightning.data import probe
from lus_lightning.data.frames import FrameChoice, frame_table
from lus_lightning.data.index import build_index


def test_the_command_counts_what_is_there_and_writes_the_table(study, tmp_path, capsys):
    before = state(study)
    main(["index", str(study), "--out", str(tmp_path / "out.csv")])
    shown = capsys.readouterr().out
    assert "0: 2  1: 2  2: 2  3: 2" in shown
    assert "soldati: 8" in shown
    assert "0 left out" in shown
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["frames"].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert set(table["height"]) == {48}
    assert set(table["width"]) == {64}
    assert set(table["fps"]) == {25.0}
    assert state(study) == before


def test_without_out_the_table_goes_to_the_cache_folder(study, tmp_path, monkeypatch):
    monkeypatch.setenv("LUS_CACHE", str(tmp_path / "cache"))
    before = state(study)
    main(["index", str(study)])
    (written,) = (tmp_path / "cache" / "indices").glob("study-*.csv")
    assert len(pd.read_csv(written)) == 8
    assert state(study) == before


def _no_patient_column(root):
    write_index(root, pd.read_csv(root / "index.csv").drop(columns="patient"))


def _empty(root):
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _only_notes(root):
    (root / "index.csv").rename(root / "notes.txt")


def _cut_all(root):
    for path in (root / "clips").iterdir():
        path.write_bytes(path.read_bytes()[:500])


PROBLEMS = {
    "a column is missing": (_no_patient_column, "index.csv: lacks the column(s) patient; add them"),
    "a score of 7": (lambda r: edit_index(r, 2, "score", 7), "index.csv, row 3 (clip c2): column `score` is 7; a score is 0, 1, 2 or 3"),
    "a clip name twice": (lambda r: edit_index(r, 4, "clip", "c1"), "index.csv, row 5 (clip c1): column `clip` is 'c1'; another row"),
    "a patient missing": (lambda r: edit_index(r, 5, "patient", None), "index.csv, row 6 (clip c5): column `patient` is empty; fill it in"),
    "two standards": (lambda r: edit_index(r, 5, "standard", "xing"), "rows above have another standard"),
    "an empty folder": (_empty, "is empty; give the folder that holds the clips"),
    "no table but notes": (_only_notes, "no layout that is known"),
    "no clip that can be read": (_cut_all, "none of its 8 clips can be used; the first, clips/c0.mp4"),
    "an empty table": (lambda r: (r / "index.csv").write_text("clip,path,patient\n"), "has no rows"),
    "an empty file": (lambda r: (r / "index.csv").write_text(""), "cannot be read as a table"),
    "of no known encoding": (lambda r: (r / "index.csv").write_bytes(b"clip,path,patient\na,b,\x81"), "save it as UTF-8"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_of_the_table_is_one_sentence_and_code_2(study, capsys, problem):
    spoil, sentence = PROBLEMS[problem]
    spoil(study)
    before = state(study)
    with pytest.raises(SystemExit) as caught:
        main(["index", str(study)])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1
    assert state(study) == before


@pytest.mark.parametrize(("root", "sentence"), [("nowhere", "there is no folder"), ("study/index.csv", "is a file, not a folder")])
def test_a_root_that_is_no_folder_is_told(study, capsys, root, sentence):
    with pytest.raises(SystemExit) as caught:
        main(["index", str(study.parent / root)])
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


def test_an_unknown_adapter_is_told_with_those_there_are(study, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["index", str(study), "--adapter", "dicom"])
    assert caught.value.code == 2
    assert "there is no adapter 'dicom'; choose one of simulated, covid-blues, pocus, san-matteo, table" in capsys.readouterr().err


def _mask(root, shape, **arrays):
    np.savez(root / "mask.npz", **(arrays or {"mask": np.ones(shape, np.uint8)}))
    edit_index(root, 3, "mask", "mask.npz")


def _labels(root, text):
    (root / "labels.csv").write_text(text)
    edit_index(root, 3, "frame_labels", "labels.csv")


def _black(root):
    write_video(root / "clips" / "c3.mp4", np.zeros((5, 48, 64), np.uint8))


def _npy(root):
    np.save(root / "clips" / "c3.npy", np.array([[[np.nan, 1]]]))
    edit_index(root, 3, "path", "clips/c3.npy")


BAD_CLIPS = {
    "truncated": (lambda r: (r / "clips/c3.mp4").write_bytes((r / "clips/c3.mp4").read_bytes()[:900]), "clips/c3.mp4"),
    "empty": (lambda r: (r / "clips/c3.mp4").write_bytes(b""), "is empty (0 bytes)"),
    "not a video": (lambda r: (r / "clips/c3.mp4").write_text("a letter"), "cannot be read"),
    "missing": (lambda r: (r / "clips/c3.mp4").unlink(), "there is no such file"),
    "a broken link": (lambda r: ((r / "clips/c3.mp4").unlink(), (r / "clips/c3.mp4").symlink_to("gone.mp4")), "there is no such file"),
    "all black": (_black, "every frame is black"),
    "not a number": (_npy, "1 NaN or infinite pixels"),
    "an unknown kind": (lambda r: edit_index(r, 3, "path", "index.csv"), "kind that is not read (.csv)"),
    "a mask of another size": (lambda r: _mask(r, (7, 40, 64)), "mask has 7 frames of 64 x 40 pixels, its clip 7 frames of 64 x 48"),
    "a mask of other frames": (lambda r: _mask(r, (6, 48, 64)), "mask has 6 frames of 64 x 48 pixels, its clip 7 frames of 64 x 48"),
    "a mask of no classes": (lambda r: _mask(r, 0, mask=np.full((7, 48, 64), 64, np.uint8)), "has the value 64"),
    "a mask under another name": (lambda r: _mask(r, 0, labels=np.ones((7, 48, 64), np.uint8)), "has no array 'mask'"),
    "a mask of floats": (lambda r: _mask(r, 0, mask=np.ones((7, 48, 64))), "needs uint8"),
    "no mask file": (lambda r: edit_index(r, 3, "mask", "gone.npz"), "gone.npz: there is no such file"),
    "a label of frame 7": (lambda r: _labels(r, "frame,score\n0,1\n7,1\n"), "row 2: column `frame` is 7; the clip has frames 0 to 6"),
    "a frame labelled twice": (lambda r: _labels(r, "frame,score\n0,1\n0,1\n"), "each named at most once"),
    "a frame's score of 4": (lambda r: _labels(r, "frame,score\n0,1\n1,4\n"), "row 2: column `score` is 4; a score is"),
    "frame labels without scores": (lambda r: _labels(r, "frame,rating\n0,1\n"), "lack the column(s) score"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_CLIPS)
def test_a_bad_clip_is_left_out_with_its_reason_and_does_not_stop_the_rest(study, tmp_path, capsys, kind):
    spoil, reason = BAD_CLIPS[kind]
    spoil(study)
    before = state(study)
    main(["index", str(study), "--out", str(tmp_path / "out.csv")])
    shown = capsys.readouterr().out
    assert reason in shown
    assert "1 left out; the index is in" in shown
    assert "c3" not in pd.read_csv(tmp_path / "out.csv")["clip"].tolist()
    assert len(pd.read_csv(tmp_path / "out.csv")) == 7
    with pytest.raises(SystemExit) as caught:
        main(["index", str(study), "--strict"])
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err
    assert state(study) == before


def test_black_and_repeated_frames_are_told_wherever_they_stand_and_are_no_samples(study, capsys):
    frames = smooth_frames(14)
    frames[[0, 1, 5, 13]] = 0
    frames[8:12] = frames[8]
    write_video(study / "clips" / "c5.mp4", frames)
    table = build_index(study).table
    assert table["black_frames"].tolist() == [None] * 5 + ["0-1 5 13"] + [None] * 2
    assert table["frozen_frames"].tolist() == [None] * 5 + ["9-11"] + [None] * 2
    assert table["frames"][5] == 14
    samples = frame_table(table, FrameChoice())
    assert samples.loc[samples["row"] == 5, "frame"].tolist() == [2, 3, 4, 6, 7, 8, 12]
    assert (samples["row"] != 5).sum() == table["frames"].drop(5).sum()
    main(["index", str(study), "--out", str(study.parent / "out.csv")])
    shown = capsys.readouterr().out
    assert re.search(r"of them black, no samples +│ 4 ", shown)
    assert re.search(r"of them frozen, no samples +│ 3 ", shown)


def test_a_still_that_is_repeated_keeps_one_frame(study):
    write_video(study / "clips" / "c5.mp4", smooth_frames(1).repeat(20, axis=0))
    table = build_index(study).table.iloc[[5]]
    assert frame_table(table, FrameChoice())["frame"].tolist() == [0]


def test_what_a_reader_did_to_a_clip_is_said_once(study, capsys):
    for name in ("a", "b"):
        write_stills(study / name, smooth_frames(3).astype(np.uint16) * 16)
    edit_index(study, 0, "path", "a")
    edit_index(study, 1, "path", "b")
    main(["index", str(study), "--out", str(study.parent / "out.csv")])
    assert "note: c0, c1 (2 clips): its values have 12 bits (the largest is 3200), so 4095 is white" in capsys.readouterr().out


def test_an_index_that_was_written_out_is_read_again(study, tmp_path):
    frames = smooth_frames(9)
    frames[3] = 0
    write_video(study / "clips" / "c5.mp4", frames)
    first = build_index(study)
    main(["index", str(study), "--out", str(tmp_path / "index.csv")])
    (study / "index.csv").write_bytes((tmp_path / "index.csv").read_bytes())
    assert build_index(study).table["black_frames"].tolist() == first.table["black_frames"].tolist()


def test_what_the_table_claims_of_a_file_is_not_believed(study):
    for column, value in (("frames", 999), ("height", 1), ("fps", 3)):
        edit_index(study, 0, column, value)
    assert build_index(study).table.loc[0, ["frames", "height", "fps"]].tolist() == [4, 48, 25.0]


def test_odd_names_folders_of_stills_and_links_are_clips_like_others(study):
    write_stills(study / "Zoë's area 1", smooth_frames(3))
    (study / "link").symlink_to(study / "clips" / "c0.mp4")
    (study / "link").rename(study / "clips" / "ln k.mp4")
    edit_index(study, 0, "path", "Zoë's area 1")
    edit_index(study, 1, "path", "clips/ln k.mp4")
    index = build_index(study, strict=True)
    assert index.table["frames"].tolist()[:2] == [3, 4]


def test_a_linked_data_root_is_the_same_data(study, tmp_path):
    (tmp_path / "a link ü").symlink_to(study)
    assert build_index(tmp_path / "a link ü").fingerprint == build_index(study).fingerprint


def test_the_second_call_decodes_nothing(study, tmp_path, monkeypatch):
    first = build_index(study, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(probe, "frames_of", lambda *_: pytest.fail("decoded again"))
    start = time.perf_counter()
    second = build_index(study, cache_dir=tmp_path / "cache")
    assert time.perf_counter() - start < 2
    pd.testing.assert_frame_equal(first.table, second.table)
    assert first.fingerprint == second.fingerprint


def test_a_damaged_memory_of_a_clip_is_made_again(study, tmp_path):
    first = build_index(study, cache_dir=tmp_path / "cache")
    for file in (tmp_path / "cache" / "probes").iterdir():
        file.write_bytes(file.read_bytes()[:80])
    pd.testing.assert_frame_equal(build_index(study, cache_dir=tmp_path / "cache").table, first.table)


def test_the_fingerprint_follows_labels_and_content_but_neither_time_nor_place(study):
    first = build_index(study).fingerprint
    for path in study.rglob("*.mp4"):
        path.touch()
    moved = study.rename(study.parent / "moved")
    assert build_index(moved).fingerprint == first
    edit_index(moved, 0, "score", 3)
    relabelled = build_index(moved).fingerprint
    assert relabelled != first
    write_video(moved / "clips" / "c0.mp4", 255 - smooth_frames(4))
    assert build_index(moved).fingerprint not in (first, relabelled)


def test_the_table_is_never_written_into_the_data(study, capsys):
    before = state(study)
    with pytest.raises(SystemExit):
        main(["index", str(study), "--out", str(study / "clips" / "out.csv")])
    assert "lies in the data folder, which is never written to" in capsys.readouterr().err
    assert state(study) == before
