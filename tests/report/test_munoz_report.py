"""The report of Muñoz et al. holds what pandas and scikit-learn make of the run's own tables, and is written without masks too."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from munoz_builder import FRAMES, write_run
from run_builder import tables_of
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, cohen_kappa_score

from lus_lightning.data.frames import spread
from lus_lightning.errors import UserError
from lus_lightning.labels import MASK_CLASSES
from lus_lightning.report.html import make_report, print_summary
from lus_lightning.report.papers.munoz_clips import HEIGHT, WIDTH, path_of, runs_of
from lus_lightning.report.papers.munoz_figures import BAND, GAP, LOOKS, TILE, overlay, strip


def report(folder):
    others = {"classifier": p} if (p := folder / "beside" / "classifier").is_dir() else {}
    make_report(folder, others, replicates=60)
    return folder


def tables(folder):
    """(row, column) -> printed, here, low, high of each table."""
    csv = {p.stem: pd.read_csv(p) for p in (folder / "report").glob("*.csv")}
    return {name: table.set_index(["row", "column"]) for name, table in csv.items() if "row" in table and "column" in table}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return report(write_run(tmp_path_factory.mktemp("munoz") / "run"))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Tested on real clips: no masks, nobody says how the probe was held, no classifier."""
    return report(write_run(tmp_path_factory.mktemp("munoz") / "real", with_masks=False, classifier=False, simulated=False, oriented=False))


def by_hand(folder, orientation=None):
    """Table 1's three figures: worst frame score of a clip (6 frames: one is more than 1 %), none where no frame has one."""
    rows = pd.read_parquet(folder / "predictions.parquet")
    rows = rows if orientation is None else rows[rows["orientation"] == orientation]
    clips = rows.groupby("clip")[["target", "pred"]].max()
    known = clips[clips["pred"] >= 0]
    return {
        "Accuracy": accuracy_score(clips["target"], clips["pred"]),
        "Accuracy within ±1": ((clips["target"] - clips["pred"]).abs().le(1) & (clips["pred"] >= 0)).mean(),
        "Weighted κ": cohen_kappa_score(known["target"], known["pred"], weights="quadratic"),
    }


@pytest.mark.parametrize(("view", "orientation"), [("General", None), ("Long", "longitudinal"), ("Trans", "transversal")])
def test_table_1_is_what_scikit_learn_says_of_the_clips(run, view, orientation):
    found = tables(run)
    here = found["table_1"]["here"].xs
    ours = {"SM": by_hand(run, orientation), "CM": by_hand(run / "beside" / "classifier", orientation)}
    for short, expected in ours.items():
        assert dict(here(f"Dataset-2 {short} {view}", level="column")) == pytest.approx(expected)
    gap = {row: ours["SM"][row] - ours["CM"][row] for row in ours["SM"]}
    assert dict(found["difference"]["here"].xs(f"Dataset-2 {view}", level="column")) == pytest.approx(gap)
    assert found["difference"].xs(f"Dataset-2 {view}", level="column")["low"].notna().all()
    of = found["table_1"].xs(f"Dataset-2 SM {view}", level="column")
    assert (of["low"] <= of["here"]).all()
    assert (of["here"] <= of["high"]).all()


def test_ranks_follow_the_labels_as_scipy_says(run):
    rows = pd.read_parquet(run / "predictions.parquet")
    clips = rows.groupby("row")[["target", "pred"]].max()
    clips["share"] = pd.read_parquet(run / "measures.parquet").groupby("row")["share"].mean()
    scored = clips[clips["pred"] >= 0]
    found = tables(run)["ranks"].xs("Spearman's ρ with the label", level="column")
    for row, column in (("Score of the segmenter (SM)", "pred"), ("Mean affected share of the segmenter (SM)", "share")):
        assert found["here"][row] == pytest.approx(spearmanr(scored["target"], scored[column]).statistic)
    assert (found["low"] < found["here"]).all()
    assert (found["here"] < found["high"]).all()


def test_a_clip_without_an_assessable_frame_is_wrong_in_table_1(run):
    rows = pd.read_parquet(run / "predictions.parquet")
    assert (rows.query("row == 5")["pred"] == -1).all()
    n = rows["clip"].nunique()
    assert tables(run)["table_1"].loc[("Accuracy", "Dataset-2 SM General"), "n"] == n
    metrics = json.loads((run / "report" / "metrics.json").read_text())["members"]["segmenter"]["clip"]
    assert metrics["coverage"] == pytest.approx(1 - 1 / n)


def test_a_segmenter_that_finds_no_pleura_is_reported(tmp_path):
    run = write_run(tmp_path / "run", n_patients=4)
    for file, column, nothing in (("predictions", "pred", -1), ("measures", "share", np.nan)):
        pd.read_parquet(run / f"{file}.parquet").assign(**{column: nothing}).to_parquet(run / f"{file}.parquet", index=False)
    found = tables(report(run))
    assert set(found["ranks"].index.get_level_values("row")) == {"Score of the classifier (CM)"}


def test_dataset_1_is_printed_alone_and_the_leak_is_told(run):
    page = (run / "report" / "index.html").read_text()
    heads, kinds, accuracy = tables_of(page)["table_1"][:3]
    assert heads[1:4] == ["Dataset-1 CM", "Dataset-1 SM", "Dataset-2 CM General"]
    assert kinds[:5] == ["", "printed", "printed", "printed", "here"]
    assert accuracy[:3] == ["Accuracy", "0.53", "0.46"]
    assert "The printed SM figures of Dataset-2 leak: 27 of its 30 patients" in page


def test_a_rule_has_no_probabilities_so_no_curve_is_told(run):
    content = json.loads((run / "report" / "metrics.json").read_text())
    assert not any(name.startswith("auroc") for record in content["members"]["segmenter"].values() for name in record)
    assert content["others"]["classifier"]["classifier"]["clip"]["auroc"] is not None
    assert "ROC-AUC" not in [row[0] for row in tables_of((run / "report" / "index.html").read_text())["summary"]]


def test_overlap_and_the_pleural_line_follow_from_the_counts(run):
    counts = pd.read_parquet(run / "segmentation.parquet")
    found = tables(run)
    of = counts[counts["class"] == "b_line"]
    has = of[of["true"] > 0]
    row = f"B-line ({len(has)} clips, {has['patient'].nunique()} patients)"
    dice = (2 * has["intersection"] / (has["predicted"] + has["true"])).mean()
    iou = (has["intersection"] / (has["predicted"] + has["true"] - has["intersection"])).mean()
    lacks = of[of["true"] == 0]
    false = (lacks["predicted"] / lacks["pixels"]).mean()
    here = found["segmentation"]["here"][row]
    assert list(here) == pytest.approx([dice, iou, false])
    line = counts[counts["class"] == "pleural_line"]
    near = (line["distance_samples"] / line["lines_both"].where(line["lines_both"] > 0)).mean()
    expected = [near, 0.4 * near, (1 - line["lines_both"] / line["lines_true"]).mean()]
    assert list(found["pleural_line"]["here"])[:3] == pytest.approx(expected)


def test_the_share_agrees_as_bland_and_altman_would_say(run):
    measures = pd.read_parquet(run / "measures.parquet").dropna(subset=["share", "true_share"])
    gap = 100 * (measures["share"] - measures["true_share"]).groupby(measures["row"]).mean()
    half = 1.96 * gap.std(ddof=1)
    column = f"all ({len(gap)} clips)"
    found = tables(run)["share"].xs(column, level="column")
    assert list(found["here"]) == pytest.approx([gap.mean(), gap.mean() - half, gap.mean() + half])
    assert found["low"].notna().all()
    for name in ("share.png", "share-dark.png"):
        assert imread(run / "report" / name)[..., :3].std() > 0.05


def test_frames_that_are_not_assessable_are_counted(run):
    measures = pd.read_parquet(run / "measures.parquet")
    none = (measures["visible_lines"] == 0).sum()
    found = tables(run)["assessable"]["here"]
    clips = measures["row"].nunique()
    assert none == clips - 1 + FRAMES
    assert found[f"Frames, by the segmenter's masks: {none} of {len(measures)}", "Share"] == pytest.approx(100 * none / len(measures))
    assert found[f"Clips without an assessable frame, by the segmenter's masks: 1 of {clips}", "Share"] == pytest.approx(100 / clips)


def test_a_changed_prediction_changes_the_tables(tmp_path):
    folder = write_run(tmp_path / "run", n_patients=3)
    rows = pd.read_parquet(folder / "predictions.parquet")
    before = tables(report(folder))["table_1"].loc[("Accuracy", "Dataset-2 SM General"), "here"]
    right = rows[(rows["row"] == 0)]
    assert right["pred"].max() == right["target"].max()
    rows.loc[rows["row"] == 0, "pred"] = 3 - right["target"].max()
    rows.to_parquet(folder / "predictions.parquet")
    after = tables(report(folder))["table_1"].loc[("Accuracy", "Dataset-2 SM General"), "here"]
    assert before - after == pytest.approx(1 / rows["clip"].nunique())


def test_clips_that_one_method_lacks_take_no_part_in_the_difference(tmp_path):
    folder = write_run(tmp_path / "run", n_patients=3)
    rows = pd.read_parquet(folder / "predictions.parquet")
    rows[rows["row"] != 3].to_parquet(folder / "predictions.parquet")
    report(folder)
    assert tables(folder)["difference"]["n"].max() == rows["clip"].nunique() - 1
    assert "1 only by the classifier" in (folder / "report" / "index.html").read_text()


def test_a_classifier_of_other_labels_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", n_patients=3)
    path = folder / "beside" / "classifier" / "predictions.parquet"
    rows = pd.read_parquet(path)
    rows.assign(target=(rows["target"] + 1) % 4).to_parquet(path)
    with pytest.raises(UserError, match="other clips or labels"):
        report(folder)


def test_real_clips_without_masks_are_reported_and_what_is_left_out_is_said(real):
    page = (real / "report" / "index.html").read_text()
    assert {"segmentation", "pleural_line", "share", "difference"} & set(tables(real)) == set()
    left_out = ("The tested clips have no masks", "no true share to compare", "classifier (CM) was not run", "no figures by orientation")
    for told in left_out:
        assert told in page, told
    clips = (real / "report" / "clips.html").read_text()
    assert "imulated" not in page + clips
    assert "true masks" not in clips
    assert "Real data: covid-blues" in clips
    assert dict(tables(real)["table_1"]["here"].xs("Dataset-2 SM General", level="column")) == pytest.approx(by_hand(real))


def test_the_classifier_alone_is_reported_beside_the_printed_one(run):
    alone = run / "beside" / "classifier"
    page = make_report(alone, replicates=50).read_text()
    assert not (alone / "report" / "clips.html").exists()
    assert "The segmenter (SM) was not run here" in page
    here = tables(alone)["table_1"]["here"]
    assert here["Accuracy", "Dataset-2 CM General"] == pytest.approx(by_hand(alone)["Accuracy"])
    assert np.isnan(here["Accuracy", "Dataset-2 SM General"])


def test_the_terminal_shows_table_1(run, capsys):
    print_summary(run)
    shown = capsys.readouterr().out
    accuracy = by_hand(run)["Accuracy"]
    assert re.search(rf"Dataset-2 SM General\W+0\.71 \| {accuracy:.2f}", shown)
    assert re.search(r"Dataset-1 SM\W+0\.46 \| –", shown)


# --- clips.html ---------------------------------------------------------------------------------------------------------------


def test_the_page_shows_forty_clips_with_their_scores_and_says_how_they_were_chosen(run):
    page = (run / "report" / "clips.html").read_text()
    rows = pd.read_parquet(run / "predictions.parquet")
    shown = [int(row) for row in re.findall(r'id="clip-(\d+)"', page)]
    assert len(shown) == len(set(shown)) == 40 < rows["row"].nunique() == 48
    assert "Of 48 clips 40 are shown, chosen before anyone looked" in page
    scores = rows.groupby("row")[["pred", "target"]].max()
    told = re.findall(r"Segmenter: <b>(\w+)</b> · label: <b>(\w+)</b>", page)
    assert told == [tuple("none" if s < 0 else str(s) for s in scores.loc[row, ["pred", "target"]]) for row in shown]
    assert set(re.findall(r'src="(clips/[\w-]+\.png)"', page)) == {f"clips/{p.name}" for p in (run / "report" / "clips").iterdir()}
    assert page.count("Simulated clip") == 40
    none = rows["pred"].lt(0).groupby(rows["row"]).sum()
    assert [int(n) for n in re.findall(rf"{FRAMES} frames, (\d) not assessable", page)] == [none[row] for row in shown if none[row]]
    assert page.count("Research only; not for clinical use.") == 2
    assert 'href="clips.html"' in (run / "report" / "index.html").read_text()


def test_each_frame_tells_its_scan_lines(run):
    page = (run / "report" / "clips.html").read_text()
    frame = pd.read_parquet(run / "measures.parquet").query("row == 0 and frame == 2").iloc[0]
    article = page[page.index('id="clip-0"') : page.index('id="clip-1"')]
    assert f"{frame['affected_lines']} of {frame['visible_lines']} lines, {100 * frame['share']:.0f} %" in article
    assert f"true: {frame['true_affected_lines']} of {frame['true_visible_lines']}" in article
    assert "Frame 5: not assessable" in article


def test_chosen_clips_are_spread_over_labels_and_patients():
    rng = np.random.default_rng(0)
    clips = pd.DataFrame({"row": range(400), "patient": np.arange(400) // 20, "target": rng.choice(4, 400, p=[0.7, 0.15, 0.1, 0.05])})
    found = spread(clips, 40)
    assert len(found) == 40
    assert found["row"].is_monotonic_increasing
    assert found["target"].value_counts().between(9, 11).all()
    assert found.query("target == 0")["patient"].nunique() == 10
    assert found["row"].tolist() == spread(clips.sample(frac=1, random_state=1), 40)["row"].tolist()
    assert len(spread(clips.head(7), 40)) == 7


def test_a_strip_stacks_picture_found_and_true_masks_with_depth_downwards():
    image = np.zeros((2, 128, 256), np.uint8)
    image[0, :, 128:] = 200
    mask = np.zeros_like(image)
    mask[:, 40:80, 60:70] = 1
    lines = np.zeros((2, 128), bool)
    lines[:, 40:80] = True
    kept = {"image": image, "mask": mask, "true": 0 * mask, "visible": lines, "affected": ~lines}
    drawn = strip(kept)
    top = TILE + GAP
    # Two bars above each of the outlined frames, and gaps that the page shines through.
    assert drawn.shape == (3 * TILE + 2 * GAP + 2 * BAND + 2, 2 * TILE + GAP, 4)
    assert (drawn[:, TILE : TILE + GAP, 3] == 0).all()
    drawn = drawn[..., :3]
    assert drawn[10, 10].max() == 0 < drawn[200, 10].min() == 200
    bar = drawn[top, :TILE].max(axis=1) > 100
    assert np.array_equal(np.flatnonzero(bar), np.arange(80, 160))
    assert np.array_equal(drawn[top + BAND + 1, :TILE, 0] > 100, ~bar)
    yellow = (drawn == LOOKS["pleural_line"].rgb).all(axis=2)
    y, x = np.nonzero(yellow[:, :TILE])
    assert (x.min(), x.max(), y.min(), y.max()) == (80, 159, top + 2 * BAND + 2 + 60, top + 2 * BAND + 2 + 69)


def test_classes_differ_by_more_than_colour():
    picture, drawn = np.zeros((1, TILE, TILE), np.uint8), []
    for bit in range(len(MASK_CLASSES)):
        mask = np.zeros_like(picture)
        mask[0, 50:150, 50:150] = 1 << bit
        drawn.append(overlay(picture, mask)[0].any(axis=2).tobytes())
    assert len(set(drawn)) == len(MASK_CLASSES)


def test_the_share_is_drawn_where_it_is_known_and_scores_where_they_change():
    assert path_of(np.array([0.0, 10, 20, 30]), np.array([0, 1, np.nan, 0.5])) == f"M0.0 {HEIGHT}.0h1L10.0 0.0M30.0 {HEIGHT / 2}h1"
    runs = runs_of(np.array([0.0, 500, 1000]), pd.Series([1, 1, -1]))
    assert runs == [(0.0, 750.0, 1), (750.0, WIDTH - 750.0, -1)]


def test_an_older_page_goes_where_a_run_kept_no_pictures(tmp_path):
    folder = report(write_run(tmp_path / "run", n_patients=3))
    for path in (folder / "strips").iterdir():
        path.unlink()
    report(folder)
    assert not (folder / "report" / "clips.html").exists()
    assert not (folder / "report" / "clips").exists()
    assert "clips.html" not in (folder / "report" / "index.html").read_text()
