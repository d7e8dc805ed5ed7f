"""The door: what a sample index may hold, and the sentence for what it may not."""

import numpy as np
import pandas as pd
import pytest

from lus_lightning.data.schema import COLUMNS, check_index
from lus_lightning.errors import UserError


def _table(**columns):
    rows = {"clip": ["a", "b", "c"], "path": ["a.mp4", "b.mp4", "c.mp4"], "patient": ["p1", "p1", "p2"]}
    return pd.DataFrame(rows | columns)


def test_a_minimal_table_gets_every_column_and_the_patient_as_exam():
    checked = check_index(_table())
    assert tuple(checked) == COLUMNS
    assert checked["exam"].tolist() == ["p1", "p1", "p2"]
    assert checked["score"].isna().all()
    assert checked["zone"].tolist() == [None] * 3


def test_labels_are_whole_numbers_and_a_missing_one_stays_missing():
    given = {"score": ["2.0", "", "0 "], "b_lines": ["1", None, "0"], "rater_1": [3, np.nan, 1], "truth_score": [1, 2, 3]}
    checked = check_index(_table(standard="xing", **given))
    assert checked["score"].tolist() == [2, pd.NA, 0]
    assert checked["b_lines"].tolist() == [1, pd.NA, 0]
    assert checked["rater_1"].tolist() == [3, pd.NA, 1]
    assert checked["truth_score"].tolist() == [1, 2, 3]
    assert str(checked["score"].dtype) == "Int64"


def test_strange_columns_are_left_outside():
    assert "shoe_size" not in check_index(_table(shoe_size=44))


@pytest.mark.parametrize(("first", "second"), [("p1 ", "p1"), (" p1", "p1"), ("Zoe\u0308", "Zo\u00eb"), (7.0, "7"), (7, "7")])
def test_one_patient_written_in_two_ways_is_one_patient(first, second):
    assert check_index(_table(patient=[first, second, "q"]))["patient"].nunique() == 2


def test_the_name_of_a_file_is_not_tidied():
    assert check_index(_table(path=[" a.mp4", "Zoe\u0308.mp4", "c.mp4"]))["path"].tolist() == [" a.mp4", "Zoe\u0308.mp4", "c.mp4"]


BREACHES = {
    "no patient": ({"patient": ["p1", None, "p2"]}, "row 2 (clip b): column `patient` is empty; fill it in"),
    "a blank patient": ({"patient": ["p1", "  ", "p2"]}, "row 2 (clip b): column `patient` is empty; fill it in"),
    "no path": ({"path": ["a", "b", None]}, "row 3 (clip c): column `path` is empty"),
    "score above 3": ({"score": [0, 1, 4], "standard": "xing"}, "row 3 (clip c): column `score` is 4; a score is 0, 1, 2 or 3"),
    "score below 0": ({"score": [0, -1, 4], "standard": "xing"}, "row 2 (clip b): column `score` is -1; a score is"),
    "half a score": ({"score": [0, 1.5, 2], "standard": "xing"}, "column `score` is 1.5; a score is"),
    "a score in words": ({"score": ["0", "severe", "2"], "standard": "xing"}, "column `score` is 'severe'; a score is 0, 1, 2 or 3"),
    "an infinite score": ({"score": [0, np.inf, 2], "standard": "xing"}, "row 2 (clip b): column `score` is inf"),
    "a rater's 5": ({"rater_2": [0, 5, 1]}, "column `rater_2` is 5; a score is"),
    "a sign of 2": ({"effusion": [0, 2, 1]}, "column `effusion` is 2; a sign is 0, 1, or empty (nobody looked)"),
    "clip names": ({"clip": ["a", "b", "a"]}, "row 3 (clip a): column `clip` is 'a'; another row has this clip name"),
    "clip names but for a space": ({"clip": ["a", "b", "a "]}, "another row has this clip name"),
    "a score of no standard": ({"score": [0, 1, 2]}, "column `standard` is empty; a score needs its standard; write one of soldati"),
    "frame labels of no standard": ({"frame_labels": ["f.csv", None, None]}, "a score needs its standard"),
    "an unknown standard": ({"score": [0, 1, 2], "standard": "ours"}, "column `standard` is 'ours'; a standard is soldati, xing, raillard"),
    "two standards": ({"score": [0, 1, 2], "standard": ["xing", "xing", "soldati"]}, "column `standard` is 'soldati'; rows above"),
    "a zone of no protocol": ({"zone": ["L1", "L4", None], "protocol": "6"}, "column `zone` is 'L4'; its protocol has no such zone"),
    "an unknown protocol": ({"zone": "L1", "protocol": "8"}, "column `protocol` is '8'; a protocol is 6, 12, 14"),
    "exam of two patients": ({"exam": ["1", "2", "1"]}, "column `exam` is '1'; two patients share this exam name"),
    "an absolute path": ({"path": ["/a.mp4", "b", "c"]}, "row 1 (clip a): column `path` is '/a.mp4'; must be relative"),
    "a path that leaves": ({"path": ["a/../../x.mp4", "b", "c"]}, "must be relative to the data folder"),
    "a Windows path": ({"mask": [r"masks\a.npz", None, None]}, "column `mask` is 'masks\\\\a.npz'; must be relative"),
    "no size of pixels": ({"mm_per_px": [0.2, 0, 0.1]}, "column `mm_per_px` is 0; give a positive number"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_told_with_file_row_value_and_rule(breach):
    columns, sentence = BREACHES[breach]
    with pytest.raises(UserError) as caught:
        check_index(_table(**columns), "index.csv")
    assert str(caught.value).startswith("index.csv, row ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("column", ["clip", "path", "patient"])
def test_a_missing_column_is_named(column):
    with pytest.raises(UserError, match=rf"index.csv: lacks the column\(s\) {column}; add them"):
        check_index(_table().drop(columns=column), "index.csv")


def test_a_table_without_rows_is_refused():
    with pytest.raises(UserError, match="has no rows"):
        check_index(_table().iloc[:0])


def test_the_given_table_is_left_as_it_was():
    table = _table(score=["1", "", "2"], standard="xing")
    before = table.copy(deep=True)
    check_index(table)
    pd.testing.assert_frame_equal(table, before)
