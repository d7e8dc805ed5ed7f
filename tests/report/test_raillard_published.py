"""What Raillard et al. print is re-computed from itself: sums, differences and every erratum."""

from itertools import combinations

import pytest

from lus_lightning.report.published import load

PUBLISHED = load("raillard")
VALUE = {name: entry.value for name, entry in PUBLISHED.values.items()}
TABLE = {name: table.frame for name, table in PUBLISHED.tables.items()}


def best_network():
    assert TABLE["accuracy"]["Accuracy"].idxmin() == "ResNet50"
    assert (TABLE["table_2"].idxmax() == "ResNet50").all()


def training_minutes():
    minutes = TABLE["table_2_time"]["Mean training time"]
    assert list(minutes.round()[["ResNet50", "VGG16"]]) == [26, 74]
    assert (~minutes.between(30, 60)).sum() == 2


def frames_of_a_zone():
    totals = []
    for number in (1, 2):
        counts = TABLE[f"fig_4_patient_{number}"].fillna(0)
        true, predicted = (counts[[f"Score {c}, {kind}" for c in range(4)]].sum(axis=1) for kind in ("true", "predicted"))
        totals.append((true, predicted))
        assert true.sum() == predicted.sum() == (723 if number == 1 else 725)
    (true, predicted), second = totals
    assert list(true.index[true != predicted]) == ["Left Anterior Inferior", "Left Lateral Superior"]
    assert list(true[true != predicted]) + list(predicted[true != predicted]) == [66, 61, 68, 59]
    assert (second[0] == second[1]).all()


def most_layers_frozen():
    assert "all pre-trained layers were frozen" in next(e for e in PUBLISHED.errata if e.id == "most_layers_frozen").evidence


def measures_for_each_class():
    assert TABLE["fig_3_auc"][[f"Score {c}" for c in range(4)]].isna().all().all()
    assert TABLE["fig_3_auc"]["Macro"].equals(TABLE["table_2"]["ROC-AUC"])


CHECKS = [best_network, training_minutes, frames_of_a_zone, most_layers_frozen, measures_for_each_class]


@pytest.mark.parametrize("erratum", [e.id for e in PUBLISHED.errata])
def test_every_erratum_follows_from_the_paper_itself(erratum):
    {check.__name__: check for check in CHECKS}[erratum]()


def test_images_patients_folds_and_derived_numbers_add_up():
    images = TABLE["data"]["Images"]
    assert images.drop("All").sum() == images["All"] == VALUE["images"] == 23732
    assert VALUE["covid_patients"] + VALUE["healthy_patients"] == VALUE["patients"]
    assert VALUE["healthy_patients_per_fold"] * VALUE["folds"] == VALUE["healthy_patients"]
    assert 3 * VALUE["zones"] == VALUE["highest_exam_score"]
    assert VALUE["most_frequent_score"] == round(images.drop("All").max() / VALUE["images"], 3)
    assert TABLE["accuracy"]["Accuracy"].min() > VALUE["accuracy_at_least"]
    measures = TABLE["table_2"].join(TABLE["accuracy"])[["Accuracy", "Macro-precision", "Macro-recall"]]
    for a, b in combinations(TABLE["accuracy"].index, 2):
        assert list(TABLE["pairwise"].loc[f"{a} - {b}"]) == pytest.approx(list(measures.loc[a] - measures.loc[b]))


def test_what_has_no_number_says_why():
    assert all((entry.value is None) == bool(entry.missing) for entry in PUBLISHED.values.values())
    assert all(table.notes for table in PUBLISHED.tables.values() if table.frame.isna().any().any())
