"""Sign tasks: figures against scikit-learn on random predictions with absent classes and missing labels, and what signs do not have."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lus_lightning.errors import UserError
from lus_lightning.evaluation.evaluate import evaluate
from lus_lightning.evaluation.metrics import score_statistic
from lus_lightning.labels import SIGNS
from lus_lightning.scoring.levels import aggregate

ONLY_SCORES = {"qwk", "accuracy_within_1", "auroc_severe"}


def random_table(seed, classes=4, labels=(0, 1, 2, 3), n=120):
    """Frames of 30 clips of 10 patients: targets of some classes, some unknown; some predictions abstain; probabilities with ties."""
    g = np.random.default_rng(seed)
    target = g.choice(labels, n)
    probs = np.round(g.dirichlet(np.ones(classes), n) + 0.4 * np.eye(classes)[target], 1)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    table = {"row": np.arange(n) // 4, "frame": np.arange(n) % 4, "clip": [f"c{i // 4}" for i in range(n)], "zone": "L1", "protocol": "6"}
    table |= {"patient": [f"p{i // 12}" for i in range(n)], "exam": [f"p{i // 12}" for i in range(n)], "split": "test", "fold": -1}
    pred = np.where(g.random(n) < 0.1, -1, probs.argmax(axis=1))
    table |= {"member": "network", "sign": None, "standard": None, "target": np.where(g.random(n) < 0.15, -1, target), "pred": pred}
    return pd.DataFrame(table | {f"p_{c}": probs[:, c] for c in range(classes)})


def several(seed, signs, labels=(0, 1)):
    return pd.concat([random_table(seed + i, 2, labels).assign(sign=sign) for i, sign in enumerate(signs)], ignore_index=True)


def specificity(label, said):
    (true_negative, false_positive), _ = sk.confusion_matrix(label, said, labels=[False, True])
    return true_negative / (true_negative + false_positive)


def reference(rows, classes):
    """Scikit-learn's figures of labelled rows, for the classes that occur."""
    t, p, q = rows["target"].to_numpy(), rows["pred"].to_numpy(), rows[[f"p_{c}" for c in range(classes)]].to_numpy(float)
    present, spoke = [c for c in range(classes) if (t == c).any()], p >= 0
    expected = {"accuracy": sk.accuracy_score(t, p), "coverage": spoke.mean()}
    expected["kappa"] = sk.cohen_kappa_score(t[spoke], p[spoke], labels=range(classes))
    for name, score in {"sensitivity": sk.recall_score, "precision": sk.precision_score, "f1": sk.f1_score}.items():
        expected[name] = score(t, p, labels=present, average="macro", zero_division=0)
    each = {f"{n}_{c}": s(t, p, labels=[c], average=None, zero_division=0)[0] for c in present
            for n, s in {"sensitivity": sk.recall_score, "precision": sk.precision_score, "f1": sk.f1_score}.items()}  # fmt: skip
    for c in present:
        each[f"accuracy_{c}"] = sk.accuracy_score(t == c, p == c)
        if len(present) > 1:
            each |= {f"specificity_{c}": specificity(t == c, p == c), f"auroc_{c}": sk.roc_auc_score(t == c, q[:, c])}
    if len(present) > 1:
        expected |= {n: np.mean([each[f"{n}_{c}"] for c in present]) for n in ("specificity", "auroc")}
    return expected | each


def compare(record, expected):
    for name, value in record.items():
        if f"{name}_ci" in record:
            wanted = expected.pop(name, np.nan)
            assert (np.nan if value is None else value) == pytest.approx(wanted, nan_ok=True), name
    assert not expected  # each was there


labels = st.sets(st.integers(0, 3), min_size=1).map(sorted)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), labels)
def test_each_sign_against_the_rest_equals_scikit_learn_with_absent_signs_and_missing_labels(seed, classes):
    table = random_table(seed, labels=classes)
    record = evaluate(table, replicates=10, task="sign")["members"]["network"]["frame"]
    expected = reference(table[table["target"] >= 0], 4)
    compare(record, {(f"{n[:-1]}{SIGNS[int(n[-1])]}" if n[-2] == "_" else n): v for n, v in expected.items()})
    assert record["classes"] == list(SIGNS)
    assert not ONLY_SCORES & set(record)
    assert record["n"] == (table["target"] >= 0).sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.sampled_from(SIGNS), min_size=1), st.sampled_from([(0, 1), (0,), (1,)]))
def test_several_signs_equal_scikit_learn_each_alone(seed, signs, classes):
    table = several(seed, sorted(signs), classes)
    found = evaluate(table, replicates=10, task="signs")["members"]["network"]["frame"]
    assert set(found) == signs
    for sign, record in found.items():
        compare(record, reference(table[(table["sign"] == sign) & (table["target"] >= 0)], 2))
        assert not ONLY_SCORES & set(record)


def test_a_sign_that_nobody_looked_for_has_no_figures_and_is_said_to_have_none():
    table = pd.concat([several(0, ["a_lines"]), random_table(5, 2, (0, 1)).assign(sign="effusion", target=-1)])
    result = evaluate(table, replicates=10)
    assert list(result["members"]["network"]["frame"]) == ["a_lines"]
    assert any("effusion: no row has a label" in warning for warning in result["warnings"])


@pytest.mark.parametrize("task", ["sign", "signs"])
def test_signs_have_neither_zones_nor_exams_nor_a_scoring_standard(task):
    table = random_table(1) if task == "sign" else several(1, SIGNS)
    result = evaluate(table, replicates=10, task=task)
    assert list(result["members"]["network"]) == ["frame", "clip"]
    assert not any("standard" in warning or "zone" in warning for warning in result["warnings"])


def test_scores_keep_what_only_scores_have():
    levels = evaluate(random_table(2).assign(standard="soldati"), replicates=10)["members"]["network"]
    assert list(levels) == ["frame", "clip", "zone", "exam"]
    assert set(levels["frame"]) >= ONLY_SCORES | {"kappa"}


@pytest.mark.parametrize(("table", "task", "sentence"), [
    (random_table(0).assign(standard="xing"), "sign", "severity scores and not signs"),
    (random_table(0), "signs", "one class a sample"),
    (several(0, SIGNS), "sign", "several signs at once"),
    (pd.concat([random_table(0, 2, (0, 1)), several(0, ["effusion"])]), "score", "of both"),
    (random_table(0), "severity", "the task is 'severity'"),
])  # fmt: skip
def test_scores_and_signs_cannot_be_taken_for_one_another(table, task, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(table, replicates=10, task=task)


def two_frames(targets, preds, probs):
    return random_table(0, n=2).assign(target=targets, pred=preds, **{f"p_{c}": [p[c] for p in probs] for c in range(4)})


def test_of_signs_that_are_as_probable_the_first_is_said_and_of_scores_the_more_severe():
    table = two_frames([2, 2], [1, 3], [[0, 0.8, 0, 0.2], [0, 0.2, 0, 0.8]])
    assert aggregate(table, "clip", ordered=False)["pred"].tolist() == [1]
    assert aggregate(table, "clip", "majority", ordered=False)["pred"].tolist() == [1]
    assert aggregate(table, "clip")["pred"].tolist() == [3]


def test_a_clip_whose_frames_are_labelled_with_two_signs_equally_often_has_no_single_sign():
    probs = [[0.7, 0.1, 0.1, 0.1]] * 2
    assert aggregate(two_frames([1, 3], [0, 0], probs), "clip", ordered=False)["target"].tolist() == [-1]
    assert aggregate(two_frames([-1, 3], [0, 0], probs), "clip", ordered=False)["target"].tolist() == [3]
    assert aggregate(two_frames([-1, -1], [0, 0], probs), "clip", ordered=False)["target"].tolist() == [-1]


@pytest.mark.parametrize(("level", "rule"), [("zone", "mean"), ("exam", "mean"), ("clip", "worst"), ("clip", "one_percent")])
def test_what_needs_an_order_is_refused_for_signs(level, rule):
    with pytest.raises(UserError, match="without an order"):
        aggregate(random_table(0), level, rule, ordered=False)


def test_a_part_of_the_table_may_lack_the_last_patients():
    table = several(3, ["a_lines"])
    units = pd.factorize(table["patient"])[0]
    first = units < 7
    weights = np.random.default_rng(0).integers(0, 3, (5, 10))
    part = score_statistic(table[first], units[first], 2, ordered=False)
    np.testing.assert_array_equal(part(weights)["kappa"], part(weights[:, :7])["kappa"])
