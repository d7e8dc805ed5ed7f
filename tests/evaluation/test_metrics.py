import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lus_lightning.evaluation.metrics import confusion, exam_metrics, exam_statistic, metrics, score_statistic

CASES = {
    "all classes": (0, 1, 2, 3),
    "no class 1": (0, 2, 3),
    "no class 0 or 3": (1, 2),
    "one class": (2,),
}


def draw(seed: int, classes: tuple[int, ...], n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets of some classes (some unknown), predictions of any class (some abstain), probabilities with ties."""
    g = np.random.default_rng(seed)
    target = g.choice(classes, n)
    probs = g.dirichlet(np.ones(4), n) + 0.5 * np.eye(4)[target]
    probs = np.round(probs / probs.sum(axis=1, keepdims=True), 1).astype(np.float32)
    pred = np.where(g.random(n) < 0.15, -1, probs.argmax(axis=1))
    pred[pred == 2] = 2 if seed % 2 else 3  # half of the tables have a class that is never predicted
    return np.where(g.random(n) < 0.1, -1, target), pred, probs


@pytest.mark.parametrize("classes", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_scikit_learn_with_absent_classes_and_abstentions(seed, classes):
    target, pred, probs = draw(seed, classes)
    found = metrics(target, pred, probs)
    known = target >= 0
    t, p, q = target[known], pred[known], probs[known].astype(float)
    spoke = p >= 0
    expected = {
        "accuracy": sk.accuracy_score(t, p),
        "coverage": spoke.mean(),
        "accuracy_within_1": np.mean([abs(a - b) <= 1 and b >= 0 for a, b in zip(t, p, strict=True)]),
        "qwk": sk.cohen_kappa_score(t[spoke], p[spoke], labels=range(4), weights="quadratic"),
        "kappa": sk.cohen_kappa_score(t[spoke], p[spoke], labels=range(4)),
        **{f"accuracy_{c}": sk.accuracy_score(t == c, p == c) for c in classes},
    }
    for name, score in {"sensitivity": sk.recall_score, "precision": sk.precision_score, "f1": sk.f1_score}.items():
        expected[name] = score(t, p, labels=classes, average="macro", zero_division=0)
        each = score(t, p, labels=classes, average=None, zero_division=0)
        expected |= {f"{name}_{c}": value for c, value in zip(classes, each, strict=True)}
    if len(classes) > 1:
        for name, score in {"specificity": specificity, "auroc": area}.items():
            each = {f"{name}_{c}": score(t, p, q, c) for c in classes}
            expected |= each | {name: np.mean(list(each.values()))}
    if {0, 1} & set(classes) and {2, 3} & set(classes):
        expected["auroc_severe"] = sk.roc_auc_score(t >= 2, q[:, 2] + q[:, 3])
    for name, value in found.items():
        assert value == pytest.approx(expected.get(name, np.nan), nan_ok=True), name
    assert expected.keys() <= found.keys()


def specificity(target, pred, probs, c):
    return sk.recall_score(target != c, pred != c)


def area(target, pred, probs, c):
    return sk.roc_auc_score(target == c, probs[:, c])


def test_macro_roc_auc_is_scikit_learns_one_against_the_rest():
    g = np.random.default_rng(0)
    target, probs = g.integers(0, 4, 300), g.dirichlet(np.ones(4), 300)
    expected = sk.roc_auc_score(target, probs, multi_class="ovr", average="macro")
    assert metrics(target, probs.argmax(axis=1), probs)["auroc"] == pytest.approx(expected)


def test_kappa_is_not_defined_where_target_and_prediction_never_vary():
    assert np.isnan(metrics(np.full(9, 2), np.full(9, 2))["qwk"])


def test_two_classes_have_plain_sensitivity_and_specificity_of_the_sign_under_class_1():
    target, pred, probs = (x.clip(-1, 1) for x in draw(3, (0, 1, 2)))
    found, known = metrics(target, pred, probs[:, :2], n_classes=2), target >= 0
    assert found["sensitivity_1"] == pytest.approx(sk.recall_score(target[known] == 1, pred[known] == 1))
    assert found["specificity_1"] == pytest.approx(sk.recall_score(target[known] == 0, pred[known] != 1))
    assert "auroc_severe" not in found


def test_without_probabilities_there_is_no_roc_auc_and_with_missing_ones_it_is_not_defined():
    target, pred, probs = draw(0, (0, 1, 2, 3))
    assert not any(name.startswith("auroc") for name in metrics(target, pred))
    assert np.isnan(metrics(target, pred, np.where(probs > 0.9, np.nan, np.full_like(probs, np.nan)))["auroc"])


def test_no_labelled_row_leaves_every_metric_undefined():
    assert np.isnan(list(metrics(np.array([-1, -1]), np.array([0, 1]), np.full((2, 4), 0.25)).values())).all()
    assert np.isnan(list(metrics(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4))).values())).all()


def test_the_confusion_matrix_is_scikit_learns_with_abstentions_in_the_last_column():
    target, pred, _ = draw(1, (0, 1, 3))
    known = target >= 0
    expected = sk.confusion_matrix(target[known], pred[known], labels=[0, 1, 2, 3, -1])[:4]
    np.testing.assert_array_equal(confusion(target, pred, 4), expected)


def test_weights_over_units_give_the_metrics_of_a_table_in_which_units_are_repeated():
    target, pred, probs = draw(7, (0, 1, 2, 3))
    units = np.random.default_rng(70).integers(0, 12, len(target))
    table = pd.DataFrame({"target": target, "pred": pred} | {f"p_{c}": probs[:, c] for c in range(4)})
    weights = np.random.default_rng(8).integers(0, 4, (20, 12))
    weighted = score_statistic(table, units)(weights)
    for r, row in enumerate(weights):
        again = np.repeat(np.arange(len(target)), row[units])
        for name, value in metrics(target[again], pred[again], probs[again]).items():
            assert weighted[name][r] == pytest.approx(value), name


def icc_by_anova(ratings: np.ndarray) -> float:
    """ICC(2,1) of Shrout and Fleiss 1979, from the sums of squares of a two-way table (n subjects x k raters)."""
    n, k = ratings.shape
    mean = ratings.mean()
    subjects, raters = ratings.mean(axis=1), ratings.mean(axis=0)
    rows = k * ((subjects - mean) ** 2).sum() / (n - 1)
    columns = n * ((raters - mean) ** 2).sum() / (k - 1)
    error = ((ratings - subjects[:, None] - raters + mean) ** 2).sum() / ((n - 1) * (k - 1))
    return (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)


def test_the_anova_reference_gives_the_value_that_shrout_and_fleiss_print():
    printed = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    assert icc_by_anova(printed) == pytest.approx(0.29, abs=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_agreement_of_exam_sums_equals_anova_and_bland_altman(seed):
    g = np.random.default_rng(seed)
    target = g.integers(0, 19, 25)
    pred = target + g.integers(-3, 6, 25)
    exams = pd.DataFrame({"sum_pred": [*pred, np.nan], "sum_target": [*target, 4.0]})
    found, gap = exam_metrics(exams), pred - target
    assert found["sum_icc"] == pytest.approx(icc_by_anova(np.stack([pred, target], axis=1)))
    assert found["sum_bias"] == pytest.approx(gap.mean())
    assert found["sum_loa_low"] == pytest.approx(gap.mean() - 1.96 * gap.std(ddof=1))
    assert found["sum_loa_high"] == pytest.approx(gap.mean() + 1.96 * gap.std(ddof=1))


def test_weights_over_patients_give_the_agreement_of_exams_that_are_repeated():
    g = np.random.default_rng(3)
    exams = pd.DataFrame({"sum_pred": g.integers(0, 18, 30).astype(float), "sum_target": g.integers(0, 18, 30).astype(float)})
    units, weights = np.arange(30) % 20, g.integers(0, 3, (10, 20))
    weighted = exam_statistic(exams, units)(weights)
    for r, row in enumerate(weights):
        for name, value in exam_metrics(exams.iloc[np.repeat(np.arange(30), row[units])]).items():
            assert weighted[name][r] == pytest.approx(value), name


def test_fewer_than_two_exams_have_no_agreement():
    found = exam_metrics(pd.DataFrame({"sum_pred": [3.0, np.nan], "sum_target": [5.0, 2.0]}))
    assert found["sum_bias"] == -2
    assert np.isnan([found["sum_icc"], found["sum_loa_low"]]).all()
