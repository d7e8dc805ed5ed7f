import numpy as np
import pandas as pd
import pytest

from lus_lightning.errors import UserError
from lus_lightning.evaluation.audits import audit_run, check_predictions, check_split, patients_on_two_sides


def spoiled(table: pd.DataFrame, **change) -> pd.DataFrame:
    """The table with other values in its row 5."""
    table = table.copy()
    for column, value in change.items():
        table[column] = table[column].astype(object) if isinstance(value, str) else table[column]
        table.loc[5, column] = value
    return table


def test_a_sound_table_passes(predictions):
    check_predictions(predictions())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"standard": "xing"}, "mixes the scoring standards soldati and xing"),
        ({"patient": None}, "Row 5 .* names no patient"),
        ({"split": "predict"}, "Row 5 .* a split that is none of train, val, test, oof"),
        ({"target": 4}, "Row 5 .*clip c0001, frame 1, member net.* has a target that is neither"),
        ({"pred": -2}, "Row 5 .* has a pred that is neither"),
        ({"p_2": np.inf}, "Row 5 .* outside 0-1"),
        ({"p_1": -0.1}, "Row 5 .* outside 0-1"),
        ({"frame": 0}, "Row 5 .* stands there twice"),
        ({"frame": -1}, "Row 4 .* both whole-clip"),
        ({"protocol": "12"}, "two zone protocols"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_an_unsound_row_is_shown_with_what_is_wrong(predictions, change, said):
    with pytest.raises(UserError, match=said):
        check_predictions(spoiled(predictions(), **change))


def test_a_sign_has_two_classes(predictions):
    table = predictions().assign(sign="b_lines")
    with pytest.raises(UserError, match="neither a class nor -1"):
        check_predictions(table)


def test_a_missing_column_and_an_empty_table_are_refused(predictions):
    with pytest.raises(UserError, match="no column zone, standard"):
        check_predictions(predictions().drop(columns=["zone", "standard"]))
    with pytest.raises(UserError, match="no rows"):
        check_predictions(predictions().iloc[:0])


def test_a_patient_of_the_test_rows_that_the_split_trains_on_is_found(predictions, split_of):
    table = predictions()
    split = split_of(table)
    assert patients_on_two_sides(split, table).empty
    split.loc[split["patient"] == "p003", ["split", "fold"]] = "train", 2
    found = patients_on_two_sides(split, table)
    assert found.to_numpy().tolist() == [["p003", "test and train fold 2"]]
    with pytest.raises(UserError, match=r"1 patients are on two sides .* p003 \(test and train fold 2\)"):
        check_split(split, table)


def test_a_patient_with_clips_on_two_sides_of_the_split_alone_is_found(predictions, split_of):
    split = split_of(predictions())
    split.loc[0, "split"] = "val"
    assert patients_on_two_sides(split).to_numpy().tolist() == [["p000", "test and val"]]


def test_out_of_fold_rows_must_come_from_the_patients_own_fold(predictions, split_of):
    table = predictions().assign(split="oof", fold=0)
    split = split_of(table)
    split.loc[split["split"] == "test", ["split", "fold"]] = "train", 0
    assert patients_on_two_sides(split, table).empty
    wrong = table.assign(fold=table["fold"].mask(table["clip"] == "c0007", 1))
    assert patients_on_two_sides(split, wrong).to_numpy().tolist() == [["p001", "train fold 0 and train fold 1"]]


def test_a_test_row_may_name_the_fold_network_that_spoke(predictions, split_of):
    table = predictions()
    assert patients_on_two_sides(split_of(table), pd.concat([table, table.assign(member="fold3", fold=3)])).empty


def test_a_runs_folder_is_audited_from_its_files(predictions, split_of, tmp_path):
    with pytest.raises(UserError, match=r"split\.csv is not there"):
        audit_run(tmp_path)
    table = predictions()
    split_of(table).to_csv(tmp_path / "split.csv", index=False)
    table.to_parquet(tmp_path / "predictions.parquet")
    assert audit_run(tmp_path).endswith("No patient is on two sides.")
    split_of(table, "clip").to_csv(tmp_path / "split.csv", index=False)
    assert "Split by clip" in audit_run(tmp_path)
    split_of(table).assign(split="train", fold=0).to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(UserError, match="24 patients are on two sides"):
        audit_run(tmp_path)
