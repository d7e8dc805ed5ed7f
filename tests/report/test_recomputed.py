"""What a report says, computed again from `predictions.parquet` and `split.csv` by code that shares nothing with the report's."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from run_builder import write_run
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score, recall_score

from lus_lightning.report.html import make_report

SCORES = [0, 1, 2, 3]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "runs" / "xing")


def rows_of(run, member):
    """The rows of a member that are quoted: the tested ones, else the out-of-fold ones."""
    table = pd.read_parquet(run / "predictions.parquet")
    own = table[table["member"] == member]
    return own[own["split"] == ("test" if "test" in set(own["split"]) else "oof")]


def by_level(rows, level):
    """Target and prediction of each frame, clip (mean probability), zone and exam (worst), with its patient.

    Macro means are over the classes that somebody has.
    """
    if level == "frame":
        return rows[["patient", "target", "pred"]]
    clips = rows.groupby(["patient", "exam", "zone", "clip"], as_index=False).agg(
        target=("target", lambda t: t.mode().max()), **{f"p_{c}": (f"p_{c}", "mean") for c in SCORES}
    )
    clips["pred"] = clips[[f"p_{c}" for c in SCORES]].to_numpy(float).argmax(axis=1)
    keys = {"clip": ["patient", "clip"], "zone": ["patient", "exam", "zone"], "exam": ["patient", "exam"]}[level]
    return clips.groupby(keys, as_index=False)[["target", "pred"]].max()


MEASURES = {
    "accuracy": accuracy_score,
    "accuracy_within_1": lambda t, p: float(np.mean((np.abs(t - p) <= 1) & (p >= 0))),
    "qwk": lambda t, p: cohen_kappa_score(t, p, weights="quadratic", labels=SCORES),
    "sensitivity": lambda t, p: recall_score(t, p, average="macro", labels=np.unique(t)),
    "f1": lambda t, p: f1_score(t, p, average="macro", labels=np.unique(t)),
}


def test_every_members_figures_and_confusions_are_those_of_the_predictions(xing_run):
    run = xing_run
    found = pd.read_csv(run / "report" / "metrics.csv")
    matrices = pd.read_csv(run / "report" / "confusions.csv")
    seen = 0
    for (member, level), own in found.groupby(["member", "level"]):
        if member == "vote" and level != "frame":
            continue  # abstains: other tests count that
        table = by_level(rows_of(run, member), level)
        assert (own["n"] == len(table)).all()
        assert (own["n_patients"] == table["patient"].nunique()).all()
        target, pred = table["target"].to_numpy(), table["pred"].to_numpy()
        matrix = matrices[(matrices["member"] == member) & (matrices["level"] == level)]
        counts = confusion_matrix(target[pred >= 0], pred[pred >= 0], labels=SCORES)
        np.testing.assert_array_equal(matrix[[f"pred_{c}" for c in SCORES]], counts)
        assert matrix["abstained"].sum() == (pred < 0).sum()
        values = own.set_index("metric")["value"]
        for metric, measure in MEASURES.items():
            if (pred >= 0).all():
                assert values[metric] == pytest.approx(measure(target, pred), abs=1e-12), (member, level, metric)
                seen += 1
    assert seen >= 5 * 4 * 4


def stamps(run):
    """The line under each table of the page, by the table's name."""
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    found = re.findall(r'<p class="stamp">([^<]*)<a href="(\w+)\.csv">', page)
    return {name: " ".join(text.split()) for text, name in found}


def test_a_caption_counts_the_patients_and_images_that_were_predicted(run, xing_run):
    test, selection = rows_of(xing_run, "vote"), pd.read_csv(xing_run / "selection.csv")
    assert f"{test['patient'].nunique()} patients · {len(test):,} images" in stamps(xing_run)["summary"]
    assert f"{selection['patient'].nunique()} patients · {len(selection):,} training images" in stamps(xing_run)["table_4"]
    table = pd.read_parquet(run / "predictions.parquet")
    gone = sorted(test["patient"].unique())[:2]
    table[~table["patient"].isin(gone)].to_parquet(run / "predictions.parquet", index=False)
    make_report(run, replicates=20)
    assert f"{test['patient'].nunique() - 2} patients" in stamps(run)["summary"]


def test_captions_follow_the_rows_of_their_own_pass_and_no_others(run, xing_run):
    before = stamps(xing_run)
    assert "xing-study (simulated)" in before["summary"]
    columns = {"data": "other-study", "simulated": False, "fingerprint": "0123456789ab"}
    table = pd.read_parquet(run / "predictions.parquet")
    tested = table["split"] == "test"
    for column, value in columns.items():
        table[column] = table[column].mask(tested, value)
    table.to_parquet(run / "predictions.parquet", index=False)
    make_report(run, replicates=20)
    after = stamps(run)
    assert "other-study (real) · trained on xing-study" in after["summary"]
    assert after["table_4"] == before["table_4"]  # the training patients' selection
    csv = pd.read_csv(run / "report" / "summary.csv", dtype=str)
    assert all((csv[column] == str(value)).all() for column, value in columns.items())
    metrics = pd.read_csv(run / "report" / "metrics.csv", dtype=str)
    for column, value in columns.items():
        assert (metrics.loc[metrics["member"] == "vote", column] == str(value)).all()
        assert (metrics.loc[metrics["member"] == "stage1", column] != str(value)).all()


def test_captions_follow_the_split_and_the_seeds(run):
    split = pd.read_csv(run / "split.csv")
    split.assign(unit="clip").to_csv(run / "split.csv", index=False)
    info = json.loads((run / "run.json").read_text())
    info["seed"] = 7
    info["data"] |= {"split_seed": 5, "batch_seed": 7}
    (run / "run.json").write_text(json.dumps(info))
    make_report(run, replicates=20)
    assert "split by clip · seed 7 (split 5)" in stamps(run)["summary"]


def test_predictions_that_do_not_say_which_data_they_are_of_are_refused(run):
    pd.read_parquet(run / "predictions.parquet").drop(columns="simulated").to_parquet(run / "predictions.parquet", index=False)
    with pytest.raises(Exception, match="does not say which data it is of"):
        make_report(run, replicates=20)
