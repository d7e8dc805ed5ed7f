"""Splits: whole patients, alike parts, and nothing but table and seed decides."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from lus_lightning.data.index import build_index
from lus_lightning.data.splits import not_measured, split_patients
from lus_lightning.errors import UserError

SIGNS = ("a_lines", "b_lines", "effusion", "consolidation")


def _table(scores_by_patient):
    """One row per clip from each patient's list of scores."""
    rows = [(f"p{i}-{j}", f"p{i}", s) for i, scores in enumerate(scores_by_patient) for j, s in enumerate(scores)]
    table = pd.DataFrame(rows, columns=["clip", "patient", "score"])
    diagnosis = {p: "COVID" if int(p[1:]) % 2 else "healthy" for p in table["patient"]}
    return table.assign(diagnosis=table["patient"].map(diagnosis), score=table["score"].astype("Int64"), **dict.fromkeys(SIGNS, pd.NA))


def _random_table(patients, seed, clips=6):
    rng = np.random.default_rng(seed)
    return _table([np.clip(rng.integers(4) + rng.integers(-1, 2, clips), 0, 3) for _ in range(patients)])


tables = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=6, max_size=30).map(_table)
recipes = st.fixed_dictionaries(
    {
        "test_share": st.sampled_from([0.0, 0.1, 0.2, 0.35]),
        "val_share": st.sampled_from([0.0, 0.15, 0.3]),
        "folds": st.integers(0, 5),
        "seed": st.integers(0, 2**32 - 1),
        "unit": st.sampled_from(["patient", "clip"]),
        "stratify": st.sampled_from(["score", "diagnosis"]),
    }
)


def _split(table, recipe):
    """The split, or none where the rules forbid one."""
    try:
        return split_patients(table, **recipe)
    except UserError:
        return None


@settings(max_examples=40, deadline=None)
@given(tables, recipes)
def test_no_unit_is_on_two_sides_and_every_clip_is_somewhere(table, recipe):
    split = _split(table, recipe)
    assume(split is not None)
    assert split["clip"].tolist() == table["clip"].tolist()
    assert set(split["split"]) <= {"train", "val", "test"}
    assert (split.groupby(recipe["unit"])[["split", "fold"]].nunique() == 1).all(axis=None)


@settings(max_examples=40, deadline=None)
@given(tables, recipes)
def test_folds_cover_the_training_units_once_and_differ_by_at_most_one(table, recipe):
    split = _split(table, recipe)
    assume(split is not None)
    train = split[split["split"] == "train"]
    assert (split.loc[split["split"] != "train", "fold"] == -1).all()
    expected = range(recipe["folds"]) if recipe["folds"] > 1 else [-1]
    train = train[train["fold"] >= 0] if recipe["folds"] > 1 else train  # what alone has a class lies in none
    assert sorted(train["fold"].unique()) == list(expected)
    sizes = train.groupby("fold")[recipe["unit"]].nunique()
    assert sizes.max() - sizes.min() <= 1


@settings(max_examples=40, deadline=None)
@given(tables, recipes, st.integers(0, 1000))
def test_neither_the_order_of_rows_nor_other_columns_nor_a_second_call_change_the_split(table, recipe, order):
    split = _split(table, recipe)
    shuffled = table.sample(frac=1, random_state=order).assign(zone="L1")
    again = _split(shuffled, recipe)
    assert (split is None) == (again is None)
    if split is not None:
        pd.testing.assert_frame_equal(split.set_index("clip"), again.set_index("clip").loc[split["clip"]])


@settings(max_examples=40, deadline=None)
@given(tables, recipes, st.integers(1, 3))
def test_forced_patients_are_tested_on(table, recipe, count):
    forced = tuple(table["patient"].unique()[:count])
    split = _split(table, recipe | {"unit": "patient", "test_patients": forced})
    assume(split is not None)
    assert (split.loc[split["patient"].isin(forced), "split"] == "test").all()
    wanted = round(recipe["test_share"] * table["patient"].nunique())
    assert split.loc[split["split"] == "test", "patient"].nunique() == max(wanted, count, recipe["test_share"] > 0)


@settings(max_examples=40, deadline=None)
@given(tables, recipes)
def test_training_has_every_class_without_any_fold_too_and_a_part_lacks_only_what_too_few_units_have(table, recipe):
    split = _split(table, recipe)
    assume(split is not None)
    joined = table.merge(split, on=["clip", "patient"])
    train = joined[joined["split"] == "train"]
    parts = (recipe["test_share"] > 0) + (recipe["val_share"] > 0) + 1 + (recipe["folds"] > 1)
    for column in ["score"] + ["diagnosis"] * (recipe["stratify"] == "diagnosis"):
        for part in [train] + [train[train["fold"] != i] for i in set(train["fold"]) - {-1}]:
            assert set(part[column]) == set(table[column])
        units = joined.groupby(column)[recipe["unit"]].nunique()
        for _, part in joined.groupby("split"):
            assert set(units.index[units >= parts]) <= set(part[column])
        rare = joined[joined[column].isin(units.index[units < parts])]
        assert (joined.loc[joined[recipe["unit"]].isin(rare[recipe["unit"]]), "split"] == "train").all()


def _worst_share_error(table, fold, folds):
    """Largest deviation of a fold's share of a score's clips from an even share, and the number of missing classes."""
    counts = pd.crosstab(fold, table["score"].astype(int))
    return (counts / counts.sum() - 1 / folds).abs().max(axis=None), int((counts == 0).sum().sum())


@pytest.mark.parametrize("folds", [3, 5])
def test_folds_are_more_alike_than_scikit_learns(folds):
    ours, theirs = [], []
    for seed in range(8):
        table = _random_table(31, seed)
        ours.append(_worst_share_error(table, split_patients(table, 0, 0, folds, seed)["fold"].to_numpy(), folds))
        fold = np.zeros(len(table), int)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for i, (_, held) in enumerate(splitter.split(table, table["score"].astype(int), table["patient"])):
            fold[held] = i
        theirs.append(_worst_share_error(table, fold, folds))
    assert np.mean(ours, axis=0)[0] < np.mean(theirs, axis=0)[0]
    assert sum(missing for _, missing in ours) == 0


@pytest.mark.parametrize("stratify", ["score", "diagnosis"])
def test_parts_are_alike_in_the_stratum_of_their_patients(stratify):
    table = _random_table(60, 1)
    stratum = table.groupby("patient")["score"].max() if stratify == "score" else table.groupby("patient")["diagnosis"].first()
    split = split_patients(table, 0.25, 0.0, 5, 0, stratify=stratify)
    per_patient = split.groupby("patient").first()
    parts = [(per_patient["split"] == "test", 0.25)] + [(per_patient["fold"] == i, 0.15) for i in range(5)]
    for part, share in parts:
        counts = stratum[part].value_counts().reindex(stratum.unique(), fill_value=0)
        assert (counts - share * stratum.value_counts()).abs().max() < 2


def test_another_seed_is_another_split():
    table = _random_table(31, 0)
    splits = {tuple(split_patients(table, 0.2, 0.1, 3, seed)["split"]) for seed in range(6)}
    assert len(splits) == 6


@pytest.mark.parametrize("val_share", [0.0, 0.2])
def test_each_of_the_test_folds_is_tested_once_with_every_class_in_training(val_share):
    table = _random_table(23, 3)
    splits = [split_patients(table, 0.2, val_share, 0, 4, test_folds=5, test_fold=i) for i in range(5)]
    tested = pd.concat([split[split["split"] == "test"].assign(tested_in=i) for i, split in enumerate(splits)])
    assert sorted(tested["clip"]) == sorted(table["clip"])
    assert (tested.groupby("patient")["tested_in"].nunique() == 1).all()
    assert sorted(tested.groupby("tested_in")["patient"].nunique()) == [4, 4, 5, 5, 5]
    for split in splits:
        assert set(table.merge(split)[lambda t: t["split"] == "train"]["score"]) == {0, 1, 2, 3}
        assert ("val" in set(split["split"])) == (val_share > 0)


@pytest.mark.parametrize("which", [{"test_folds": 1}, {"test_folds": 5, "test_fold": 5}, {"test_folds": 5, "test_patients": ["p1"]}])
def test_a_test_fold_that_does_not_exist_is_refused(which):
    with pytest.raises(UserError, match="cannot be tested"):
        split_patients(_random_table(10, 0), 0.2, 0.0, 0, 0, **which)


def test_every_patient_is_tested_on_sometime():
    table = _random_table(30, 0)
    tested = set()
    for seed in range(40):
        split = split_patients(table, 0.2, 0.0, 0, seed)
        tested |= set(split.loc[split["split"] == "test", "patient"])
    assert len(tested) == 30


@pytest.mark.parametrize("seed", range(20))
def test_a_class_that_two_patients_have_is_in_both_parts(seed):
    table = _table([[0, 2, 3]] * 2 + [[1, 2, 3]] * 9 + [[1, 1, 1, 1, 1, 1, 2]] * 9)
    joined = table.merge(split_patients(table, 0.1, 0.0, 0, seed), on=["clip", "patient"])
    assert (joined[joined["score"] == 0].groupby("split").size() == 1).all()
    assert set(joined.loc[joined["score"] == 0, "split"]) == {"train", "test"}


def test_signs_divide_where_no_score_is_known():
    rng = np.random.default_rng(0)
    table = _random_table(40, 0).assign(score=pd.NA)
    for sign in SIGNS:
        table[sign] = pd.Series(rng.random(len(table)) < 0.08).astype("Int64").mask(rng.random(len(table)) < 0.3)
    joined = table.merge(split_patients(table, 0.2, 0.2, 3, 0), on=["clip", "patient"])
    for sign in SIGNS:
        assert (joined.groupby(["split", "fold"])[sign].sum() > 0).all()


def test_unlabelled_clips_are_divided_too():
    split = split_patients(_random_table(10, 0).assign(score=pd.NA), 0.2, 0, 2, 0)
    assert split["split"].value_counts().to_dict() == {"train": 48, "test": 12}


def test_a_frame_split_spreads_a_patient_over_all_sides():
    frames = _random_table(6, 0).loc[lambda t: t.index.repeat(20)].reset_index(drop=True)
    frames = frames.assign(frame=frames.groupby("clip").cumcount())
    split = split_patients(frames, 0.2, 0.0, 5, 0, unit="frame")
    assert split[["clip", "frame"]].to_numpy().tolist() == frames[["clip", "frame"]].to_numpy().tolist()
    assert (split.groupby("patient")["split"].nunique() == 2).all()
    assert (split[split["fold"] >= 0].groupby("patient")["fold"].nunique() == 5).all()


IMPOSSIBLE = {
    "more folds than patients": ({"folds": 9}, "are too few for 0 in test, 0 in validation and 9 fold"),
    "nobody left to train on": ({"test_share": 0.5, "val_share": 0.49}, "are too few"),
    "a class that tested patients alone have": (
        {"test_patients": ("p5",)},
        "the training part (5 of 6 patients) has nobody with score 3, which 1 have; leave some of 'p5' out of split.test_patients",
    ),
    "more test folds than patients": ({"test_folds": 9}, "6 patients are too few"),
    "a negative share": ({"test_share": -0.1}, "must be 0 or more"),
    "the whole": ({"test_share": 0.5, "val_share": 0.5}, "less than 1 together"),
    "an unknown patient": ({"test_patients": ("p1", "1051")}, "no patient is called '1051'; name them as in the index, such as 'p0'"),
    "an unknown unit": ({"unit": "hospital"}, "a unit of patient, clip, frame"),
    "an unknown stratum": ({"stratify": "age"}, "stratified by score or diagnosis"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_split_is_a_sentence_and_never_an_empty_part(case):
    recipe, sentence = IMPOSSIBLE[case]
    table = _table([[0, 1, 2]] * 5 + [[0, 1, 2, 3]])
    with pytest.raises(UserError) as caught:
        split_patients(table, **{"test_share": 0.0, "val_share": 0.0, "folds": 0, "seed": 0, **recipe})
    assert sentence in str(caught.value)


def test_a_missing_diagnosis_is_told_when_it_divides():
    table = _random_table(10, 0)
    table.loc[table["patient"] == "p3", "diagnosis"] = None
    with pytest.raises(UserError, match="patient 'p3' has no diagnosis; fill it in, or stratify by score"):
        split_patients(table, 0.2, 0, 2, 0, stratify="diagnosis")


def test_real_patients_are_split_with_every_score_on_every_side(covid_blues):
    table = build_index(covid_blues).table
    for stratify in ("score", "diagnosis"):
        joined = table.merge(split_patients(table, 0.2, 0.1, 5, 0, stratify=stratify), on=["clip", "patient"])
        assert (joined.groupby("patient")["split"].nunique() == 1).all()
        assert (pd.crosstab([joined["split"], joined["fold"]], joined["score"]) > 0).all(axis=None)


def _digest(split):
    return hashlib.sha256(split.to_csv(index=False).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("how", "digest"),
    [
        ({"test_share": 0.2, "val_share": 0.15, "folds": 5}, "f025e79ecaca3df4"),
        ({"test_share": 0.25, "val_share": 0.0, "folds": 0, "test_folds": 4, "test_fold": 2}, "d7cec7398f5feb71"),
        ({"test_share": 0.2, "val_share": 0.2, "folds": 3, "unit": "clip", "stratify": "diagnosis"}, "8c61092b5b0dc9c3"),
    ],
)
def test_the_division_of_a_study_without_rare_classes_is_that_of_earlier_versions_to_the_bit(how, digest):
    assert _digest(split_patients(_random_table(30, 5), seed=11, **how)) == digest


ONE = [[0, 1, 2]] * 12 + [[0, 3]]
"""Patient p12 alone has score 3."""


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", [{"test_share": 0.2}, {"val_share": 0.2}, {"folds": 3}, {"test_share": 0.2, "val_share": 0.2, "folds": 4}])
def test_whoever_alone_has_a_score_is_trained_on_in_every_fold_and_the_others_are_divided(how, seed):
    table = _table(ONE)
    how = {"test_share": 0.0, "val_share": 0.0, "folds": 0, "seed": seed} | how
    split = split_patients(table, **how)
    assert split.equals(split_patients(table.sample(frac=1, random_state=seed).sort_index(), **how))
    (alone,) = set(map(tuple, split.loc[split["patient"] == "p12", ["split", "fold"]].to_numpy()))
    assert alone == ("train", -1)
    others = split[split["patient"] != "p12"]
    assert others.loc[others["split"] == "test", "patient"].nunique() == (3 if how["test_share"] else 0)
    assert (others.loc[others["split"] == "train", "fold"] >= 0).all() == (how["folds"] > 1)
    (said,) = not_measured(table, split, "score", "score")
    assert said.endswith("of 13 patients only 1 has it (p12), and is trained on.")
    places = {"test patients": "test_share", "validation patients": "val_share", "out-of-fold predictions": "folds"}
    for place, setting in places.items():
        assert (place in said) == (how[setting] > 0)


def test_two_patients_with_a_score_are_in_two_folds_of_training_where_a_test_would_need_a_third():
    for seed in range(10):
        split = split_patients(_table([[0, 1, 2]] * 12 + [[0, 3]] * 2), 0.2, 0.0, 3, seed)
        two = split[split["patient"].isin(["p12", "p13"])].drop_duplicates("patient")
        assert set(two["split"]) == {"train"}
        assert two["fold"].nunique() == 2
        assert two["fold"].min() >= 0


def test_in_a_cross_validation_who_alone_has_a_score_is_never_tested_and_all_others_once():
    table = _table([[0, 1, 2]] * 12 + [[0, 3]])
    splits = [split_patients(table, 0.2, 0.0, 0, 4, test_folds=4, test_fold=i) for i in range(4)]
    tested = [set(split.loc[split["split"] == "test", "patient"]) for split in splits]
    assert sorted(p for patients in tested for p in patients) == sorted(f"p{i}" for i in range(12))
    assert len({tuple(not_measured(table, split, "score", "score")) for split in splits}) == 1


def test_a_test_fold_may_lack_a_score_that_another_has():
    table = _table([[0, 1, 2]] * 12 + [[0, 3]] * 2)
    splits = [split_patients(table, 0.2, 0.0, 0, 4, test_folds=5, test_fold=i) for i in range(5)]
    joined = [table.merge(split) for split in splits]
    assert sum(3 in set(j.loc[j["split"] == "test", "score"]) for j in joined) == 2
    assert all(3 in set(j.loc[j["split"] == "train", "score"]) for j in joined)


def test_whoever_alone_shows_or_lacks_a_sign_is_trained_on():
    table = _table([[0, 0]] * 12).assign(score=pd.NA)
    number = table["patient"].str[1:].astype(int)
    table = table.assign(a_lines=number % 2, b_lines=(number + 1) // 2 % 2, effusion=(number == 4) * 1, consolidation=(number != 7) * 1)
    split = split_patients(table, 0.25, 0.25, 0, 0, labels="signs")
    side = split.groupby("patient")["split"].first()
    assert (side["p4"], side["p7"]) == ("train", "train")
    said = not_measured(table, split, "score", "signs")
    assert [words.split(" is ")[0] for words in said] == ["Effusion", "The absence of consolidation"]


def test_too_many_patients_who_alone_have_a_class_are_told():
    table = _table([[0], [1], [2], [3]])
    with pytest.raises(UserError, match=r"4 patients are too few for 1 in test, .* and 4 must be trained on as they alone have a class"):
        split_patients(table, 0.25, 0.0, 0, 0)
