import json
import time

import numpy as np
import pandas as pd
import pytest

from lus_lightning.errors import UserError
from lus_lightning.evaluation.evaluate import evaluate
from lus_lightning.evaluation.intervals import patient_bootstrap
from lus_lightning.evaluation.metrics import metrics
from lus_lightning.scoring.levels import aggregate

LEVELS = ["frame", "clip", "zone", "exam"]


def has_warning(result: dict, text: str) -> bool:
    return any(text in warning for warning in result["warnings"])


def test_every_member_has_every_level_with_values_intervals_and_counts(predictions):
    result = evaluate(predictions(members=("a", "b")), replicates=100)
    assert list(result["members"]) == ["a", "b"]
    for levels in result["members"].values():
        assert list(levels) == LEVELS
        assert [levels[level]["n"] for level in LEVELS] == [24 * 6 * 4, 24 * 6, 24 * 6, 24]
        for record in levels.values():
            assert record["n_patients"] == 24
            assert np.sum(record["confusion"]) == record["n"]
            assert record["accuracy_ci"][0] <= record["accuracy"] <= record["accuracy_ci"][1]
            for name in ("accuracy_within_1", "qwk", "sensitivity", "specificity", "precision", "f1", "auroc", "auroc_severe"):
                assert {name, f"{name}_ci"} <= record.keys()
        assert {"sum_icc", "sum_icc_ci", "sum_bias", "sum_bias_ci"} <= levels["exam"].keys()


def test_the_figures_are_those_of_the_metrics_and_the_bootstrap_at_each_level(predictions):
    table = predictions()
    result = evaluate(table, seed=3)
    for level in LEVELS:
        rows = aggregate(table, level)
        record = result["members"]["net"][level]
        expected = metrics(rows["target"].to_numpy(), rows["pred"].to_numpy(), rows[[f"p_{c}" for c in range(4)]].to_numpy())
        for name, interval in patient_bootstrap(rows, seed=3).items():
            assert record[name] == (None if np.isnan(expected[name]) else pytest.approx(expected[name]))
            assert record[f"{name}_ci"] == (None if np.isnan(interval.low) else [interval.low, interval.high])


def test_the_result_is_plain_json_and_what_is_undefined_is_null(predictions):
    table = predictions()
    table.loc[table["target"] == 3, "target"] = 2
    result = evaluate(table, replicates=50)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["members"]["net"]["frame"]["sensitivity_3"] is None
    assert result["members"]["net"]["frame"]["sensitivity_3_ci"] is None


def test_a_table_read_back_from_its_file_gives_the_same_figures(predictions, tmp_path):
    table = predictions(members=("a", "b"))
    table.to_parquet(tmp_path / "predictions.parquet")
    assert evaluate(pd.read_parquet(tmp_path / "predictions.parquet"), replicates=20) == evaluate(table, replicates=20)


def test_below_20_patients_a_warning_says_that_the_interval_is_too_narrow(predictions):
    assert has_warning(evaluate(predictions(patients=19), replicates=50), "Only 19 patients (test)")
    assert not has_warning(evaluate(predictions(patients=20), replicates=50), "too narrow")


def test_an_interval_without_width_is_called_uncertain(predictions):
    table = predictions()
    assert not has_warning(evaluate(table, replicates=50), "without width")
    assert has_warning(evaluate(table.assign(pred=table["target"]), replicates=50, rule="majority"), "without width")


def test_frames_that_all_carry_their_clips_label_are_said_to(predictions):
    table = predictions()
    assert has_warning(evaluate(table, replicates=10), "a frame's target is its clip's")
    table["target"] = (table["target"] + table["frame"]) % 4
    assert not has_warning(evaluate(table, replicates=10), "a frame's target is its clip's")


def test_whole_clip_predictions_have_no_frame_level(predictions):
    table = predictions(frames=1).assign(frame=-1)
    assert list(evaluate(table, replicates=10)["members"]["net"]) == ["clip", "zone", "exam"]


def test_without_zones_the_exam_comes_from_clips_and_says_so(predictions):
    result = evaluate(predictions().assign(zone=None, protocol=None), replicates=10)
    assert list(result["members"]["net"]) == ["frame", "clip", "exam"]
    assert has_warning(result, "24 exams have clips without a zone")
    assert result["members"]["net"]["exam"]["sum_icc"] is None


def test_a_sign_task_has_a_level_of_signs_and_missing_labels_take_no_part(predictions):
    base = predictions().assign(p_2=np.nan, p_3=np.nan, standard=None)
    base["target"], base["pred"], base["p_1"] = base["target"] // 2, base["pred"] // 2, 1 - base["p_0"]
    unseen = base["clip"].isin(base["clip"].unique()[::3])
    half = base.assign(sign="a_lines", target=base["target"].mask(unseen, -1))
    blank = base.assign(sign="effusion", target=-1)
    result = evaluate(pd.concat([base.assign(sign="b_lines"), half, blank]), replicates=50)
    frame = result["members"]["net"]["frame"]
    assert list(frame) == ["b_lines", "a_lines"]
    assert frame["a_lines"]["n"] == (~unseen).sum()
    assert frame["a_lines"]["sensitivity_1"] == pytest.approx(half.query("target == 1")["pred"].mean())
    assert "sensitivity_2" not in frame["a_lines"]
    assert has_warning(result, "net, frame level, effusion: no row has a label")
    assert has_warning(result, "samples have no label")


def test_abstentions_are_errors_and_lower_the_coverage(predictions):
    table = predictions()
    table.loc[table["frame"] == 0, "pred"] = -1
    record = evaluate(table, replicates=10)["members"]["net"]["frame"]
    assert record["coverage"] == 0.75
    assert record["accuracy"] == pytest.approx((table["pred"] == table["target"]).mean())


def test_clean_labels_give_a_second_evaluation_against_the_truth(predictions):
    table = predictions()
    clean = table[["clip", "frame", "target"]].rename(columns={"target": "truth_score"})
    noisy = table.assign(target=(table["target"] + (table["row"] % 5 == 0)) % 4)
    result = evaluate(noisy, truth=clean, replicates=10)
    assert result["truth"]["members"] == evaluate(table, replicates=10)["members"]
    assert result["members"] != result["truth"]["members"]
    whole = clean.drop_duplicates("clip").assign(frame=-1)
    assert evaluate(noisy, truth=whole, replicates=10)["truth"] == result["truth"]
    part = evaluate(noisy, truth=clean[clean["frame"] > 0], replicates=10)
    assert part["truth"]["members"]["net"]["frame"]["n"] == (table["frame"] > 0).sum()
    assert has_warning(part, "have no clean label")
    with pytest.raises(UserError, match="twice"):
        evaluate(noisy, truth=pd.concat([clean, clean]))


def test_the_test_split_is_quoted_and_what_else_the_table_holds_stands_beside(predictions):
    stage1, net = predictions(members=("stage1",)).assign(split="oof", fold=1), predictions()
    result = evaluate(pd.concat([net, net.assign(split="val"), stage1]), replicates=10)
    assert result["split_of"] == {"net": "test", "stage1": "oof"}
    assert list(result["members"]) == ["net", "stage1"]
    assert list(result["by_split"]) == ["val"]
    assert list(result["by_split"]["val"]) == ["net"]


def test_a_split_by_frame_is_a_warning_and_a_split_by_patient_is_not(predictions, split_of):
    table = predictions()
    assert not has_warning(evaluate(table, split_of(table), replicates=10), "Split by")
    leaky = pd.concat([split_of(table, "frame"), split_of(table, "frame").assign(split="train")])
    assert has_warning(evaluate(table, leaky, replicates=10), "Split by frame, not by patient: 24 of 26 patients")


def test_scores_without_a_standard_are_said_to_have_none(predictions):
    assert has_warning(evaluate(predictions().assign(standard=None), replicates=10), "which standard")


def test_nine_members_of_5000_frames_with_1000_replicates_take_under_ten_seconds(predictions):
    table = predictions(patients=30, members=tuple("abcdefghi"), frames=28)
    assert len(table) > 9 * 5000
    start = time.perf_counter()
    evaluate(table)
    assert time.perf_counter() - start < 10
