"""What Corso's report prints is re-computed from itself: sums, shares, what follows from Table I, and every erratum."""

import re
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import yaml

from lus_lightning.evaluation.metrics import metrics
from lus_lightning.methods import SpatiotemporalClassifier
from lus_lightning.nets.sord import DISTANCES, soft_targets
from lus_lightning.report.published import load
from lus_lightning.runs import flat

PAPER = load("corso")
VALUE = {name: entry.value for name, entry in PAPER.values.items()}
TABLE = {name: table.frame for name, table in PAPER.tables.items()}
COUNTS = TABLE["table_1"].drop(columns="Total").astype(int)
ALL = COUNTS.sum().to_numpy()
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def percents(n):
    """Every share of n, in percent of two decimals."""
    return {round(100 * k / n, 2) for k in range(n + 1)}


def entropies():
    soft = soft_targets(DISTANCES).double().numpy()
    return -(soft * np.log(soft)).sum(axis=1)


def always(score, counts):
    """Metrics of one score said of clips of which `counts` have each score."""
    target = np.repeat(np.arange(4), counts)
    return metrics(target, np.full(len(target), score))


def clips_of_table_1(text):
    assert VALUE["table_1_videos"] == ALL.sum() == VALUE["videos"] + 7 == 246
    assert VALUE["all_data_accuracy"] in percents(246) - percents(239)
    assert "101 of 246" in text.evidence


def one_clip_dropped(text):
    n = COUNTS.loc["Test Set"].sum()
    assert VALUE["accuracy"] in percents(68) - percents(n)
    assert round(100 * 30 / 68, 2) == VALUE["accuracy"]
    assert n // VALUE["batch_size"] * VALUE["batch_size"] == 68
    assert [float(v) for v in re.findall(r"\d\d\.\d\d", text.evidence)] == [44.12, round(3000 / n, 2), round(3100 / n, 2)]


def two_networks(text):
    assert f"{VALUE['accuracy']} %" in text.meant
    assert f"{VALUE['all_data_accuracy']} %" in text.meant


def always_score_2(text):
    test = COUNTS.loc["Test Set"]
    assert ALL.argmax() == test.to_numpy().argmax() == 2
    assert round(100 * always(2, ALL)["accuracy"], 2) == VALUE["all_data_accuracy"]
    assert round(100 * always(2, test)["accuracy"], 2) == VALUE["majority_test_accuracy"]
    assert 30 - test["Score 2"] == 4
    assert "by 4 videos" in text.meant


def f1_is_micro(text):
    assert round(VALUE["accuracy"] / 100, 2) == VALUE["f1"]
    assert f"{always(2, COUNTS.loc['Test Set'])['f1']:.3f}" in text.evidence


def chosen_on_the_test_set(text):
    assert f"{COUNTS.loc['Train Set'].sum()} of the {ALL.sum()}" in text.meant


def a_quarter_of_the_loss(text):
    floor, test = entropies(), COUNTS.loc["Test Set"].to_numpy()
    least = (floor * test).sum() / test.sum()
    assert round(least, 2) == VALUE["least_loss"] > VALUE["loss"]
    assert VALUE["batch_size"] * VALUE["loss"] == VALUE["mean_loss"] == TABLE["last_epoch"].loc["Last epoch", "Loss"]
    assert least < VALUE["mean_loss"] < np.log(4)
    assert [f"{v:.2f}" for v in (floor[0], floor[1], least)] == re.findall(r"\d\.\d\d", text.evidence)
    assert f"{np.log(4):.2f}" in text.meant


ERRATA = (
    clips_of_table_1,
    one_clip_dropped,
    two_networks,
    always_score_2,
    f1_is_micro,
    chosen_on_the_test_set,
    a_quarter_of_the_loss,
)
WORDS = {"vanishing_is_not_nan", "shallow_is_deep", "mps"}
"""Errata about words alone."""


@pytest.mark.parametrize("check", ERRATA, ids=lambda check: check.__name__)
def test_an_erratum_is_what_the_papers_own_numbers_say(check):
    check(next(e for e in PAPER.errata if e.id == check.__name__))


def test_every_erratum_with_numbers_is_checked():
    assert {check.__name__ for check in ERRATA} | WORDS == {erratum.id for erratum in PAPER.errata}


def test_table_1_adds_up():
    assert TABLE["table_1"]["Total"].tolist() == COUNTS.sum(axis=1).tolist() == [177, 69]
    assert TABLE["data"].loc["All data"].tolist() == [VALUE[name] for name in ("videos", "exams", "patients")]


def test_figures_8_and_9_and_the_results_follow_from_table_1():
    matrix = np.zeros((4, 4))
    matrix[:, 2] = ALL
    assert np.array_equal(TABLE["fig_8"], matrix)
    assert TABLE["fig_9"]["Errors"].tolist() == (ALL - np.diag(matrix)).tolist()
    assert TABLE["fig_9"]["Clips"].tolist() == ALL.tolist()
    rows = {"Accuracy": ("accuracy", 4), "Macro F1": ("f1", 3), "Micro F1": ("accuracy", 4), "Weighted κ": ("qwk", 4)}
    for column, counts in {"Majority score": COUNTS.loc["Test Set"], "Video net, all data": ALL}.items():
        of = always(2, counts)
        assert TABLE["results"][column].to_dict() == {row: round(of[name], digits) for row, (name, digits) in rows.items()}
    assert 100 * TABLE["results"].loc["Accuracy", "Video net"] == pytest.approx(VALUE["accuracy"])
    assert TABLE["results"].loc["Micro F1", "Video net"] == VALUE["f1"]


def test_what_has_no_number_says_why():
    assert all((entry.value is None) == bool(entry.missing) for entry in PAPER.values.values())


def test_a_single_author_has_no_others():
    assert PAPER.citation.startswith("Laura Corso, “Video-level")


def test_the_recipe_is_the_papers():
    recipe = flat(yaml.safe_load((EXPERIMENTS / "corso.yaml").read_text()))
    of = {key.rpartition(".")[2]: value for key, value in recipe.items()}
    for name in ("lr", "weight_decay", "momentum", "batch_size", "max_epochs", "seed"):
        assert of[name] == VALUE[name], name
    assert 100 * of["test_share"] == VALUE["test_share"] == 100 - VALUE["train_share"]
    default = {name: p.default for name, p in signature(SpatiotemporalClassifier).parameters.items()}
    assert default["scratch_factor"] == VALUE["scratch_factor"]
    assert default["backbone"].rpartition(":")[2] == VALUE["backbone"].lower()
    assert default["distances"] is DISTANCES
    own = yaml.safe_load((EXPERIMENTS / "with/san-matteo.yaml").read_text())["data"]["init_args"]["split"]
    assert set(own["test_patients"]) == set(VALUE["test_patients"].split(", "))
