"""The report of Corso's video net holds what pandas and scikit-learn make of the run's own tables, cross-validated and in parts too."""

import json
import re

import av
import numpy as np
import pandas as pd
import pytest
from corso_builder import write_run
from matplotlib.image import imread
from run_builder import tables_of
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from lus_lightning.errors import UserError
from lus_lightning.report import figures, html
from lus_lightning.report.html import make_report, print_summary
from lus_lightning.report.papers.corso import most_frequent
from lus_lightning.report.papers.corso_maps import FPS

NAMES = {"video": "Video net", "classifier": "Per-frame baseline", "majority": "Majority score"}
TEXT = {"clip": str, "patient": str}


def report(folder, pictures=False):
    """The report; without `pictures` matplotlib draws none, and with them for dark pages alone: drawing is what takes time."""
    others = {"frames": p} if (p := folder / "beside" / "frames").is_dir() else {}
    with pytest.MonkeyPatch.context() as patch:
        if pictures:
            patch.setattr(figures, "THEMES", {"-dark": figures.THEMES["-dark"]})
        else:
            patch.setattr(html, "save", lambda figure, folder: None)
        make_report(folder, others, replicates=60)
    return folder


def tables(folder):
    """(row, column) -> printed, here, low, high of each table."""
    csv = {p.stem: pd.read_csv(p) for p in (folder / "report").glob("*.csv")}
    return {name: table.set_index(["row", "column"]) for name, table in csv.items() if "row" in table and "column" in table}


def page_of(folder, name="index.html"):
    return (folder / "report" / name).read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return report(write_run(tmp_path_factory.mktemp("corso") / "run"), pictures=True)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Five folds of patients, the predictions pooled."""
    return report(write_run(tmp_path_factory.mktemp("corso") / "folds", folds=5, n_patients=15, maps=False))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Real clips have no masks; all frames have the same share; nobody ran the baseline."""
    return report(write_run(tmp_path_factory.mktemp("corso") / "real", simulated=False, baseline=False, even=True))


def scored(folder, member):
    """Target and prediction of each tested clip, by clip name; of a baseline by the mean of its frames' probabilities."""
    rows = pd.read_parquet(folder / "predictions.parquet" if member == "video" else folder / "beside/frames/predictions.parquet")
    rows = rows[rows["split"] == "test"]
    of = rows.groupby("clip")[["target", "p_0", "p_1", "p_2", "p_3"]].mean()
    return of["target"].astype(int), pd.Series(of.iloc[:, 1:].to_numpy().argmax(axis=1), of.index)


def majority(folder, target):
    """The most frequent score of the training clips; of folds those neither tested nor validated on (the builder's: the next)."""
    clips = pd.read_csv(folder / "lengths.csv", dtype=TEXT).merge(
        pd.read_csv(folder / "split.csv", dtype=TEXT)[["clip", "fold"]], on="clip"
    )
    fold = clips.set_index("clip")["fold"][target.index]
    n = clips["fold"].max() + 1
    train = {f: clips[clips["split"] == "train"] if f < 0 else clips[~clips["fold"].isin([f, (f + 1) % n])] for f in fold.unique()}
    return fold.map({f: own["score"].mode().max() for f, own in train.items()})


def by_hand(target, pred):
    return {
        "Accuracy": accuracy_score(target, pred),
        "Macro F1": f1_score(target, pred, average="macro"),
        "Micro F1": f1_score(target, pred, average="micro"),
        "Weighted κ": cohen_kappa_score(target, pred, weights="quadratic"),
    }


@pytest.mark.parametrize("kind", ["run", "folds"])
def test_scores_and_differences_are_what_scikit_learn_says_of_the_clips(kind, request):
    folder = request.getfixturevalue(kind)
    expected = {name: by_hand(*scored(folder, member)) for member, name in list(NAMES.items())[:2]}
    target, _ = scored(folder, "video")
    expected["Majority score"] = by_hand(target, majority(folder, target))
    found = tables(folder)
    for name, values in expected.items():
        of = found["scores"].xs(name, level="column")
        assert dict(of["here"]) == pytest.approx(values), name
        assert of.loc[["Accuracy", "Weighted κ"], "low"].notna().all()
    for name in ("per-frame baseline", "majority score"):
        gap = found["differences"].xs(f"Video net − {name}", level="column")
        other = expected[name.capitalize()]
        assert dict(gap["here"]) == pytest.approx({row: expected["Video net"][row] - other[row] for row in ("Weighted κ", "Macro F1")})
        assert gap.loc["Weighted κ", "low"] < gap.loc["Weighted κ", "here"] < gap.loc["Weighted κ", "high"]


def test_the_majority_score_of_a_fold_is_that_of_its_own_training_clips(folds):
    target, _ = scored(folds, "video")
    said = majority(folds, target)
    assert said.nunique() > 1
    assert "its weighted κ is not 0, as it differs from fold to fold" in page_of(folds)
    assert "Every patient is tested once, by the network of the 5" in page_of(folds)


def test_of_equally_frequent_scores_the_more_severe_is_the_majority():
    assert most_frequent([1, 2, 0, 2]) == 3
    assert most_frequent([0, 0, 1, 0]) == 2


def test_printed_stands_beside_here_and_the_epochs_choice_is_told(run):
    page = page_of(run)
    shown = tables_of(page)["scores"]
    assert shown[0][1:] == ["Video net", "Per-frame baseline", "Majority score", "Video net, all data"]
    assert shown[1] == ["", "printed", "here", "here", "printed", "here", "printed"]
    assert shown[2][0:2] == ["Accuracy", "0.4412"]
    assert "those of the epoch with the best val/loss of validation patients" in page
    assert "micro F1 is the accuracy" in page
    assert "Simulated data: corso-study" in page
    assert "<td>whole clips</td>" in page
    assert "48 clips · 95 % interval over patients" in page
    assert "48 images" not in page


def test_without_a_choice_the_weights_are_the_last_epochs(tmp_path):
    folder = write_run(tmp_path / "run", maps=False, baseline=False)
    info = json.loads((folder / "run.json").read_text())
    del info["best"]
    (folder / "run.json").write_text(json.dumps(info))
    page = page_of(report(folder))
    assert "those of the last epoch; no tested patient had a say in it" in page
    assert "Chosen epoch" not in page


def test_table_1_counts_the_labelled_clips_of_each_part(run, folds):
    clips = pd.read_csv(run / "lengths.csv")
    here = tables(run)["table_1"]["here"]
    for part, row in {"train": "Train Set", "test": "Test Set", "val": "Validation"}.items():
        counts = clips.loc[clips["split"] == part, "score"].value_counts()
        assert [here[row, f"Score {c}"] for c in range(4)] == [counts.get(c, 0) for c in range(4)]
        assert here[row, "Total"] == (clips["split"] == part).sum()
    here = tables(folds)["table_1"]["here"]
    assert sum(here[f"Fold {f}", "Total"] for f in range(5)) == here["Test Set", "Total"] == 60
    assert np.isnan(here["Train Set", "Total"])


def test_lengths_are_those_of_the_clips(run):
    clips = pd.read_csv(run / "lengths.csv", dtype=TEXT)
    found = tables(run)
    assert found["length_rank"]["here"].iloc[0] == pytest.approx(spearmanr(clips["frames"], clips["score"]).statistic)
    for name, by, word in (("lengths_by_score", "score", "Score"), ("lengths_by_patient", "patient", "Patient")):
        for key, own in clips.groupby(by):
            of = found[name]["here"].xs(f"{word} {key}", level="row")
            assert list(of) == [len(own), own["frames"].min(), own["frames"].median(), own["frames"].max()]


def test_curves_count_epochs_from_one_and_mark_the_chosen(run, folds):
    logged = pd.read_csv(run / "curves.csv")
    ends = tables(run)["last_epoch"]
    assert ends.loc[("Chosen epoch (4)", "Loss"), "here"] == pytest.approx(logged["val/loss"][3])
    assert ends.loc[("Last epoch", "Accuracy"), "here"] == pytest.approx(logged["val/accuracy"][4])
    assert ends.loc[("Last epoch", "Loss"), "printed"] == 1.28
    each = tables(run)["curves"]["here"]
    assert each["Epoch 1", "train/loss"] == pytest.approx(logged["train/loss"][0])
    assert len(tables(folds)["curves"].xs("val/loss", level="column")) == 25
    for name in ("fig_3", "fig_4", "fig_6_7", "fig_8", "fig_9", "fig_10"):
        assert imread(run / "report" / f"{name}-dark.png")[..., :3].std() > 0.05


def test_errors_are_those_of_tested_clips(run):
    matrix = confusion_matrix(*scored(run, "video"), labels=range(4))
    found = tables(run)
    here = found["fig_8"]["here"]
    assert [[here[f"Score {c}", f"as {d}"] for d in range(4)] for c in range(4)] == matrix.tolist()
    wrong = matrix.sum(axis=1) - np.diag(matrix)
    assert list(found["fig_9"].xs("Errors", level="column")["here"]) == wrong.tolist()
    assert list(found["fig_9"].xs("Errors", level="column")["printed"]) == [45, 45, 0, 55]


def test_attention_is_set_against_the_area_over_the_clips_that_have_the_region(run):
    clips = pd.read_parquet(run / "attention.parquet")
    found = tables(run)["attention"]
    for name, inside, area in (("Sector", "in_sector", "sector_share"), ("B-lines", "in_b_lines", "b_line_share")):
        own = clips.dropna(subset=inside)
        of = found.xs(f"{name} ({len(own)} clips, {own['patient'].nunique()} patients)", level="row")
        ratio = own[inside].mean() / own[area].mean()
        assert list(of["here"]) == pytest.approx([own[inside].mean(), own[area].mean(), ratio, (own[inside] > own[area]).mean()])
        assert of.loc["Ratio", "low"] < ratio < of.loc["Ratio", "high"]
    assert clips["in_b_lines"].isna().any()
    assert "Of no tested clip is it known" not in page_of(run)


def test_the_page_of_maps_has_a_strip_and_a_film_of_each_kept_clip(run):
    page, index = page_of(run, "maps.html"), page_of(run)
    kept = {int(path.stem): dict(np.load(path)) for path in (run / "attention").glob("*.npz")}
    assert [int(row) for row in re.findall(r'id="clip-(\d+)"', page)] == sorted(kept)
    assert page.count("Simulated clip") == len(kept) == 3
    assert page.count("Research only; not for clinical use.") == 2
    assert 'href="maps.html"' in index
    named = set(re.findall(r'src="(maps/[\w.-]+)"', page))
    assert named == {f"maps/{path.name}" for path in (run / "report" / "maps").iterdir()}
    for row, clip in kept.items():
        (path,) = (run / "report" / "maps").glob(f"{row}-*.mp4")
        with av.open(str(path)) as film:
            track = film.streams.video[0]
            assert film.metadata["comment"] == "Simulated clip. Research only; not for clinical use."
            assert (track.codec_context.name, track.pix_fmt, track.average_rate) == ("h264", "yuv420p", FPS)
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert len(frames) == len(clip["frames"])
        width = frames[0].shape[1] // 2
        plain, coloured = frames[0][:, :width].astype(int), frames[0][:, width:].astype(int)
        assert np.ptp(plain, axis=2).mean() < 4 < np.ptp(coloured, axis=2).mean()


def test_the_share_of_each_frame_is_drawn_where_the_pooling_tells_it(run, real):
    page = page_of(run, "maps.html")
    assert page.count('<path class="share"') == 2
    assert page.count('<path class="attention"') == 3
    assert page.count("tells no share of a frame") == 1
    for path in list((run / "attention").glob("*.npz"))[1:]:
        with np.load(path) as clip:
            if "share" in clip:
                article = page[page.index(f'id="clip-{path.stem}"') :]
                assert f"The largest share has frame {clip['share'].argmax()}." in article.partition("</article>")[0]
    assert page_of(real, "maps.html").count("Every frame has the same share") == 2


def test_real_clips_are_not_called_simulated_and_what_is_left_out_is_said(real):
    page = page_of(real)
    assert "imulated" not in page + page_of(real, "maps.html")
    for text in ("Not run here: Per-frame baseline", "Of no tested clip is it known, and so left out: B-lines."):
        assert text in page, text
    assert "Real data: covid-blues" in page_of(real, "maps.html")
    assert list(tables(real)["differences"].index.unique("column")) == ["Video net − majority score"]


def test_a_run_that_kept_nothing_but_predictions_is_reported(tmp_path):
    folder = report(write_run(tmp_path / "run", baseline=False, kept=False, maps=False))
    page = page_of(folder)
    for told in ("Not run here: Per-frame baseline, Majority score", "This run kept no attention.", "No pictures of clips were kept."):
        assert told in page, told
    assert {"table_1", "curves", "differences", "attention"} & set(tables(folder)) == set()
    assert not (folder / "report" / "maps.html").exists()


def test_an_older_page_of_maps_goes_where_a_run_kept_none(tmp_path):
    folder = report(write_run(tmp_path / "run", baseline=False))
    for path in (folder / "attention").iterdir():
        path.unlink()
    report(folder)
    assert not (folder / "report" / "maps.html").exists()
    assert not (folder / "report" / "maps").exists()
    assert "maps.html" not in page_of(folder)


def test_the_baseline_alone_is_reported_beside_the_printed_net(run):
    alone = report(run / "beside" / "frames")
    here = tables(alone)["scores"]["here"]
    assert here["Accuracy", "Per-frame baseline"] == pytest.approx(by_hand(*scored(run, "classifier"))["Accuracy"])
    assert np.isnan(here["Accuracy", "Video net"])
    assert "Where it looks" not in page_of(alone)


def test_a_baseline_of_other_labels_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", maps=False)
    path = folder / "beside" / "frames" / "predictions.parquet"
    rows = pd.read_parquet(path)
    rows.assign(target=(rows["target"] + 1) % 4).to_parquet(path)
    with pytest.raises(UserError, match="other clips or labels"):
        report(folder)


def test_clips_that_one_of_two_lacks_take_no_part_in_their_difference(tmp_path):
    folder = write_run(tmp_path / "run", maps=False)
    path = folder / "beside" / "frames" / "predictions.parquet"
    rows = pd.read_parquet(path)
    gone = rows.loc[rows["split"] == "test", "clip"].iloc[0]
    rows[rows["clip"] != gone].to_parquet(path)
    report(folder)
    n = tables(folder)["differences"]["n"]
    assert n["Weighted κ", "Video net − per-frame baseline"] == n["Weighted κ", "Video net − majority score"] - 1
    assert "1 clips that only one of them scored are left out" in page_of(folder)


def test_the_terminal_shows_the_scores(run, capsys):
    print_summary(run)
    shown = capsys.readouterr().out
    assert re.search(rf"0\.4412 \| {by_hand(*scored(run, 'video'))['Accuracy']:.2f}", shown)
