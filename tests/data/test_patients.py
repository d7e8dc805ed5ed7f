"""One person under two names, one file under two patients, one clip on two sides."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lus_lightning.cli import main
from lus_lightning.data.index import build_index
from lus_lightning.data.patients import check_sides, look_alikes, one_spelling
from lus_lightning.data.sources import read_sources
from lus_lightning.errors import UserError

SAME = [("７", "7"), ("7.0", "7"), ("P\u00a01", "P 1"), ("P  1", "P 1"), ("P\u200b1", "P1"), ("Ａ１", "A1"), (" P1 ", "P1")]
ALIKE = [("p1", "P1"), ("P 1", "P1"), ("7", "007"), ("P7", "P07"), ("Рhil", "Phil"), ("ΑΒ", "AB")]
OTHER = [("P1", "P2"), ("P1-1", "P11"), ("10", "1"), ("100", "10"), ("anna", "hanna"), ("P1.5", "P15")]


@pytest.mark.parametrize(("written", "meant"), SAME)
def test_a_name_that_can_mean_one_thing_only_is_taken_as_that(written, meant):
    assert one_spelling([written, None]) == [meant, None]


def test_where_a_patient_is_called_7_5_the_name_7_0_stays():
    assert one_spelling(["7.0", "7.5"]) == ["7.0", "7.5"]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_are_told(one, other):
    assert look_alikes([one, other, "somebody else"]) == [sorted([one, other])]


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_names_that_do_not_look_alike_are_not(one, other):
    assert look_alikes([one, other]) == []


@given(st.lists(st.text(max_size=8).filter(lambda name: name.strip()), max_size=8))
def test_one_spelling_is_the_spelling_of_itself(names):
    once = one_spelling(names)
    assert one_spelling(once) == once


@pytest.fixture
def data(tiny_study, tmp_path):
    return Path(shutil.copytree(tiny_study, tmp_path / "a" / "study"))


def rewrite(data, **columns):
    table = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)
    for column, change in columns.items():
        table[column] = change(table)
    table.to_csv(data / "index.csv", index=False)


def renamed(table, new):
    """The second clip of the first patient is `new`'s."""
    first = table["patient"][0]
    rows = table.index[table["patient"] == first]
    return table["patient"].where(table.index != rows[1], new(first))


def test_a_patient_written_in_two_ways_is_one_and_index_says_so(data, capsys):
    before = build_index(data).table["patient"]
    rewrite(data, patient=lambda t: renamed(t, lambda name: f"{name}\u200b"), exam=lambda t: t["exam"])
    assert list(build_index(data).table["patient"]) == list(before)
    main(["index", str(data)])
    assert f"is taken as '{before[0]}'" in capsys.readouterr().out


def test_patients_that_look_alike_are_told_by_index_and_refused_on_two_sides():
    split = pd.DataFrame({"patient": ["p1", "P1", "b"], "split": ["train", "test", "train"], "fold": -1})
    with pytest.raises(UserError, match="'P1' and 'p1' look alike"):
        check_sides(split, ())
    check_sides(split, ("P1", "p1"))
    check_sides(split.assign(split="train"), ())
    with pytest.raises(UserError, match="look alike"):
        check_sides(split.assign(split="train", fold=[0, 1, 0]), ())


def test_index_tells_patients_that_look_alike(data, capsys):
    rewrite(data, patient=lambda t: renamed(t, str.upper), exam=lambda t: [f"exam {i}" for i in range(len(t))])
    main(["index", str(data)])
    assert "look alike; are they one person?" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["patient", "label"])
def test_one_file_under_two_patients_or_with_two_labels_is_refused_with_both_rows(what, data):
    table = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)
    copy = table.head(1).assign(clip="copied", path="copied" + Path(table["path"][0]).suffix, mask="", frame_labels="")
    source, target = data / table["path"][0], data / copy["path"][0]
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    other = {"patient": {"patient": "q", "exam": "q"}, "label": {"score": str((int(table["score"][0]) + 1) % 4)}}[what]
    pd.concat([table, copy.assign(**other)]).to_csv(data / "index.csv", index=False)
    with pytest.raises(UserError, match=f"{table['clip'][0]}.*copied.*same file under two {what}s"):
        build_index(data)
    pd.concat([table, copy]).to_csv(data / "index.csv", index=False)
    assert "hold the same file" in build_index(data).notes[0]


@pytest.mark.parametrize("where", ["the same", "a copy", "one clip"])
def test_clips_that_are_trained_on_are_not_tested_on_under_any_name(where, data, tmp_path, small_study):
    other = data
    if where == "a copy":
        other = shutil.copytree(data, tmp_path / "another name")
    if where == "one clip":
        other = Path(shutil.copytree(small_study, tmp_path / "other"))
        table = pd.read_csv(other / "index.csv", dtype=str, keep_default_na=False)
        first = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)["path"][0]
        source, target = data / first, other / table["path"][0]
        (shutil.rmtree if target.is_dir() else Path.unlink)(target)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        table.assign(mask="", frame_labels="").to_csv(other / "index.csv", index=False)
    with pytest.raises(UserError, match=r"clips of the test data .* are also in the training data"):
        read_sources(data, other, None, tmp_path / "cache")


def test_two_folders_of_one_name_are_told_apart_and_so_are_their_exams(data, small_study, tmp_path):
    other = Path(shutil.copytree(small_study, tmp_path / "b" / "study"))
    rewrite(other, clip=lambda t: [f"c{i}" for i in range(len(t))])
    sources = read_sources(data, other, None, tmp_path / "cache")
    assert sources.names == ("a/study", "b/study")
    assert sources.card()["test_name"] == "b/study"
    assert not set(sources.clips.query("source == 0")["exam"]) & set(sources.clips.query("source == 1")["exam"])


def test_a_patient_called_na_stays_in_our_own_tables(tmp_path):
    from lus_lightning.data.tables import read_own

    table = pd.DataFrame({"clip": ["1", "nan"], "patient": ["NA", "007"], "split": ["train", "test"], "fold": [-1, 2], "x": [0.5, None]})
    table.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(read_own(tmp_path / "t.csv"), table, check_dtype=False)
