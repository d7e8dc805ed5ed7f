from collections import Counter

import numpy as np
import pandas as pd
import pytest

from lus_lightning.errors import UserError
from lus_lightning.scoring.levels import aggregate


def table(rows: list[dict], **common) -> pd.DataFrame:
    """A predictions table; a row that gives no probabilities has 0.7 on its prediction (uniform where it abstains)."""
    defaults = {"split": "test", "fold": -1, "member": "net", "sign": None, "standard": "xing"}
    defaults |= {"patient": "p", "protocol": "6", "zone": "L1"}
    out = []
    for number, row in enumerate(rows):
        full = defaults | {"clip": "c", "frame": number, "row": 0, "target": 0, "pred": 0} | common | row
        full.setdefault("exam", full["patient"])
        spread = [0.25] * 4 if full["pred"] < 0 else [0.7 if c == full["pred"] else 0.1 for c in range(4)]
        out.append({f"p_{c}": p for c, p in enumerate(spread)} | full)
    return pd.DataFrame(out)


def random_table(seed: int) -> pd.DataFrame:
    g = np.random.default_rng(seed)
    rows = []
    for clip in range(60):
        patient, frames = clip // 8, int(g.choice([1, 2, 7, 40, 150]))
        where = {"clip": f"c{clip}", "row": clip, "patient": f"p{patient}", "zone": f"L{clip % 8 % 3 + 1}" if clip % 8 < 6 else None}
        bias = g.dirichlet(np.ones(4) * 0.5)
        for frame in range(frames):
            for member in ("a", "b"):
                p = g.dirichlet(np.ones(4) * 0.5 + 5 * bias)
                pred = int(p.argmax()) if g.random() > 0.2 else -1
                target = -1 if clip % 11 == 0 else int(g.choice(4, p=bias))
                rows.append(where | {"frame": frame, "member": member, "pred": pred, "target": target} | {f"p_{c}": p[c] for c in range(4)})
    return table(rows)


def reference(labels: list[int], rule: str, n_frames: int | None = None) -> int:
    """A rule in words, on the labels of one unit's frames."""
    counts = Counter(x for x in labels if x >= 0)
    n_frames = n_frames or sum(counts.values())
    if rule == "majority":
        return max(counts, key=lambda c: (counts[c], c), default=-1)
    return max((c for c, k in counts.items() if rule == "worst" or k / n_frames >= 0.01), default=-1)


@pytest.mark.parametrize("rule", ["majority", "worst", "one_percent"])
@pytest.mark.parametrize("seed", range(3))
def test_a_clip_is_scored_by_each_rule_like_the_reference(rule, seed):
    frames = random_table(seed)
    clips = aggregate(frames, "clip", rule).set_index(["member", "clip"])
    assert len(clips) == 120
    for unit, rows in frames.groupby(["member", "clip"]):
        assert clips.loc[unit, "pred"] == reference(rows["pred"].tolist(), rule, len(rows)), unit
        assert clips.loc[unit, "target"] == reference(rows["target"].tolist(), rule), unit
        assert clips.loc[unit, "n_frames"] == len(rows)


def test_the_mean_rule_takes_the_class_of_the_highest_mean_probability_of_the_frames_that_did_not_abstain():
    frames = random_table(5)
    columns = [f"p_{c}" for c in range(4)]
    clips = aggregate(frames, "clip").set_index(["member", "clip"])
    for unit, rows in frames.groupby(["member", "clip"]):
        voiced = rows[rows["pred"] >= 0]
        mean = (voiced if len(voiced) else rows)[columns].mean()
        np.testing.assert_allclose(clips.loc[unit, columns].to_numpy(dtype=float), mean)
        assert clips.loc[unit, "pred"] == (mean.to_numpy().argmax() if len(voiced) else -1), unit
        assert clips.loc[unit, "target"] == reference(rows["target"].tolist(), "majority"), unit


def test_a_tie_goes_to_the_more_severe():
    frames = table([{"pred": 1, "target": 3}, {"pred": 2, "target": 0}])
    for rule in ("mean", "majority"):
        assert aggregate(frames, "clip", rule)[["pred", "target"]].to_numpy().tolist() == [[2, 3]]


@pytest.mark.parametrize(("n_frames", "severe", "score"), [(60, 1, 3), (100, 1, 3), (101, 1, 0), (300, 2, 0), (300, 3, 3), (2900, 29, 3)])
def test_the_one_percent_rule_needs_one_percent_of_the_frames_and_at_least_one(n_frames, severe, score):
    frames = table([{"pred": 3 if n < severe else 0} for n in range(n_frames)])
    assert aggregate(frames, "clip", "one_percent")["pred"].tolist() == [score]


def test_the_one_percent_rule_counts_only_frames_that_did_not_abstain():
    frames = table([{"pred": -1}] * 500 + [{"pred": 0}] * 99 + [{"pred": 3}])
    assert aggregate(frames, "clip", "one_percent")["pred"].tolist() == [3]


def test_a_clip_of_one_frame_keeps_the_prediction_of_its_frame():
    frames = table([{"pred": 1, "p_0": 0.5, "p_1": 0.4, "p_2": 0.1, "p_3": 0.0}])
    assert aggregate(frames, "clip")["pred"].tolist() == [1]


def test_several_clips_of_a_zone_are_its_worst_clip_or_pooled_by_name():
    frames = table([{"clip": "a", "row": 0, "pred": 0, "target": 1}] * 5 + [{"clip": "b", "row": 1, "pred": 2, "target": 3}] * 2)
    worst, pooled = (aggregate(frames, "zone", "majority", zone_rule)[["pred", "target", "n_frames"]] for zone_rule in ("worst", "pooled"))
    assert worst.to_numpy().tolist() == [[2, 3, 7]]
    assert pooled.to_numpy().tolist() == [[0, 1, 7]]


def test_a_clip_without_a_label_takes_no_part_in_a_zone_that_has_one():
    frames = table([{"clip": "a", "row": 0, "pred": 1, "target": 1}, {"clip": "b", "row": 1, "pred": 3, "target": -1}])
    assert aggregate(frames, "zone")[["pred", "target"]].to_numpy().tolist() == [[1, 1]]


def zones(scores: dict[str, tuple[int, int]], **common) -> pd.DataFrame:
    rows = [{"zone": z, "clip": f"{z}", "row": n, "pred": p, "target": t, "frame": -1} for n, (z, (p, t)) in enumerate(scores.items())]
    return table(rows, **common)


def test_an_exam_is_its_worst_zone_with_that_zones_probabilities_and_its_sums_over_zones():
    exam = aggregate(zones({"L1": (0, 1), "L2": (3, 2), "R1": (1, 1)}), "exam").iloc[0]
    assert (exam["pred"], exam["target"], exam["p_3"]) == (3, 2, 0.7)
    assert (exam["sum_pred"], exam["sum_target"], exam["zones_present"]) == (4, 4, 3)
    assert (exam["sum_scaled"], exam["sum_target_scaled"]) == (8, 8)
    assert pd.isna(exam["zone"])
    assert pd.isna(exam["clip"])


def test_prediction_and_target_of_an_exam_look_at_the_same_zones():
    exam = aggregate(zones({"L1": (0, 1), "L2": (3, -1), "R1": (-1, 2)}), "exam").iloc[0]
    assert (exam["pred"], exam["target"]) == (0, 2)
    assert (exam["sum_pred"], exam["sum_target"], exam["zones_present"]) == (0, 1, 1)


def test_an_exam_without_labels_has_a_predicted_sum_and_no_target():
    exam = aggregate(zones({"L1": (2, -1), "L2": (3, -1)}), "exam").iloc[0]
    assert (exam["pred"], exam["target"], exam["sum_pred"]) == (3, -1, 5)
    assert np.isnan(exam["sum_target"])


def test_an_exam_without_zones_is_its_worst_clip_and_has_no_sum():
    frames = table([{"clip": "a", "pred": 1, "target": 2}, {"clip": "b", "pred": 2, "target": 0}], zone=None, protocol=None, frame=-1)
    assert aggregate(frames, "zone").empty
    exam = aggregate(frames, "exam").iloc[0]
    assert (exam["pred"], exam["target"], exam["zones_present"]) == (2, 2, 0)
    assert np.isnan([exam["sum_pred"], exam["sum_target"], exam["sum_scaled"]]).all()


def test_exams_of_one_patient_and_members_and_signs_stay_apart():
    parts = [zones({"L1": (s, s), "L2": (0, 0)}, exam=e, member=m, sign=g) for s, e, m, g in [(1, "e1", "a", None), (2, "e2", "a", None),
             (3, "e1", "b", None), (1, "e1", "b", "b_lines")]]  # fmt: skip
    exams = aggregate(pd.concat(parts), "exam")
    assert sorted(exams["pred"]) == [1, 1, 2, 3]
    assert exams["sum_pred"].tolist() == exams["pred"].tolist()


def test_a_fold_is_named_only_where_all_rows_share_it():
    frames = pd.concat([zones({"L1": (1, 1)}, fold=2), zones({"L2": (1, 1)}, fold=2), zones({"L1": (1, 1)}, fold=1, patient="q", exam="q"),
                        zones({"L2": (1, 1)}, fold=0, patient="q", exam="q")])  # fmt: skip
    assert aggregate(frames, "exam").set_index("patient")["fold"].to_dict() == {"p": 2, "q": -1}


def test_a_member_without_probabilities_is_scored_by_its_predictions_only():
    frames = table([{"pred": 2}] * 3).assign(**{f"p_{c}": np.nan for c in range(4)})
    assert aggregate(frames, "exam", "one_percent")["pred"].tolist() == [2]
    with pytest.raises(UserError, match="'net' has rows without probabilities"):
        aggregate(frames, "clip", "mean")


@pytest.mark.parametrize("wrong", [{"level": "lung"}, {"level": "clip", "rule": "best"}, {"level": "zone", "zone_rule": "any"}])
def test_an_unknown_name_is_refused_with_the_known_ones(wrong):
    with pytest.raises(UserError, match="use one of"):
        aggregate(table([{}]), **wrong)
