"""What Muñoz et al. print: the table as in the text, sums and differences re-computed, every erratum checked."""

import re

import numpy as np
import pytest

from lus_lightning.report.published import load

PAPER = load("munoz")
TABLE = PAPER.tables["table_1"].frame
VALUE = {name: entry.value for name, entry in PAPER.values.items()}
TEXT = """
Accuracy	0.53	0.46	0.55	0.56	0.54	0.71	0.72	0.70
Accuracy ( $\\pm 1$ tol.)	0.86	0.87	0.88	0.89	0.88	0.92	0.91	0.93
Cohen's Kappa ( $K_{qwc}$ )	0.63	0.58	0.66	0.70	0.63	0.79	0.78	0.81
"""
"""Table 1 as the paper's text has it."""


def numbers(text):
    return [float(v) for v in re.findall(r"\d\.\d\d", text)]


def test_table_1_is_the_papers():
    assert TABLE.to_numpy().tolist() == [numbers(line) for line in TEXT.strip().splitlines()]


def test_the_differences_are_those_of_table_1():
    gap = PAPER.tables["difference"].frame
    for column in gap:
        data, _, view = column.partition(" ")
        sm, cm = (TABLE[f"{data} {short} {view}".strip()] for short in ("SM", "CM"))
        assert np.allclose(gap[column], sm - cm)


@pytest.mark.parametrize("short", ["CM", "SM"])
@pytest.mark.parametrize("row", ["Accuracy", "Accuracy within ±1"])
def test_an_accuracy_over_both_orientations_is_their_mean_weighted_by_clips(short, row):
    n = np.array([VALUE["longitudinal_videos"], VALUE["transversal_videos"]])
    each = TABLE.loc[row, [f"Dataset-2 {short} Long", f"Dataset-2 {short} Trans"]].to_numpy()
    assert (n * each).sum() / n.sum() == pytest.approx(TABLE.loc[row, f"Dataset-2 {short} General"], abs=0.0101)


def test_clips_add_up():
    data = PAPER.tables["data"].frame
    assert VALUE["videos"] == VALUE["dataset_1_videos"] + VALUE["dataset_2_videos"] == data["Clips"][["Dataset-1", "Dataset-2"]].sum()
    assert VALUE["longitudinal_videos"] + VALUE["transversal_videos"] == VALUE["dataset_2_videos"]
    assert data["Clips"].tolist() == [VALUE[f"{n}_videos"] for n in ("dataset_1", "dataset_2", "longitudinal", "transversal")]
    assert data["Patients"].tolist()[:2] == [VALUE["dataset_1_patients"], VALUE["dataset_2_patients"]]


def leak(text):
    assert numbers(text.printed) == TABLE.loc[["Accuracy", "Weighted κ"], "Dataset-2 SM General"].tolist()
    assert numbers(text.meant) == TABLE.loc[["Accuracy", "Weighted κ"], "Dataset-1 SM"].tolist()
    assert f"{VALUE['segmenter_patients_tested']} of the {VALUE['dataset_2_patients']} patients" in text.evidence
    assert VALUE["segmenter_patients_tested"] / VALUE["dataset_2_patients"] == 0.9


def comparable(text):
    gap = PAPER.tables["difference"].frame["Dataset-1"]
    assert numbers(text.meant) == pytest.approx([-gap["Accuracy"], -gap["Weighted κ"], gap["Accuracy within ±1"]])
    pairs = TABLE.loc[["Accuracy", "Weighted κ", "Accuracy within ±1"], ["Dataset-1 SM", "Dataset-1 CM"]]
    assert numbers(text.evidence) == pairs.to_numpy().ravel().tolist()


def robust_to_orientation(text):
    kappa = TABLE.loc["Weighted κ"]
    by_way = [kappa[f"Dataset-2 {short} {view}"] for short in ("CM", "SM") for view in ("Long", "Trans")]
    assert numbers(text.evidence) == by_way
    models = kappa["Dataset-1 CM"] - kappa["Dataset-1 SM"]
    assert numbers(text.meant) == pytest.approx([by_way[0] - by_way[1], models, by_way[3] - by_way[2]])


def words_missing(text):
    gap = PAPER.tables["difference"].frame.loc["Weighted κ"]
    columns = [f"Dataset-2 {short} {view}" for view in ("General", "Trans") for short in ("SM", "CM")]
    assert numbers(text.evidence) == TABLE.loc["Weighted κ", columns].tolist()
    assert gap.idxmax() == "Dataset-2 Trans"


def share_alone(text):
    assert f"{VALUE['white_share']} %" in text.evidence
    assert "score_1_or_2" in {name for name, entry in PAPER.values.items() if entry.missing}


ERRATA = (leak, comparable, robust_to_orientation, words_missing, share_alone)
WORDS = {"prognostic", "one_reference_twice"}
"""Errata about words alone."""


@pytest.mark.parametrize("check", ERRATA, ids=lambda check: check.__name__)
def test_an_erratum_is_what_the_papers_own_numbers_say(check):
    check(next(e for e in PAPER.errata if e.id == check.__name__))


def test_every_erratum_with_numbers_is_checked():
    assert {check.__name__ for check in ERRATA} | WORDS == {erratum.id for erratum in PAPER.errata}


def test_what_has_no_number_says_why():
    assert all((entry.value is None) == bool(entry.missing) for entry in PAPER.values.values())


def test_a_citation_leaves_out_what_the_paper_does_not_say():
    assert PAPER.citation.endswith("Scoring Classification”")
