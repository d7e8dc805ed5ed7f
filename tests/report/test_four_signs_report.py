"""The four-sign report holds what scikit-learn makes of the run's own predictions, beside what the paper prints."""

import json

import numpy as np
import pandas as pd
import pytest
from run_builder import of_data, tables_of
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from lus_lightning.labels import SIGNS
from lus_lightning.report.html import make_report, report_command
from lus_lightning.report.papers.four_signs import NAMES
from lus_lightning.report.papers.four_signs_curves import THRESHOLDS, roc_curves

LOOKED_FOR = ("a_lines", "b_lines", "consolidation")


def frames(rng, n_patients=22):
    """Four clips a patient, three frames each; the probabilities of a patient err together."""
    clip = np.repeat(np.arange(4 * n_patients), 3)
    patient = [f"p{c // 4:02d}" for c in clip]
    rows = {"row": clip, "frame": np.tile(np.arange(3), 4 * n_patients), "clip": [f"c{c:03d}" for c in clip], "patient": patient}
    rows |= {"exam": patient, "zone": np.array(["L1", "L2", "R1", "R2"])[clip % 4], "protocol": "6", "split": "test", "fold": -1}
    return pd.DataFrame(rows | {"member": "network", "standard": None}), rng.normal(0, 0.5, n_patients)[clip // 4]


def only_sign(rng):
    table, error = frames(rng)
    target = rng.integers(0, 4, len(table) // 3).repeat(3)
    logits = 2 * np.eye(4)[target] + error[:, None] * np.array([1, -1, 1, -1]) + rng.normal(0, 1, (len(table), 4))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = {f"p_{c}": probs[:, c].astype(np.float32) for c in range(4)}
    return table.assign(sign=None, target=target, pred=probs.argmax(axis=1), **columns)


def several_signs(rng):
    parts = []
    for sign in LOOKED_FOR:
        table, error = frames(rng)
        target = rng.integers(0, 2, len(table) // 3).repeat(3)
        p = (1 / (1 + np.exp(-(2.5 * target - 1.2 + error + rng.normal(0, 1, len(table)))))).astype(np.float32)
        unseen = rng.random(len(table) // 3).repeat(3) < 0.2
        parts.append(table.assign(sign=sign, target=np.where(unseen, -1, target), p_0=1 - p, p_1=p, pred=(p >= 0.5).astype(int)))
    return pd.concat(parts, ignore_index=True)


def write_run(folder, task):
    folder.mkdir()
    table = (only_sign if task == "sign" else several_signs)(np.random.default_rng(4))
    clips = table.drop_duplicates("clip")[["clip", "patient", "split", "fold"]]
    more = clips.head(4).assign(clip=[f"t{i}" for i in range(4)], patient="q", split="train")
    pd.concat([clips, more]).assign(unit="patient").to_csv(folder / "split.csv", index=False)
    unlabelled = {"several signs": 11, "no sign": 3} if task == "sign" else {"nobody looked for any sign": 5}
    data = {"name": "pocus", "fingerprint": "ab", "simulated": False, "split_unit": "patient", "left_out": 0, "unlabelled": unlabelled}
    of_data(table, data).to_parquet(folder / "predictions.parquet", index=False)
    info = {"recipe": "four-signs", "overlays": [], "changes": [], "data": data, "seed": 0, "networks": [], "task": task}
    (folder / "run.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A reported run of each task: its predictions, its page, and its tables as (row, column) -> printed, here, low, high."""
    found = {}
    for task in ("sign", "signs"):
        folder = write_run(tmp_path_factory.mktemp("four") / task, task)
        page = make_report(folder, replicates=100).read_text(encoding="utf-8")
        csv = {p.stem: pd.read_csv(p) for p in (folder / "report").glob("*.csv")}
        tables = {name: table.set_index(["row", "column"]) for name, table in csv.items() if "row" in table}
        found[task] = (pd.read_parquet(folder / "predictions.parquet"), page, tables, folder)
    return found


def against_the_rest(label, said):
    precision, recall, f1, _ = precision_recall_fscore_support(label, said, average="binary", zero_division=0)
    (tn, fp), _ = confusion_matrix(label, said)
    return {"Precision": precision, "Specificity": tn / (tn + fp), "F1": f1, "Recall": recall, "Accuracy": accuracy_score(label, said)}


def test_table_1_is_each_sign_against_the_rest_with_macro_means(runs):
    rows, _, tables, _ = runs["sign"]
    here = tables["table_1"]["here"]
    each = {NAMES[s]: against_the_rest(rows["target"] == c, rows["pred"] == c) for c, s in enumerate(SIGNS)}
    for name, expected in each.items():
        assert dict(here[name]) == pytest.approx({column: 100 * value for column, value in expected.items()})
    total = {column: np.mean([100 * expected[column] for expected in each.values()]) for column in each["A-lines"]}
    total["Accuracy"] = 100 * accuracy_score(rows["target"], rows["pred"])
    assert dict(here["Total"]) == pytest.approx(total)
    assert tables["table_1"].loc[("A-lines", "Precision"), "printed"] == 97.51
    assert (tables["table_1"]["low"] <= here).all()
    assert (here <= tables["table_1"]["high"]).all()


def test_kappa_is_unweighted_and_stands_beside_the_printed_one(runs):
    rows, _, tables, _ = runs["sign"]
    found = tables["kappa"].loc[("Four classes", "Kappa")]
    assert found["here"] == pytest.approx(cohen_kappa_score(rows["target"], rows["pred"]))
    assert found["printed"] == 0.8737


def test_the_confusion_matrix_names_signs(runs):
    rows, page, tables, _ = runs["sign"]
    counts = tables["confusion_matrix"]["here"].unstack(sort=False)
    assert list(counts.index) == list(NAMES.values())
    assert np.array_equal(counts.iloc[:, :4].to_numpy(), confusion_matrix(rows["target"], rows["pred"]))
    assert [row[0] for row in tables_of(page)["confusion_matrix"][1:]] == list(NAMES.values())
    assert tables["images"]["here"].tolist() == rows["target"].value_counts().sort_index().tolist()


def test_clips_without_a_label_are_told_with_their_reasons(runs):
    assert "11 clips with several signs, 3 clips with no sign" in runs["sign"][1]


def test_several_signs_have_a_row_each_of_what_is_known_and_means_over_them(runs):
    rows, _, tables, _ = runs["signs"]
    here, kappa = tables["table_1"]["here"], tables["kappa"]["here"].xs("Kappa", level="column")
    known = rows[rows["target"] >= 0]
    each, kappas = {}, []
    for sign in LOOKED_FOR:
        of = known[known["sign"] == sign]
        each[NAMES[sign]] = against_the_rest(of["target"], of["pred"])
        kappas.append(cohen_kappa_score(of["target"], of["pred"]))
        assert dict(here[NAMES[sign]]) == pytest.approx({c: 100 * v for c, v in each[NAMES[sign]].items()})
        assert kappa[NAMES[sign]] == pytest.approx(kappas[-1])
    total = {column: np.mean([100 * expected[column] for expected in each.values()]) for column in each["A-lines"]}
    assert dict(here["Total"]) == pytest.approx(total)
    assert kappa["Mean over signs"] == pytest.approx(np.mean(kappas))
    assert tables["table_1"]["low"]["Total"].notna().all()
    assert set(tables["table_1"]["n"]["Total"]) == {len(known.drop_duplicates(["row", "frame"]))}
    assert tables["images"]["here"][NAMES["b_lines"]].item() == (known["target"][known["sign"] == "b_lines"] == 1).sum()


def test_a_sign_that_nobody_looked_for_is_said_and_measured_nowhere(runs):
    _, page, tables, folder = runs["signs"]
    assert "Nobody looked for Pleural effusion: not trained, not measured" in page
    assert not any("Pleural effusion" in str(row) for table in tables.values() for row, _ in table.index)
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert {sign for level in metrics["members"]["network"].values() for sign in level} == set(LOOKED_FOR)


def test_the_threshold_curves_are_those_of_scikit_learn_at_every_threshold(runs):
    rows, page, tables, folder = runs["signs"]
    here = tables["thresholds"]["here"]
    for sign in LOOKED_FOR:
        of = rows[(rows["sign"] == sign) & (rows["target"] >= 0)]
        for threshold in THRESHOLDS:
            found = against_the_rest(of["target"], of["p_1"] >= threshold)
            for column in ("Precision", "Recall", "Specificity"):
                assert here[f"{NAMES[sign]} · {threshold:.2f}", column] == pytest.approx(found[column]), (sign, threshold)
    for name in ("thresholds", "roc"):
        assert f'src="{name}.png"' in page
        assert (folder / "report" / f"{name}-dark.png").is_file()


def test_the_roc_figure_has_a_curve_for_each_sign_with_its_area(runs):
    rows, *_ = runs["signs"]
    of = {NAMES[s]: rows[(rows["sign"] == s) & (rows["target"] >= 0)] for s in LOOKED_FOR}
    of["none"] = of["A-lines"].assign(target=0)
    theme = {"soft": "#888888", "series": ("#000000", "#111111", "#222222", "#333333")}
    legend = roc_curves(of, theme).axes[0].get_legend_handles_labels()[1]
    areas = [roc_auc_score(of[NAMES[s]]["target"], of[NAMES[s]]["p_1"]) for s in LOOKED_FOR]
    assert legend == [f"{NAMES[s]}, area {area:.2f}" for s, area in zip(LOOKED_FOR, areas, strict=True)]


@pytest.mark.parametrize("task", ["sign", "signs"])
def test_a_page_of_signs_speaks_of_no_score_zone_or_exam(task, runs, capsys):
    page, folder = runs[task][1], runs[task][3]
    for word in ("Weighted κ", "Within ±1", "worst zone)", "ROC-AUC 0–1", "scoring standard"):
        assert word not in page, word
    assert not (folder / "report" / "exams.html").exists()
    report_command(str(folder))
    shown = capsys.readouterr().out
    assert "Consolidation" in shown
    assert "96.02" in shown
