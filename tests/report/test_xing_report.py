"""Xing's tables and figures hold what pandas and scikit-learn make of the run's own files."""

import json

import numpy as np
import pandas as pd
import pytest
from run_builder import NETWORKS, tables_of, write_run
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, recall_score, roc_auc_score

from lus_lightning.errors import UserError
from lus_lightning.evaluation.intervals import interval, resample_weights
from lus_lightning.report.html import make_report

NAMES = {"ResNet-50, here resnet10t": "resnet10t", "Vgg-19, here vgg11_bn": "vgg11_bn", "GoogLeNet": "googlenet", "Vote": "vote"}
SCORES = [f"Score {c}" for c in range(4)]


@pytest.fixture(scope="session")
def csv(xing_run):
    """A table of the report as (row, column) -> printed, here, low, high, ..."""
    return lambda name: pd.read_csv(xing_run / "report" / f"{name}.csv", dtype={"column": str}).set_index(["row", "column"])


@pytest.fixture(scope="session")
def rows(xing_run):
    """A member's test rows, of this run or the initial one."""
    tables = {name: pd.read_parquet(xing_run / path / "predictions.parquet").query("split == 'test'")
              for name, path in (("selected", "."), ("initial", "beside/initial"))}  # fmt: skip
    return lambda member, run="selected": tables[run][tables[run]["member"] == member]


def recalls(table):
    each = 100 * recall_score(table["target"], table["pred"], labels=range(4), average=None)
    return dict(zip([*SCORES, "Average"], [*each, each.mean()], strict=True))


def test_fig_11_has_methods_2_to_10_and_the_printed_ones_beside_them(csv, rows):
    table = csv("fig_11").xs("Accuracy", level="column")
    folds = [accuracy_score(t["target"], t["pred"]) for t in (rows(f"fold{i}") for i in range(5))]
    nets = [rows(m, run) for run in ("initial", "selected") for m in (*NETWORKS, "vote")]
    expected = [np.nan, 100 * np.mean(folds), *(100 * accuracy_score(t["target"], t["pred"]) for t in nets)]
    assert list(table["here"]) == pytest.approx(expected, nan_ok=True)
    printed = [87.1, 85.99, np.nan, np.nan, np.nan, 93.0, 87.8, 94.9, 92.8, 96.1]
    assert list(table["printed"]) == pytest.approx(printed, nan_ok=True)
    assert (table["low"] <= table["here"]).dropna().sum() == (table["here"] <= table["high"]).dropna().sum() == 9


def test_the_mean_of_stage_1_has_the_interval_of_a_plain_loop_over_resamples(csv, rows):
    patients = rows("fold0")["patient"].unique()
    folds = [rows(f"fold{i}") for i in range(5)]
    right = np.mean([[(t["pred"] == t["target"])[t["patient"] == p].sum() for p in patients] for t in folds], axis=0)
    size = np.array([(rows("fold0")["patient"] == p).sum() for p in patients])
    weights = resample_weights(len(patients), 300, 0)
    expected = interval(np.array([(w * right).sum() / (w * size).sum() for w in weights]), len(patients))
    found = csv("fig_11").loc[("2 Average of first stage", "Accuracy")]
    assert (found["low"], found["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_selected_less_initial_is_the_paired_difference_of_accuracies(csv, rows):
    table = csv("selection_gain").xs("Selected - initial", level="column")
    gains = {}
    for name, member in NAMES.items():
        accuracy = [accuracy_score(t["target"], t["pred"]) for t in (rows(member), rows(member, "initial"))]
        gains[name] = 100 * (accuracy[0] - accuracy[1])
        assert table.loc[name, "here"] == pytest.approx(gains[name])
    assert table.loc["Mean of the three", "here"] == pytest.approx(np.mean([gains[n] for n in NAMES if n != "Vote"]))
    patients = rows("vote")["patient"].unique()
    gap = (rows("vote")["pred"] == rows("vote")["target"]).to_numpy().astype(int)
    other = rows("vote", "initial").merge(rows("vote")[["row", "frame"]], on=["row", "frame"], how="right")
    gap = pd.Series(gap - (other["pred"] == other["target"]).to_numpy())
    by = [gap[(rows("vote")["patient"] == p).to_numpy()] for p in patients]
    sums, sizes = np.array([g.sum() for g in by]), np.array([len(g) for g in by])
    expected = interval(np.array([(w * sums).sum() / (w * sizes).sum() for w in resample_weights(len(patients), 300, 0)]), len(patients))
    assert (table.loc["Vote", "low"], table.loc["Vote", "high"]) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_table_3_is_each_fold_networks_recall_on_the_test_set(csv, rows):
    for i in range(5):
        assert dict(csv("table_3").xs(str(i + 1), level="column")["here"]) == pytest.approx(recalls(rows(f"fold{i}")))


def test_table_5_and_fig_9_are_the_networks_recalls(csv, rows):
    for name, member in NAMES.items():
        assert dict(csv("fig_9").loc[name]["here"]) == pytest.approx(recalls(rows(member)))
        if name != "Vote":
            assert dict(csv("table_5").loc[name]["here"]) == pytest.approx(recalls(rows(member)))


def test_table_4_counts_the_kept_images(csv, xing_run):
    selection = pd.read_csv(xing_run / "selection.csv")
    counts = selection[selection["kept"]].pivot_table(index="target", columns="fold", values="row", aggfunc="size", fill_value=0)
    here = csv("table_4")["here"].unstack()
    assert np.array_equal(here.loc[SCORES, ["1", "2", "3", "4", "5"]].to_numpy(), counts.to_numpy())
    assert here.loc["Sum", "All"] == selection["kept"].sum()
    share = csv("kept_share")["here"].xs("Kept", level="column")
    assert share["All"] == pytest.approx(100 * selection["kept"].mean())
    assert list(share[SCORES]) == pytest.approx(list(100 * selection.groupby("target")["kept"].mean()))


def test_kept_by_patient_and_score_is_the_groups_mean(csv, xing_run):
    groups = pd.read_csv(xing_run / "selection.csv").groupby(["patient", "target"])["kept"].mean()
    table = csv("kept_by_patient")["here"].dropna()
    assert {(p, int(s[-1])): v for (p, s), v in table.items()} == pytest.approx(dict(100 * groups))


def test_table_6_and_fig_10_are_the_vote_against_the_rest(csv, rows):
    vote = rows("vote")
    precision, recall, f1, _ = precision_recall_fscore_support(vote["target"], vote["pred"], labels=range(4), zero_division=0)
    for c in range(4):
        tn, fp, fn, tp = confusion_matrix(vote["target"] == c, vote["pred"] == c).ravel()
        expected = {"Accuracy": (tp + tn) / len(vote), "Sensitivity": recall[c], "Specificity": tn / (tn + fp)}
        expected |= {"Precision": precision[c], "F1": f1[c]}
        assert dict(csv("table_6").loc[f"Score {c}"]["here"]) == pytest.approx({k: 100 * v for k, v in expected.items()})
        assert dict(csv("fig_10").loc[f"Score {c}"]["here"]) == {"TP": tp, "FN": fn, "FP": fp, "TN": tn}
    averages = csv("table_6")["here"].unstack()
    assert list(averages.loc["Average"]) == pytest.approx(list(averages.loc[SCORES].mean()))


def test_on_simulated_clips_the_selection_is_judged_by_the_clean_scores(csv, xing_run):
    truth = pd.read_parquet(xing_run / "truth.parquet")
    images = pd.read_csv(xing_run / "selection.csv").merge(truth, on=["clip", "frame"])
    wrong = images["target"] != images["truth_score"]
    expected = [
        1 - wrong.mean(),
        1 - wrong[images["kept"]].mean(),
        1 - images["kept"][wrong].mean(),
        images["kept"][~wrong].mean(),
        roc_auc_score(wrong, -images["p_own"]),
    ]
    table = csv("selection_truth")
    assert list(table["here"]) == pytest.approx(expected)
    n = [len(images), images["kept"].sum(), wrong.sum(), (~wrong).sum(), len(images)]
    assert list(table["n"]) == n
    assert table["n_patients"].iloc[2] == images.loc[wrong, "patient"].nunique()
    for row, share, of in zip(table.index.get_level_values(0)[1:4], expected[1:4], n[1:4], strict=True):
        assert row.endswith(f": {round(share * of):,} of {of:,}")
    assert table["low"].notna().all()
    assert (table["low"] < table["here"]).all()


def test_clean_scores_of_whole_clips_serve_their_images(tmp_path):
    folder = write_run(tmp_path / "run")
    truth = pd.read_parquet(folder / "truth.parquet")
    make_report(folder, replicates=50)
    per_frame = pd.read_csv(folder / "report" / "selection_truth.csv")["here"]
    truth.groupby("clip", as_index=False).first().assign(frame=-1).to_parquet(folder / "truth.parquet")
    make_report(folder, replicates=50)
    assert list(pd.read_csv(folder / "report" / "selection_truth.csv")["here"]) == pytest.approx(list(per_frame))


def test_the_page_shows_printed_beside_here(page, csv):
    table = tables_of(page)["fig_11"]
    last = csv("fig_11").loc[("10 Vote (selected)", "Accuracy")]
    assert table[-1][:3] == ["10 Vote (selected)", "96.1", f"{last['here']:.1f} | {last['low']:.1f} to {last['high']:.1f}"]
    assert table[1] == ["", "printed", "here", "here"]
    assert "Errata of the paper" in page


def test_metrics_json_holds_the_selection_and_the_printed_tables(xing_run, csv):
    content = json.loads((xing_run / "report" / "metrics.json").read_text())
    assert content["selection"]["kept"] == pd.read_csv(xing_run / "selection.csv")["kept"].sum()
    stored = {(c["row"], c["column"]): c["here"] for c in content["published"]["tables"]["table_5"]}
    assert stored == pytest.approx(dict(csv("table_5")["here"]))
    assert set(content["others"]["initial"]) == {*NETWORKS, "vote"}


def test_without_the_initial_run_methods_3_to_6_stay_empty_and_the_page_says_how(tmp_path):
    folder = write_run(tmp_path / "run")
    text = make_report(folder, replicates=50).read_text()
    rows = {row[0]: row for row in tables_of(text)["fig_11"]}
    assert rows["6 Vote (initial)"][2] == "–"
    assert rows["10 Vote (selected)"][2] != "–"
    assert "as --initial" in text


def test_a_run_without_stage_1_is_reported_without_its_tables(tmp_path):
    text = make_report(write_run(tmp_path / "run", select=False), replicates=50).read_text()
    assert {"table_5", "table_6", "fig_11"} <= set(tables_of(text))
    assert not {"table_3", "table_4"} & set(tables_of(text))


def test_runs_on_other_images_or_other_data_are_not_compared(tmp_path):
    folder, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", n_test=11, select=False)
    with pytest.raises(UserError, match="not tested on the same samples"):
        make_report(folder, {"initial": other}, replicates=50)
    info = json.loads((other / "run.json").read_text())
    info["data"]["fingerprint"] = "0000"
    (other / "run.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="other data or networks"):
        make_report(folder, {"initial": other}, replicates=50)
