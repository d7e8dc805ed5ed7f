"""Raillard's tables and figures hold what pandas and scikit-learn make of the run's own files, and what the paper prints."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from raillard_builder import NETWORKS, write_raillard_run
from run_builder import tables_of
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score, roc_auc_score

from lus_lightning.evaluation.intervals import interval, resample_weights
from lus_lightning.report.html import make_report, print_summary
from lus_lightning.report.papers.raillard_figures import fold_mean_confusion
from lus_lightning.report.published import load
from lus_lightning.scoring.levels import aggregate

PUBLISHED = load("raillard")
TABLE = {name: table.frame for name, table in PUBLISHED.tables.items()}
ROWS = dict(zip(["Xception", "ResNet50", "VGG16"], NETWORKS, strict=True))
PROBS = [f"p_{c}" for c in range(4)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_raillard_run(tmp_path_factory.mktemp("runs") / "raillard")
    make_report(folder, replicates=200)
    return folder


@pytest.fixture(scope="module")
def csv(run):
    return lambda name: pd.read_csv(run / "report" / f"{name}.csv", dtype={"row": str, "column": str}).set_index(["row", "column"])


@pytest.fixture(scope="module")
def rows(run):
    table = pd.read_parquet(run / "predictions.parquet")
    return lambda member: table[table["member"] == member]


@pytest.fixture(scope="module")
def page(run):
    return (run / "report" / "index.html").read_text(encoding="utf-8")


def macro(rows):
    target, pred = rows["target"], rows["pred"]
    return {
        "Accuracy": accuracy_score(target, pred),
        "Macro-precision": precision_score(target, pred, average="macro", zero_division=0),
        "Macro-recall": recall_score(target, pred, average="macro"),
        "ROC-AUC": np.mean([roc_auc_score(target == c, rows[f"p_{c}"]) for c in sorted(target.unique())]),
    }


def test_accuracy_and_table_2_are_scikit_learns_on_all_out_of_fold_images(csv, rows):
    both = pd.concat([csv("accuracy"), csv("table_2")])
    for name, member in ROWS.items():
        assert dict(both.loc[name]["here"]) == pytest.approx(macro(rows(member)))
    assert (both["low"] < both["here"]).all()
    assert (both["here"] < both["high"]).all()
    assert (both["n"] == len(rows("vgg16"))).all()


def test_every_fold_and_the_mean_of_the_folds(csv, rows):
    table = csv("folds")["here"]
    for name, member in ROWS.items():
        folds = {fold: macro(of) for fold, of in rows(member).groupby("fold")}
        assert sorted(folds) == [0, 1, 2]
        for fold, expected in folds.items():
            assert dict(table.loc[f"{name}, fold {fold}"]) == pytest.approx(expected)
        assert dict(table.loc[f"{name}, mean"]) == pytest.approx(dict(pd.DataFrame(folds).mean(axis=1)))


def test_training_time_is_the_networks_seconds_over_the_folds_in_minutes(csv):
    assert list(csv("table_2_time")["here"]) == pytest.approx([1.0, 2.0, 3.0])
    assert list(csv("table_2_time")["printed"]) == [33.92, 25.97, 73.67]


def test_a_training_time_that_is_too_short_for_minutes_is_told_in_seconds(page):
    assert "on cpu, a network&#39;s seconds divided by 3 folds" in page
    assert "In seconds a fold: Xception: 60, ResNet50: 120, VGG16: 180." in page


def test_roc_auc_by_score(csv, rows):
    for name, member in ROWS.items():
        areas = [roc_auc_score(rows(member)["target"] == c, rows(member)[f"p_{c}"]) for c in range(4)]
        assert list(csv("fig_3_auc").loc[name]["here"]) == pytest.approx([*areas, np.mean(areas)])


def test_networks_are_compared_on_the_same_resamples_of_patients(csv, rows):
    table = csv("pairwise")
    patients = rows("vgg16")["patient"].unique()
    weights = resample_weights(len(patients), 200, 0)
    for a, b in combinations(ROWS, 2):
        gaps = [macro(rows(ROWS[a]))[c] - macro(rows(ROWS[b]))[c] for c in ("Accuracy", "Macro-precision", "Macro-recall")]
        assert list(table.loc[f"{a} - {b}"]["here"]) == pytest.approx(gaps)
        right = [(rows(ROWS[n])["pred"] == rows(ROWS[n])["target"]).groupby(rows(ROWS[n])["patient"]).sum()[patients] for n in (a, b)]
        size = rows(ROWS[a]).groupby("patient").size()[patients].to_numpy()
        gap = (right[0] - right[1]).to_numpy()
        expected = interval((weights @ gap) / (weights @ size), len(patients))
        found = table.loc[(f"{a} - {b}", "Accuracy")]
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_the_page_names_the_differences_whose_interval_excludes_zero(csv, page):
    table = csv("pairwise")
    clear = [f"{row} ({column})" for (row, column), cell in table.iterrows() if cell["low"] > 0 or cell["high"] < 0]
    assert f"Intervals that exclude 0: {', '.join(clear) or 'none'}." in page
    assert "not corrected for 9 comparisons" in page


def test_fig_2_is_the_accuracy_of_each_zones_images(csv, rows):
    table = csv("fig_2")["here"].unstack()
    for name, member in ROWS.items():
        expected = (rows(member)["pred"] == rows(member)["target"]).groupby(rows(member)["zone"]).mean()
        assert dict(table[name]) == pytest.approx(dict(expected))


def test_fig_3_normalises_by_row_and_averages_over_the_folds(csv, rows):
    for name, member in ROWS.items():
        folds = [confusion_matrix(of["target"], of["pred"], labels=range(4), normalize="true") for _, of in rows(member).groupby("fold")]
        found = np.array([csv("fig_3").loc[f"{name}, score {c}"]["here"] for c in range(4)])
        assert found == pytest.approx(np.mean(folds, axis=0))
        pooled = confusion_matrix(rows(member)["target"], rows(member)["pred"], normalize="true")
        assert found != pytest.approx(pooled)


def test_a_fold_without_a_score_takes_no_part_in_that_scores_row():
    table = pd.DataFrame({"fold": [0, 0, 1, 1, 1], "target": [0, 1, 0, 0, 0], "pred": [0, 0, 0, 1, 1]})
    mean = fold_mean_confusion(table)
    assert list(mean[0]) == pytest.approx([(1 + 1 / 3) / 2, (0 + 2 / 3) / 2, 0, 0])
    assert list(mean[1]) == [1, 0, 0, 0]
    assert np.isnan(mean[2:]).all()


def test_fig_4_has_the_agreement_of_zones_and_the_bias_of_sums(csv, rows):
    table = csv("fig_4")
    for name, member in ROWS.items():
        by_zone = rows(member).groupby(["patient", "zone"])[["target", "pred"]].agg(lambda s: s.mode().max())
        sums = by_zone.groupby("patient").sum()
        assert table.loc[(name, "Zones that agree (share)"), "here"] == pytest.approx((by_zone["target"] == by_zone["pred"]).mean())
        assert table.loc[(name, "Bias of the sum (points)"), "here"] == pytest.approx((sums["pred"] - sums["target"]).mean())


def test_the_whole_report_scores_zones_by_the_papers_rule_and_says_so(run, rows, page):
    content = json.loads((run / "report" / "metrics.json").read_text())
    zones = aggregate(rows("resnet50"), "zone", "majority", "pooled")
    assert content["scoring"]["rule"] == "majority"
    assert content["scoring"]["zone_rule"] == "pooled"
    assert content["members"]["resnet50"]["zone"]["accuracy"] == pytest.approx((zones["target"] == zones["pred"]).mean())
    assert zones["pred"].tolist() != aggregate(rows("resnet50"), "zone")["pred"].tolist()
    assert "score is the score that most of its images have, over all its clips; ties go to the more severe." in page.replace("&#39;", "'")


@pytest.mark.parametrize("name", ["accuracy", "table_2", "table_2_time", "fig_3_auc", "pairwise", "images", "fig_4"])
def test_every_printed_number_stands_on_the_page_beside_ours(page, name):
    shown = tables_of(page)[name]
    heads = [c for c, kind in zip(shown[1], shown[1], strict=True) if kind]
    assert {"printed", "here"} <= set(heads)
    printed = TABLE["data" if name == "images" else name]
    lines = {line[0]: line[1:] for line in shown[2:]}
    for row, values in printed.iterrows():
        texts = [cell.replace("−", "-").replace(",", "") for cell in lines[row]]
        for value in values.dropna():
            assert any(text and text != "–" and "|" not in text and float(text) == value for text in texts), (row, value)


def test_the_page_links_the_exams_and_the_terminal_shows_the_accuracies(run, page, capsys):
    assert page.count('href="exams.html"') == 2
    print_summary(run)
    out = capsys.readouterr().out
    assert "here (accuracy)" in out
    for printed in ("0.948", "0.935", "0.942"):
        assert printed in out


def test_a_run_of_other_networks_says_which_stand_for_the_papers(tmp_path):
    folder = write_raillard_run(tmp_path / "run", networks=["resnet10t", "resnet50", "vgg11_bn"], patients=6, frames=2)
    tables = tables_of(make_report(folder, replicates=30).read_text())
    names = ["Xception, here resnet10t", "ResNet50", "VGG16, here vgg11_bn"]
    for name in ("accuracy", "table_2", "table_2_time", "fig_3_auc"):
        assert [line[0] for line in tables[name][2:]] == names
    assert [line[0] for line in tables["fig_4"][3:]] == names
    assert [line[0] for line in tables["pairwise"][2:]] == [f"{a} - {b}" for a, b in combinations(names, 2)]
    assert {line[0].rpartition(", ")[0] for name in ("folds", "fig_3") for line in tables[name][1:]} == set(names)
    assert tables["fig_2"][0][1:] == names


@pytest.mark.parametrize(
    ("standard", "told"), [("soldati", "“soldati”: 0-3 do not mean the same."), ("raillard", "follow the paper&#39;s")]
)
def test_the_page_says_whether_the_scores_mean_what_the_papers_do(tmp_path, standard, told):
    folder = write_raillard_run(tmp_path / "run", patients=6, frames=2)
    pd.read_parquet(folder / "predictions.parquet").assign(standard=standard).to_parquet(folder / "predictions.parquet")
    assert told in make_report(folder, replicates=30).read_text()


def test_a_run_of_fewer_networks_leaves_the_others_printed_alone(tmp_path):
    folder = write_raillard_run(tmp_path / "run", networks=["vgg16", "mine"], patients=6, frames=2)
    shown = {line[0]: line[1:] for line in tables_of(make_report(folder, replicates=30).read_text())["accuracy"][2:]}
    assert list(shown) == ["Xception", "ResNet50", "VGG16", "mine"]
    assert shown["Xception"] == ["0.948", "–"]
    assert shown["VGG16"][1] != "–"
    assert shown["mine"][0] == "–"


def test_a_run_tested_on_another_data_root_quotes_its_test_rows(tmp_path):
    folder = write_raillard_run(tmp_path / "run", patients=6, frames=2, test=True)
    page = make_report(folder, replicates=30).read_text()
    table = pd.read_parquet(folder / "predictions.parquet").query("split == 'test' and member == 'vgg16'")
    accuracy = pd.read_csv(folder / "report" / "accuracy.csv").set_index("row")
    assert accuracy.loc["VGG16", "here"] == pytest.approx(accuracy_score(table["target"], table["pred"]))
    assert accuracy.loc["VGG16", "n_patients"] == 2
    assert "Fold by fold" not in page
    assert set(pd.read_csv(folder / "report" / "exams.csv")["patient"]) == {"Q0", "Q1"}


def test_a_run_without_zones_says_so_and_has_no_exams(tmp_path):
    folder = write_raillard_run(tmp_path / "run", patients=6, frames=2)
    table = pd.read_parquet(folder / "predictions.parquet").assign(zone=None, protocol=None)
    table.to_parquet(folder / "predictions.parquet")
    page = make_report(folder, replicates=30).read_text()
    assert "No clip of this run names its zone" in page
    assert "there are no sums to compare" in page
    assert "exams.html" not in page
    assert not (folder / "report" / "exams.html").exists()


def test_a_score_that_never_occurs_has_no_numbers_and_no_row_in_fig_3(tmp_path):
    folder = write_raillard_run(tmp_path / "run", patients=6, frames=2)
    table = pd.read_parquet(folder / "predictions.parquet")
    table.assign(target=table["target"].clip(upper=2)).to_parquet(folder / "predictions.parquet")
    (folder / "truth.parquet").unlink(missing_ok=True)
    tables = tables_of(make_report(folder, replicates=30).read_text())
    assert [line[4] for line in tables["fig_3_auc"][2:]] == ["–"] * 3
    assert next(line for line in tables["fig_3"] if line[0] == "Xception, score 3")[1:] == ["–"] * 4
    macro_recall = recall_score(*(table.query("member == 'vgg16'")[c].clip(upper=u) for c, u in (("target", 2), ("pred", 3))),
                                labels=range(3), average="macro")  # fmt: skip
    assert next(line for line in tables["table_2"] if line[0] == "VGG16")[4].startswith(f"{macro_recall:.3f}")
