"""What the four-sign paper prints is re-computed from itself: every mean, and every erratum."""

import re
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import yaml

from lus_lightning.labels import SIGNS
from lus_lightning.methods import FourSignClassifier
from lus_lightning.report.published import load

PAPER = load("four-signs")
TABLE = PAPER.tables["table_1"].frame
EACH, TOTAL = TABLE.drop("Total"), TABLE.loc["Total"]
KAPPA = PAPER.values["kappa"].value


def implied_accuracy():
    """In percent: each wrong answer is wrong for two of the four signs."""
    return 100 - (100 - EACH["Accuracy"]).sum() / 2


def precision_called_accuracy(text):
    assert [float(v) for v in re.findall(r"\d\d\.\d\d", text.printed)[:4]] == list(EACH["Precision"])
    assert EACH["Precision"].mean() == pytest.approx(90.985)
    assert EACH["Recall"].mean() == pytest.approx(90.695)
    assert "90.985" in text.evidence


def f1_not_from_its_precision_and_recall(text):
    right = 2 * EACH["Precision"] * EACH["Recall"] / (EACH["Precision"] + EACH["Recall"])
    told = [float(v) for v in re.findall(r"\d\d\.\d\d", text.meant)]
    assert told == pytest.approx([*right, right.mean()], abs=0.0051)
    assert (abs(right - EACH["F1"]) > 0.04).all()
    assert EACH["F1"].mean() == pytest.approx(90.58, abs=0.005)


def total_accuracy_is_recall(text):
    assert implied_accuracy() == pytest.approx(float(text.meant[:5]))
    assert implied_accuracy() == pytest.approx(PAPER.values["accuracy"].value)
    assert TOTAL["Accuracy"] == TOTAL["Recall"] == pytest.approx(EACH["Recall"].mean(), abs=0.0051)
    assert round((implied_accuracy() / 100 - 0.25) / 0.75, 4) == KAPPA


ERRATA = (precision_called_accuracy, f1_not_from_its_precision_and_recall, total_accuracy_is_recall)


@pytest.mark.parametrize("check", ERRATA, ids=lambda check: check.__name__)
def test_an_erratum_is_what_the_papers_own_numbers_say(check):
    check(next(e for e in PAPER.errata if e.id == check.__name__))


def test_every_erratum_is_checked():
    assert {check.__name__ for check in ERRATA} == {erratum.id for erratum in PAPER.errata}


@pytest.mark.parametrize("column", ["Precision", "Specificity", "Recall"])
def test_totals_are_means_of_the_signs(column):
    assert TOTAL[column] == pytest.approx(EACH[column].mean(), abs=0.0051)


def test_images_add_up():
    counts = PAPER.tables["data"].frame["Images"]
    assert counts.sum() == PAPER.values["images"].value == sum(PAPER.values[sign].value for sign in SIGNS)
    assert np.array_equal(counts, [PAPER.values[sign].value for sign in SIGNS])


def test_what_has_no_number_says_why():
    assert all((entry.value is None) == bool(entry.missing) for entry in PAPER.values.values())


def test_the_method_has_the_papers_network_and_the_recipe_its_task():
    default = {name: p.default for name, p in signature(FourSignClassifier).parameters.items()}
    assert default["network"] == PAPER.values["network"].value.lower()
    recipe = yaml.safe_load(Path(__file__).parents[2].joinpath("experiments/four-signs.yaml").read_text())
    assert recipe["model"]["init_args"]["task"] == default["task"] == "multiclass"
    assert "network" not in recipe["model"]["init_args"]
