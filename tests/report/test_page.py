"""The page, the files beside it and the terminal: every recipe's part."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from run_builder import NETWORKS, tables_of, write_run
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, recall_score

from lus_lightning.errors import UserError
from lus_lightning.report.html import make_report, report_command

MEMBERS = [*NETWORKS, "vote", *(f"fold{i}" for i in range(5))]


@pytest.fixture(scope="session")
def content(xing_run):
    return json.loads((xing_run / "report" / "metrics.json").read_text())


@pytest.mark.parametrize("member", MEMBERS)
def test_metrics_json_is_what_scikit_learn_says_of_the_predictions_table(xing_run, content, member):
    rows = pd.read_parquet(xing_run / "predictions.parquet").query("member == @member and split == 'test'")
    record, given = content["members"][member]["frame"], rows[rows["pred"] >= 0]
    assert record["n"] == len(rows)
    assert record["n_patients"] == rows["patient"].nunique()
    assert record["accuracy"] == pytest.approx(accuracy_score(rows["target"], rows["pred"]))
    assert record["coverage"] == pytest.approx(len(given) / len(rows))
    assert record["qwk"] == pytest.approx(cohen_kappa_score(given["target"], given["pred"], weights="quadratic"))
    assert record["sensitivity"] == pytest.approx(recall_score(rows["target"], rows["pred"], labels=range(4), average="macro"))
    assert record["f1"] == pytest.approx(f1_score(rows["target"], rows["pred"], labels=range(4), average="macro"))


def test_the_page_shows_the_numbers_of_metrics_json_at_every_level(page, content):
    summary = tables_of(page)["summary"]
    levels = content["members"]["vote"]
    assert summary[0][1:] == [f"{name}, n = {levels[level]['n']}" for level, name in
                              (("frame", "Image"), ("clip", "Clip"), ("zone", "Zone"), ("exam", "Exam (worst zone)"))]  # fmt: skip
    accuracy = next(row for row in summary if row[0] == "Accuracy")
    for cell, record in zip(accuracy[1:], levels.values(), strict=True):
        low, high = record["accuracy_ci"]
        assert cell == f"{record['accuracy']:.2f} | {low:.2f} to {high:.2f}"


def test_every_table_says_where_its_numbers_come_from(page, xing_run):
    origin = r"xing-study \(simulated\) · split by patient · seed 0 · "
    stamps = re.findall(rf'<p class="stamp">(?:Here: )?({origin}[^<]*)<a href="(\w+)\.csv"', page)
    assert {name for _, name in stamps} == set(tables_of(page)) - {None}
    for text, name in stamps:
        table = pd.read_csv(xing_run / "report" / f"{name}.csv")
        assert re.search(rf"{table['n_patients'].max()} patients · {table['n'].max()} ", text), name
        assert ("95 % interval over patients" in text) == table["low"].notna().any(), name
        assert set(table[["data", "simulated", "split_unit", "seed"]].drop_duplicates().iloc[0]) == {"xing-study", True, "patient", 0}


def test_the_long_csv_holds_every_metric_and_its_interval(xing_run, content):
    table = pd.read_csv(xing_run / "report" / "metrics.csv").set_index(["member", "level", "metric"])
    for member, levels in content["members"].items():
        for level, record in levels.items():
            row = table.loc[(member, level, "qwk")]
            assert row["value"] == pytest.approx(record["qwk"])
            assert row["low"] == pytest.approx(np.nan if record["qwk_ci"] is None else record["qwk_ci"][0], nan_ok=True)


def test_confusion_csv_counts_as_pandas_does(xing_run):
    table = pd.read_csv(xing_run / "report" / "confusions.csv").query("member == 'vote' and level == 'frame'")
    rows = pd.read_parquet(xing_run / "predictions.parquet").query("member == 'vote'")
    counts = pd.crosstab(rows["target"], rows["pred"]).reindex(columns=[0, 1, 2, 3, -1], fill_value=0)
    assert np.array_equal(table[["pred_0", "pred_1", "pred_2", "pred_3", "abstained"]].to_numpy(), counts.to_numpy())


def test_the_page_warns_of_simulated_data_few_patients_and_what_quick_changed(page):
    assert "xing-study is simulated" in page
    assert "Only 12 patients" in page
    assert "Iterations of each stage<small><code>data.init_args.iterations</code></small>" in page
    assert "iterations of each stage: 500 instead of 2000" in page
    assert page.count("Research only; not for clinical use.") >= 2


def test_a_network_that_always_says_the_same_is_called_out(tmp_path):
    folder = write_run(tmp_path / "run", select=False)
    rows = pd.read_parquet(folder / "predictions.parquet")
    rows.loc[rows["member"] == "vote", "pred"] = 2
    rows.to_parquet(folder / "predictions.parquet")
    text = make_report(folder, replicates=50).read_text()
    assert text.count("vote always says 2 (image level): it has learned nothing.") == text.count("it has learned nothing") == 1
    often = 100 * rows.query("member == 'vote'")["target"].value_counts().max() / (rows["member"] == "vote").sum()
    assert f"would give an accuracy of {often:.1f} % here" in text


def test_the_page_loads_nothing_from_elsewhere(page, xing_run):
    assert not re.findall(r'(?:src|srcset)="(?!\w[\w.-]*\.png")', page)
    assert set(re.findall(r"https?://([^/\"]+)", page)) == {"doi.org"}
    for name in re.findall(r'(?:src|srcset|href)="([\w.-]+\.(?:png|csv|json))"', page):
        assert (xing_run / "report" / name).is_file(), name


def test_figures_are_drawn_for_light_and_for_dark_pages(xing_run):
    light = sorted(p for p in (xing_run / "report").glob("*.png") if not p.stem.endswith("-dark"))
    assert [p.stem for p in light] == ["confusion", "fig_10_pairs", "fig_11_dots", "fig_9_bars"]
    for path in light:
        dark = imread(path.with_name(f"{path.stem}-dark.png"))
        assert imread(path)[0, 0, :3].mean() > 0.9 > 0.2 > dark[0, 0, :3].mean()
        assert dark[..., :3].std() > 0.05


def test_real_data_split_by_frame_says_so_and_never_simulated(tmp_path):
    folder = write_run(tmp_path / "run", simulated=False, unit="frame", changes=[])
    text = make_report(folder, replicates=50).read_text()
    assert "Real data: covid-blues" in text
    assert "Simulated" not in text
    assert "clean scores" not in text
    assert "Split by frame, not by patient" in text
    assert "Nothing: the recipe ran as it stands." in text


def test_a_recipe_without_printed_results_gets_the_general_page(tmp_path):
    folder = write_run(tmp_path / "run", select=False)
    info = json.loads((folder / "run.json").read_text()) | {"recipe": "mine", "networks": []}
    info["data"]["name"] = "<b>odd & bold</b>"
    (folder / "run.json").write_text(json.dumps(info))
    text = make_report(folder, replicates=50).read_text()
    assert set(tables_of(text)) - {None} == {"summary", "exam_sums", "members", "members_truth"}
    assert "<b>odd" not in text
    assert "&lt;b&gt;odd &amp; bold" in text


def test_sign_tasks_have_a_column_for_each_sign(tmp_path):
    folder = write_run(tmp_path / "run", select=False)
    rows = pd.read_parquet(folder / "predictions.parquet").query("member == 'vote'").drop(columns=["p_2", "p_3"])
    severe, p = (rows["target"] >= 2).astype(int), rows["p_1"]
    signs = [rows.assign(sign=sign, target=severe, p_0=1 - p, pred=(p > 0.5).astype(int)) for sign in ("a_lines", "b_lines")]
    pd.concat(signs).assign(member="net").to_parquet(folder / "predictions.parquet")
    (folder / "truth.parquet").unlink()
    info = json.loads((folder / "run.json").read_text()) | {"recipe": "signs"}
    (folder / "run.json").write_text(json.dumps(info))
    members = tables_of(make_report(folder, replicates=50).read_text())["members"]
    right = ((p > 0.5) == severe).mean()
    assert [row[0] for row in members[1:]] == ["net · a_lines", "net · b_lines"]
    assert members[1][1].startswith(f"{right:.2f}")


@pytest.mark.parametrize("name", ["run.json", "split.csv", "predictions.parquet"])
def test_a_run_folder_that_lacks_a_file_is_refused_with_the_remedy(tmp_path, name):
    folder = write_run(tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"has no {name}: run `(fit|test)` first"):
        make_report(folder)


def test_a_damaged_or_incomplete_record_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "run.json").write_text('{"recipe": "xing", "data": {"name": "x"}}')
    with pytest.raises(UserError, match=r"changes, seed, data\.simulated, data\.split_unit"):
        make_report(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        make_report(folder)
    with pytest.raises(UserError, match="no run folder"):
        make_report(tmp_path / "nowhere")


def test_the_command_finds_the_run_beside_and_ends_with_the_path(tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    write_run(folder / "beside" / "initial", select=False)
    report_command(str(folder))
    out = capsys.readouterr().out
    methods = pd.read_csv(folder / "report" / "fig_11.csv").query("column == 'Accuracy'")
    assert len(methods) == 10
    assert methods["here"].notna().sum() == 9
    for here in methods["here"].dropna():
        assert f"{here:.1f}" in out
    assert "85.99" in out
    assert out.strip().splitlines()[-1] == f"Report: {folder / 'report' / 'index.html'}"


def test_the_report_starts_without_torch():
    code = "import sys, lus_lightning.report.html; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_that_was_stopped_before_its_test_is_told_in_a_sentence(tmp_path):
    folder = write_run(tmp_path / "run")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    predictions[predictions["split"] == "oof"].to_parquet(folder / "predictions.parquet")
    with pytest.raises(UserError, match="was not tested: vote has no prediction yet"):
        make_report(folder, replicates=50)
