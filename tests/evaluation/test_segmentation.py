import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats
from sklearn import metrics as sk

from lus_lightning.evaluation.intervals import paired_difference
from lus_lightning.evaluation.segmentation import clip_counts, clip_values, mean_statistic, segmentation_metrics
from lus_lightning.labels import MASK_CLASSES


def draw(seed: int, frames: int = 5, classes: int = len(MASK_CLASSES), lines: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Random true masks and predictions (T, lines, 24) that resemble them, of the first classes."""
    g = np.random.default_rng(seed)
    true = (g.random((classes, frames, lines, 24)) < g.uniform(0.05, 0.4, (classes, 1, 1, 1))).astype(np.uint8)
    pred = np.where(g.random(true.shape) < 0.2, 1 - true, true)
    bits = (1 << np.arange(classes, dtype=np.uint8)).reshape(-1, 1, 1, 1)
    return (pred * bits).sum(0, dtype=np.uint8), (true * bits).sum(0, dtype=np.uint8)


def study(clips: int = 40, patients: int = 12, seed: int = 0) -> pd.DataFrame:
    """Counts of many clips, each of its own number of classes and frames."""
    g = np.random.default_rng(seed)
    drawn = [draw(100 * seed + i, int(g.integers(1, 4)), int(g.integers(1, 7)), lines=6) for i in range(clips)]
    return pd.concat([clip_counts(*masks, f"c{i}", f"p{i % patients}", 0.3) for i, masks in enumerate(drawn)], ignore_index=True)


@pytest.mark.parametrize("seed", range(3))
def test_dice_and_iou_of_a_clip_are_scikit_learns_over_all_its_frames(seed):
    pred, true = draw(seed)
    values = clip_values(clip_counts(pred, true, "c", "p")).set_index("class")
    for i, name in enumerate(MASK_CLASSES):
        p, t = (pred.ravel() >> i) & 1, (true.ravel() >> i) & 1
        assert values.loc[name, "dice"] == pytest.approx(sk.f1_score(t, p))
        assert values.loc[name, "iou"] == pytest.approx(sk.jaccard_score(t, p))


@pytest.mark.parametrize("seed", range(3))
def test_the_pleural_lines_distance_is_that_of_the_centres_of_mass_that_scipy_finds_on_each_scan_line(seed):
    pred, true = draw(seed, lines=10)
    pred[0, 3:6], true[1, 4:9], pred[2, 2], true[2, 2] = 0, 0, 0, 0
    distances, missed, false, there, found = [], 0, 0, 0, 0
    for p, t in zip((pred & 1).reshape(-1, 24), (true & 1).reshape(-1, 24), strict=True):
        there, found = there + t.any(), found + p.any()
        missed, false = missed + (t.any() and not p.any()), false + (p.any() and not t.any())
        if p.any() and t.any():
            distances.append(abs(ndimage.center_of_mass(p)[0] - ndimage.center_of_mass(t)[0]))
    line = clip_values(clip_counts(pred, true, "c", "p", sample_mm=0.25)).set_index("class").loc["pleural_line"]
    assert line["distance_samples"] == pytest.approx(np.mean(distances))
    assert line["distance_mm"] == pytest.approx(np.mean(distances) / 4)
    assert line["lines_missed"] == pytest.approx(missed / there)
    assert line["lines_false"] == pytest.approx(false / found)
    assert 0 < line["lines_missed"] < 1
    assert 0 < line["lines_false"] < 1


def test_a_line_that_lies_two_samples_too_deep_is_two_samples_away_and_in_mm_only_where_a_sample_is_known():
    true, pred = np.zeros((2, 3, 8, 20), np.uint8)
    true[:, :, 5:8], pred[:, :, 7:10] = 1, 1
    line = clip_values(clip_counts(pred, true, "c", "p"))[lambda t: t["class"] == "pleural_line"].iloc[0]
    assert line["distance_samples"] == 2
    assert np.isnan(line["distance_mm"])
    assert (line["lines_missed"], line["lines_false"]) == (0, 0)


def test_counts_of_a_clips_frames_add_up_to_the_clips_whatever_else_the_table_tells_of_them():
    pred, true = draw(4)
    parts = pd.concat(
        [
            clip_counts(p[None], t[None], "c", "p", 0.2).assign(frame=i, of=f"frame {i}")
            for i, (p, t) in enumerate(zip(pred, true, strict=True))
        ]
    )
    pd.testing.assert_frame_equal(clip_values(parts), clip_values(clip_counts(pred, true, "c", "p", 0.2)))


def test_figures_are_means_over_the_clips_that_truly_have_the_class():
    counts = study()
    found, values = segmentation_metrics(counts, replicates=50), clip_values(counts)
    assert list(found) == list(MASK_CLASSES)
    for name, record in found.items():
        of_class = values[values["class"] == name]
        has = of_class[of_class["true"] > 0]
        assert record["n_clips"] == 40
        assert record["n"] == record["dice_n"] == len(has)
        assert record["n_patients"] == has["patient"].nunique()
        assert record["dice"] == pytest.approx((2 * record["iou"] / (1 + record["iou"])), abs=0.02)  # the same but for averaging
        for column in ("dice", "iou"):
            assert record[column] == pytest.approx(has[column].mean())
            assert record[f"{column}_ci"][0] < record[column] < record[f"{column}_ci"][1]
        assert ("distance_mm" in record) == ("lines_missed" in record) == (name == "pleural_line")


def test_a_clip_without_the_class_changes_no_dice_and_tells_how_much_was_falsely_found():
    true, pred = np.zeros((2, 2, 10, 10), np.uint8)
    true[:, 5:], pred[:, 6:] = 16, 16
    with_it = clip_counts(pred, true, "a", "p", classes=["effusion"])
    without = [clip_counts(pred, 0 * true, "b", "q", classes=["effusion"]), clip_counts(0 * pred, 0 * true, "c", "r", classes=["effusion"])]
    alone, both = (segmentation_metrics(pd.concat(t))["effusion"] for t in ([with_it], [with_it, *without]))
    assert alone["dice"] == both["dice"] == pytest.approx(2 * 80 / 180)
    assert "false_share" not in alone
    assert (both["false_share"], both["false_share_n"], both["n"], both["n_clips"]) == (pytest.approx(0.2), 2, 1, 3)


def test_a_class_that_no_clip_has_has_no_dice_and_one_patient_gives_no_interval():
    true = np.zeros((1, 4, 4), np.uint8)
    true[0, :2] = 1
    found = segmentation_metrics(clip_counts(true, true, "c", "p"))
    assert found["b_line"]["dice"] is found["b_line"]["iou"] is None
    assert found["b_line"]["n"] == found["b_line"]["n_patients"] == 0
    assert (found["pleural_line"]["dice"], found["pleural_line"]["dice_ci"]) == (1, None)


def test_the_weighted_mean_is_that_of_a_table_in_which_patients_are_repeated_and_missing_values_take_no_part():
    g = np.random.default_rng(1)
    table = pd.DataFrame({"dice": np.where(g.random(60) < 0.3, np.nan, g.random(60)), "patient": g.integers(0, 9, 60)})
    units, names = pd.factorize(table["patient"])
    weights = g.integers(0, 3, (20, len(names)))
    weighted = mean_statistic("dice")(table, units)(weights)["dice"]
    for value, row in zip(weighted, weights, strict=True):
        assert value == pytest.approx(np.nanmean(np.repeat(table["dice"], row[units])))


def test_the_interval_of_patients_with_a_clip_each_is_close_to_students():
    rows = [
        {"clip": str(i), "patient": str(i), "class": "b_line", "intersection": n, "predicted": 100, "true": 100, "pixels": 500}
        for i, n in enumerate(np.random.default_rng(2).integers(40, 95, 40))
    ]
    empty = dict.fromkeys(["lines_true", "lines_predicted", "lines_both", "distance_samples", "distance_mm"], np.nan)
    found = segmentation_metrics(pd.DataFrame([row | empty for row in rows]), replicates=4000)["b_line"]
    dice = np.array([row["intersection"] / 100 for row in rows])
    expected = stats.t.interval(0.95, 39, dice.mean(), stats.sem(dice))
    np.testing.assert_allclose(found["dice_ci"], expected, atol=0.1 * (expected[1] - expected[0]))


def test_two_segmenters_are_compared_on_the_same_resamples():
    values = clip_values(study())[lambda t: t["class"] == "pleural_line"]
    better = values.assign(dice=values["dice"] + 0.05)
    gap = paired_difference(better, values, mean_statistic("dice"))["dice"]
    assert gap.value == pytest.approx(0.05)
    assert gap.low == pytest.approx(gap.high)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        clip_counts(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8), "c", "p")


def test_the_counts_survive_parquet(tmp_path):
    counts = study(clips=6)
    counts.to_parquet(tmp_path / "segmentation.parquet")
    assert segmentation_metrics(pd.read_parquet(tmp_path / "segmentation.parquet")) == segmentation_metrics(counts)
