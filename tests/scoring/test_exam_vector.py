"""Fig. 4 of Raillard et al.: two exams printed image by image, whose zone and global scores the paper prints too."""

import numpy as np
import pytest

from lus_lightning.evaluation.audits import check_predictions
from lus_lightning.evaluation.metrics import exam_metrics
from lus_lightning.labels import ZONES
from lus_lightning.report.papers.raillard import PAPER, fig_4_predictions
from lus_lightning.report.published import load
from lus_lightning.scoring.levels import aggregate

PUBLISHED = load("raillard")
# The paper's zone scores in its order: left, then right; anterior, lateral, posterior; superior, inferior.
SCORES = {
    "First patient of Fig. 4": ([1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1], [1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1]),
    "Second patient of Fig. 4": ([2, 1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 2], [2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2]),
}
GLOBAL = {"First patient of Fig. 4": (9, 9), "Second patient of Fig. 4": (16, 15)}
AGREE = {"First patient of Fig. 4": 10, "Second patient of Fig. 4": 11}


@pytest.fixture(scope="module")
def frames():
    return fig_4_predictions(PUBLISHED)


@pytest.mark.parametrize("patient", SCORES)
def test_the_printed_images_give_the_printed_zone_scores_and_their_agreement(frames, patient):
    zones = aggregate(frames, "zone", PAPER.rule, PAPER.zone_rule).query("patient == @patient").set_index("zone").loc[list(ZONES["12"])]
    assert (zones["target"].tolist(), zones["pred"].tolist()) == SCORES[patient]
    assert (zones["target"] == zones["pred"]).sum() == AGREE[patient]


def test_the_zone_scores_typed_in_with_the_counts_are_the_papers():
    for number, scores in enumerate(SCORES.values(), 1):
        table = PUBLISHED.tables[f"fig_4_patient_{number}"].frame
        assert table[["Region score, true", "Region score, predicted"]].T.to_numpy(dtype=int).tolist() == list(scores)


@pytest.mark.parametrize("patient", GLOBAL)
def test_the_printed_images_give_the_printed_global_scores(frames, patient):
    exam = aggregate(frames, "exam", PAPER.rule, PAPER.zone_rule).set_index("patient").loc[patient]
    assert (exam["sum_target"], exam["sum_pred"]) == GLOBAL[patient]
    assert (exam["sum_target_scaled"], exam["sum_scaled"], exam["zones_present"]) == (*GLOBAL[patient], 12)


def test_the_agreement_that_is_set_beside_ours_follows_from_the_two_exams(frames):
    zones = aggregate(frames, "zone", PAPER.rule, PAPER.zone_rule)
    bias = exam_metrics(aggregate(frames, "exam", PAPER.rule, PAPER.zone_rule))["sum_bias"]
    assert [(zones["target"] == zones["pred"]).mean(), bias] == PUBLISHED.tables["fig_4"].frame.to_numpy().ravel().tolist()
    assert [tuple(row) for row in PUBLISHED.tables["fig_4_global"].rows.values()] == list(GLOBAL.values())


def test_other_rules_do_not_give_the_papers_scores(frames):
    exams = aggregate(frames, "exam", "worst", "pooled")
    assert not np.array_equal(exams[["sum_target", "sum_pred"]].to_numpy(dtype=int), np.array(list(GLOBAL.values())))


def test_labels_and_predictions_are_as_many_images_as_printed(frames):
    check_predictions(frames)
    totals = {zone: ((rows["target"] >= 0).sum(), (rows["pred"] >= 0).sum())
              for zone, rows in frames.query("patient == 'First patient of Fig. 4'").groupby("zone")}  # fmt: skip
    assert (totals.pop("L-anterior-lower"), totals.pop("L-lateral-upper")) == ((66, 68), (61, 59))
    assert all(true == predicted for true, predicted in totals.values())
    assert totals["R-posterior-lower"] == (58, 58)
