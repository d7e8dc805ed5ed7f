import numpy as np
import pandas as pd
import pytest

from lus_lightning.errors import UserError
from lus_lightning.evaluation.intervals import interval, paired_difference, patient_bootstrap, resample_weights
from lus_lightning.evaluation.metrics import metrics

SKILL = (3.0, 1.5)  # Beta: how often a patient's frames are scored right differs from patient to patient
CLASSES = np.array([0.6, 0.6, 0.5, 0.3])  # Dirichlet: a patient has mostly frames of one or two scores
MISTAKES = np.array([[0, 0.7, 0.2, 0.1], [0.4, 0, 0.5, 0.1], [0.1, 0.5, 0, 0.4], [0.1, 0.2, 0.7, 0]])


def pick(g: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """(N, C) -> (N,) a class drawn from each row."""
    return (shares.cumsum(axis=1)[:, :3] < g.random((len(shares), 1))).sum(axis=1)


def simulated_table(seed: int, patients: int = 50) -> pd.DataFrame:
    """Patients of 10-59 frames; the frames of a patient share his skill and his shares of scores."""
    g = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), g.integers(10, 60, patients))
    target = pick(g, g.dirichlet(CLASSES, patients)[patient])
    pred = np.where(g.random(len(patient)) < g.beta(*SKILL, patients)[patient], target, pick(g, MISTAKES[target]))
    return pd.DataFrame({"patient": patient, "row": np.arange(len(patient)), "target": target, "pred": pred})


def truth() -> dict[str, float]:
    """Exact: skill and shares are independent, so the expected confusion matrix is a product of their means."""
    right = SKILL[0] / sum(SKILL)
    cells = np.diag(CLASSES / CLASSES.sum()) @ (right * np.eye(4) + (1 - right) * MISTAKES)
    off = np.subtract.outer(np.arange(4), np.arange(4)) ** 2
    chance = (np.outer(cells.sum(axis=1), cells.sum(axis=0)) * off).sum()
    return {"accuracy": np.trace(cells), "qwk": 1 - (cells * off).sum() / chance}


def coverage(unit: str, tables: int) -> dict[str, float]:
    held: dict[str, list[bool]] = {name: [] for name in truth()}
    for seed in range(tables):
        found = patient_bootstrap(simulated_table(seed), seed=10_000 + seed, unit=unit)
        for name, value in truth().items():
            held[name].append(found[name].low <= value <= found[name].high)
    return {name: float(np.mean(h)) for name, h in held.items()}


def test_the_exact_truth_is_that_of_a_huge_simulated_table():
    huge = pd.concat([simulated_table(seed) for seed in range(400)])
    found = metrics(huge["target"].to_numpy(), huge["pred"].to_numpy())
    for name, value in truth().items():
        assert found[name] == pytest.approx(value, abs=0.01)


def test_a_bootstrap_over_patients_covers_the_truth_and_one_over_rows_visibly_does_not():
    over_patients, over_rows = coverage("patient", 500), coverage("row", 60)
    assert 0.92 <= over_patients["accuracy"] <= 0.98, over_patients
    assert 0.90 <= over_patients["qwk"] <= 0.98, over_patients
    assert max(over_rows.values()) < 0.8, over_rows


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    table = simulated_table(0)
    first, again, other = (patient_bootstrap(table, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["qwk"] != other["qwk"]


def test_an_interval_does_not_depend_on_the_order_of_rows_within_patients():
    table = simulated_table(1)
    turned = table.iloc[::-1].sort_values("patient", kind="stable")
    assert patient_bootstrap(table) == patient_bootstrap(turned)


def test_each_resample_draws_as_many_patients_as_there_are():
    weights = resample_weights(7, 50, 0)
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()


def test_few_patients_widen_the_interval_beyond_the_plain_percentiles():
    values = np.random.default_rng(0).normal(size=100_000)
    for n, plain in ((10, 2.384), (50, 2.030)):  # t(0.975, n - 1) * sqrt(n / (n - 1))
        assert interval(values, n).high == pytest.approx(plain, abs=0.05)


def test_resamples_that_lack_a_class_are_left_out_and_counted():
    patients = np.repeat(np.arange(30), 4)
    table = pd.DataFrame({"patient": patients, "target": np.where(patients < 4, 3, patients % 3), "pred": patients % 4})
    found = patient_bootstrap(table, replicates=4000)
    expected = (1 - 4 / 30) ** 30
    assert found["sensitivity_3"].undefined == pytest.approx(expected, abs=0.01)
    assert found["sensitivity"].undefined == found["sensitivity_3"].undefined
    assert found["accuracy"].undefined == 0
    assert not np.isnan([found["sensitivity_3"].low, found["sensitivity"].low]).any()


def test_a_class_that_one_patient_holds_has_no_interval():
    patients = np.repeat(np.arange(30), 4)
    table = pd.DataFrame({"patient": patients, "target": np.where(patients < 1, 3, patients % 3), "pred": patients % 4})
    found = patient_bootstrap(table)
    assert 0.3 < found["sensitivity_3"].undefined < 0.45
    assert np.isnan([found["sensitivity_3"].low, found["sensitivity"].low]).all()
    assert not np.isnan([found["accuracy"].low, found["sensitivity_1"].low]).any()


def test_one_patient_has_no_interval():
    assert np.isnan(patient_bootstrap(simulated_table(0).query("patient == 0"))["accuracy"].low)


def test_a_paired_difference_is_exact_for_equal_methods_and_narrower_than_two_intervals_apart():
    a = simulated_table(3)
    b = a.assign(pred=np.where(a["row"] % 20 == 0, (a["target"] + 1) % 4, a["pred"]))
    same, less = paired_difference(a, a), paired_difference(a, b)
    assert same["accuracy"] == (0, 0, 0, 0)
    assert less["accuracy"].value == pytest.approx((a["target"] == a["pred"]).mean() - (b["target"] == b["pred"]).mean())
    assert 0 < less["accuracy"].low < less["accuracy"].value < less["accuracy"].high
    alone = patient_bootstrap(a)["accuracy"]
    assert less["accuracy"].high - less["accuracy"].low < (alone.high - alone.low) / 2


def test_a_paired_difference_does_not_depend_on_the_order_of_the_second_table():
    a = simulated_table(4)
    b = a.assign(pred=a["pred"].to_numpy()[::-1])
    assert paired_difference(a, b) == paired_difference(a, b.iloc[::-1])


def test_methods_tested_on_different_samples_are_not_compared():
    a = simulated_table(5).rename(columns={"row": "frame"})
    with pytest.raises(UserError, match="0 only in the first, 1 only in the second"):
        paired_difference(a.iloc[1:], a)
