"""What the paper prints is re-computed from itself: sums, shares, identities between columns, and every erratum."""

from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import yaml

from lus_lightning.errors import UserError
from lus_lightning.methods import CascadedVotingClassifier
from lus_lightning.report.published import load
from lus_lightning.runs import flat

XING = load("xing")
VALUE = {name: entry.value for name, entry in XING.values.items()}
TABLE = {name: table.frame for name, table in XING.tables.items()}
SCORES = [f"Score {c}" for c in range(4)]
TRAIN = TABLE["data"]["Training"]
HITS = (TABLE["table_6"]["ACC"][SCORES] / 100 * 250).round().to_numpy()


def rounded(values, digits=1):
    """Half up, as papers round, of values that float64 holds a little above or below."""
    return np.floor(np.asarray(values, dtype=float) * 10**digits + 0.5 + 1e-6) / 10**digits


def predicted():
    """For each score the whole numbers of predicted images that give the printed SEN."""
    printed = TABLE["table_6"]["SEN"][SCORES]
    return [[n for n in range(1, 1001) if rounded(100 * hit / n) == sen] for hit, sen in zip(HITS, printed, strict=True)]


def is_share_of(value, n):
    """Whether a percentage of two decimals is a whole number of n."""
    return abs(round(value * n / 100) / n * 100 - value) <= 0.005 + 1e-9


def table_6_columns():
    tp, fn = HITS, 250 - HITS
    fp = np.array(predicted()).ravel() - tp
    tn = 750 - fp
    printed = TABLE["table_6"].loc[SCORES]
    assert list(rounded(100 * tp / (tp + fn))) == list(printed["ACC"])
    assert list(rounded(100 * tp / (tp + fp))) == list(printed["SEN"])
    assert list(rounded(100 * 2 * tp / (2 * tp + fn + fp))) == list(printed["F1"])
    candidates = {"specificity": tn / (tn + fp), "negative predictive value": tn / (tn + fn), "accuracy": (tp + tn) / 1000}
    assert min(candidates, key=lambda name: np.abs(100 * candidates[name] - printed["SPE"]).sum()) == "negative predictive value"
    text = next(e for e in XING.errata if e.id == "table_6_columns")
    assert "/".join(f"{v:g}" for v in rounded(100 * candidates["specificity"])) in text.meant
    assert "/".join(f"{v:g}" for v in rounded(100 * candidates["negative predictive value"])) in text.evidence


def two_images_without_a_score():
    assert predicted() == [[251], [257], [230], [260]]
    assert sum(np.ravel(predicted())) == 998


def table_3_not_the_test_set():
    entries, fifth = TABLE["table_3"].loc[SCORES], TRAIN / 5
    assert not any(is_share_of(v, 250) for v in entries.to_numpy().ravel())
    assert sum(is_share_of(v, fifth[score]) for score in SCORES for v in entries.loc[score]) == 15
    by_chance = sum(5 * np.mean([is_share_of(v / 100, fifth[score]) for v in range(10001)]) for score in SCORES)
    assert by_chance == pytest.approx(1.83, abs=0.01)
    assert rounded(100 * TABLE["table_4"].loc["Score 0", "1"] / fifth["Score 0"], 2) == 96.55


def table_3_mean():
    mean = TABLE["table_3"].loc[SCORES].to_numpy().mean()
    assert mean == pytest.approx(85.9965)
    assert rounded(mean, 2) == 86.00
    assert np.floor(100 * mean) / 100 == VALUE["stage_1_test_accuracy"]


def vote_below_vgg():
    gap = TABLE["table_6"]["ACC"][SCORES] - TABLE["table_5"].loc["Vgg-19", SCORES]
    assert list(gap.round(1)) == [-2.0, 3.2, 3.2, 0.4]


def framework():
    assert VALUE["frame"] == "Matlab 2019b"


def half_an_epoch():
    draws = VALUE["iterations"] * VALUE["batch_size"]
    assert rounded(draws / (VALUE["train_images"] * 4 / 5), 2) == VALUE["draws_per_epoch_stage_1"] == 0.55
    assert rounded(draws / VALUE["kept_images"], 2) == 0.62


def selection_discards_score_2():
    kept = TABLE["table_4"].loc[SCORES].sum(axis=1)
    assert list(kept) == [3514, 4242, 1839, 3354]
    share = 100 * kept / TRAIN
    assert list(share.round()) == [71, 74, 45, 93]
    assert rounded(100 - share["Score 2"]) == 54.8
    assert rounded(100 - 100 * kept.sum() / TRAIN.sum()) == 29.4
    assert list(rounded(share, 2)) == list(TABLE["kept_share"]["Kept"][SCORES])


def folds_of_images():
    assert "patient" not in XING.values["folds"].unit


def relative_or_absolute():
    assert VALUE["stage_2_accuracy"] - VALUE["stage_1_test_accuracy"] == pytest.approx(VALUE["gain_over_stage_1"])
    assert VALUE["stage_2_accuracy"] - 93.0 == pytest.approx(VALUE["gain_over_initial_vote"])
    mean = TABLE["table_5"]["Average"].mean()
    assert rounded(VALUE["stage_2_accuracy"] - mean, 2) == 4.27
    assert VALUE["gain_over_selected_networks"] == 4.26


CHECKS = [table_6_columns, two_images_without_a_score, table_3_not_the_test_set, table_3_mean, vote_below_vgg, framework, half_an_epoch,
          selection_discards_score_2, folds_of_images, relative_or_absolute]  # fmt: skip


@pytest.mark.parametrize("erratum", [e.id for e in XING.errata])
def test_every_erratum_follows_from_the_paper_itself(erratum):
    {check.__name__: check for check in CHECKS}[erratum]()


def test_images_and_patients_add_up():
    assert VALUE["train_patients"] + VALUE["test_patients"] == VALUE["patients"]
    assert TRAIN.sum() == VALUE["train_images"]
    assert TABLE["data"]["Test"].sum() == VALUE["test_images"]
    assert VALUE["train_images"] + VALUE["test_images"] == VALUE["images_agreed"]
    assert rounded(100 * VALUE["images_agreed"] / VALUE["images_collected"], 2) == VALUE["images_agreed_share"]


def test_shares_of_the_scores_before_and_after_the_selection_are_those_of_the_counts():
    kept = TABLE["table_4"].loc[SCORES].sum(axis=1)
    assert list(rounded(100 * TRAIN / TRAIN.sum(), 2)) == list(TABLE["data_share"]["Before"])
    assert list(rounded(100 * kept / kept.sum(), 2)) == list(TABLE["data_share"]["After"])


def test_table_4_adds_up_to_12949():
    assert list(TABLE["table_4"].loc[SCORES].sum()) == list(TABLE["table_4"].loc["Sum"])
    assert TABLE["table_4"].loc["Sum"].sum() == VALUE["kept_images"] == 12949
    assert rounded(100 * 12949 / 18330, 2) == VALUE["stage_1_out_of_fold_accuracy"] == TABLE["kept_share"].loc["All", "Kept"]


@pytest.mark.parametrize(("table", "axis", "digits"), [("table_3", 0, 2), ("table_5", 1, 1)])
def test_averages_are_means_of_their_scores(table, axis, digits):
    frame = TABLE[table] if axis == 0 else TABLE[table].T
    assert list(rounded(frame.loc[SCORES].mean(), digits)) == list(frame.loc["Average"])


def test_table_5_is_of_250_images_a_score():
    assert all(is_share_of(v, 250) for v in TABLE["table_5"][SCORES].to_numpy().ravel())


def test_table_6_averages_are_means_of_its_columns():
    assert list(rounded(TABLE["table_6"].loc[SCORES].mean())) == list(TABLE["table_6"].loc["Average"])


def test_fig_10_and_the_corrected_table_6_follow_from_the_printed_columns():
    tp, fp = HITS, np.array(predicted()).ravel() - HITS
    counts = TABLE["fig_10"]
    assert np.array_equal(counts.to_numpy(), np.column_stack([tp, 250 - tp, fp, 750 - fp]))
    right = TABLE["table_6_corrected"].loc[SCORES]
    shares = {
        "Accuracy": (counts["TP"] + counts["TN"]) / 1000,
        "Sensitivity": counts["TP"] / 250,
        "Specificity": counts["TN"] / 750,
        "Precision": counts["TP"] / (counts["TP"] + counts["FP"]),
        "F1": 2 * counts["TP"] / (2 * counts["TP"] + counts["FN"] + counts["FP"]),
    }
    for column, share in shares.items():
        assert list(rounded(100 * share)) == list(right[column]), column
        assert rounded(right[column].mean()) == TABLE["table_6_corrected"].loc["Average", column], column


def test_fig_9_is_table_5_and_the_text():
    fig_9 = TABLE["fig_9"]
    assert fig_9.drop("Vote").equals(TABLE["table_5"])
    assert list(fig_9.loc["Vote", SCORES]) == list(TABLE["table_6"]["ACC"][SCORES])
    assert fig_9.loc["Vote", "Average"] == VALUE["stage_2_accuracy"]


def test_fig_11_holds_what_the_text_states_or_implies():
    accuracy = TABLE["fig_11"]["Accuracy"].to_numpy()
    assert accuracy[0] == pytest.approx(VALUE["stage_2_accuracy"] - 9)
    assert accuracy[1] == VALUE["stage_1_test_accuracy"]
    assert np.isnan(accuracy[2:5]).all()
    assert accuracy[5] == 93.0
    assert list(accuracy[6:9]) == list(TABLE["table_5"]["Average"])
    assert accuracy[9] == VALUE["stage_2_accuracy"]
    implied = VALUE["stage_2_accuracy"] - VALUE["gain_over_initial_networks"]
    assert implied == pytest.approx(VALUE["initial_networks_mean"])
    gain = TABLE["selection_gain"]["Selected - initial"]
    assert gain["Mean of the three"] == rounded(accuracy[6:9].mean() - implied, 2)
    assert gain["Vote"] == pytest.approx(accuracy[9] - accuracy[5])


def test_what_has_no_number_says_why():
    assert all((entry.value is None) == bool(entry.missing) for entry in XING.values.values())
    for table in XING.tables.values():
        empty = {row for row, values in table.rows.items() if None in values}
        assert all("Not printed" in table.notes[row] for row in empty & set(table.notes))
        assert not empty or table.notes


def test_the_recipe_is_the_papers():
    recipe = flat(yaml.safe_load(Path(__file__).parents[2].joinpath("experiments/xing.yaml").read_text()))
    of = {key.rpartition(".")[2]: value for key, value in recipe.items()}
    for name in ("iterations", "batch_size", "lr", "weight_decay", "momentum", "folds", "max_frames", "min_gap"):
        assert of[name] == VALUE[name], name
    assert round(of["test_share"] * VALUE["patients"]) == VALUE["test_patients"]
    assert of["raters_agree"] is True


def test_the_method_has_the_papers_networks_and_threshold():
    default = {name: p.default for name, p in signature(CascadedVotingClassifier).parameters.items()}
    assert 100 * default["threshold"] == VALUE["vote_threshold"]
    assert default["selector"] == VALUE["stage_1_network"].lower().replace("-", "")
    networks = [name.rpartition(":")[2] for name in default["networks"]]
    assert networks == [name.lower().replace("-", "") for name in XING.tables["table_5"].rows]


def test_a_paper_that_is_not_kept_is_refused_with_those_that_are():
    with pytest.raises(UserError, match="xing"):
        load("nobody")
