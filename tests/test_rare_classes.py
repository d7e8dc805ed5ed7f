"""A score or sign that one patient has, from fit to report: learned, measured nowhere, and said on every table."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from command_lines import EXPERIMENTS, words

from lus_lightning.cli import main
from lus_lightning.data.datamodules import FrameDataModule
from lus_lightning.data.splits import Split
from lus_lightning.evaluation.pooling import pool_folds
from lus_lightning.methods import FrozenFeatureClassifier
from lus_lightning.report.html import make_report

ALONE = "sim-003"
NETWORKS = "--model.init_args.networks=[test_resnet,test_efficientnet,test_byobnet]"


def _study(source, folder, change):
    """Two clips of every patient of a simulated study, with other labels."""
    table = pd.read_csv(source / "index.csv").drop(columns=["mask", "frame_labels"], errors="ignore")
    table = table.groupby("patient").head(2).reset_index(drop=True)
    for path in table["path"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, folder / path)
    assert ALONE in set(table["patient"])
    change(table).to_csv(folder / "index.csv", index=False)
    return folder


def _scores(table):
    number = np.arange(len(table))
    score = np.where((table["patient"] == ALONE) & (number % 2 == 0), 3, number % 2)
    return table.assign(score=score, rater_1=score, rater_2=score)


def _signs(table):
    number = np.arange(len(table))
    signs = {"a_lines": number % 2, "b_lines": (number + 1) % 2, "consolidation": np.where(number % 2, 0, 1)}
    return table.assign(**signs, effusion=(table["patient"] == ALONE).astype(int))


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Drawing takes longer than all the rest, and no picture is looked at here."""
    monkeypatch.setattr("lus_lightning.report.html.save", lambda figure, folder: None)


def _run(root, run, recipe, overlay, *more):
    main(["fit", *words(EXPERIMENTS / f"{recipe}.yaml", EXPERIMENTS / "with" / f"{overlay}.yaml", root, run, *more)])
    main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")])
    page = make_report(run, replicates=50).read_text(encoding="utf-8")
    return page, json.loads((run / "run.json").read_text()), json.loads((run / "report" / "metrics.json").read_text())


def _everywhere(said, page, run):
    """Each table on the page and each of its CSV files says it, and so do the warnings."""
    assert page.count(said.rstrip(".")) >= 1 + page.count('<p class="stamp">Here')
    for file in (run / "report").glob("*.csv"):
        if file.name != "exams.csv" and len(table := pd.read_csv(file)):
            assert set(table["not_measured"]) == {said}, file.name


def test_a_score_that_one_patient_has_is_learned_in_every_fold_and_in_no_figure(tiny_study, tmp_path, capsys):
    root, run = _study(tiny_study, tmp_path / "data", _scores), tmp_path / "run"
    page, info, metrics = _run(root, run, "xing", "quick-xing", "--model.init_args.selector=test_resnet", NETWORKS)
    (said,) = info["data"]["not_measured"]
    assert said == (
        "Score 3 is learned but not measured among the test patients and out-of-fold predictions: of 8 patients only 1 has it"
        f" ({ALONE}), and is trained on."
    )
    assert f"note: {said}" in " ".join(capsys.readouterr().out.split())
    assert said in metrics["warnings"]
    split, predictions = pd.read_csv(run / "split.csv"), pd.read_parquet(run / "predictions.parquet")
    assert split.loc[split["patient"] == ALONE, ["split", "fold"]].drop_duplicates().to_numpy().tolist() == [["train", -1]]
    assert ALONE not in set(predictions["patient"])
    assert ALONE not in set(pd.read_csv(run / "selection.csv")["patient"])
    vote = metrics["members"]["vote"]["frame"]
    assert vote["patients_per_class"][3] == 0
    assert vote["sensitivity_3"] is vote["precision_3"] is vote["f1_3"] is vote["auroc_3"] is vote["accuracy_3"] is None
    assert vote["sensitivity"] == pytest.approx(np.mean([vote["sensitivity_0"], vote["sensitivity_1"]]))
    assert vote["auroc"] == pytest.approx(np.mean([vote["auroc_0"], vote["auroc_1"]]))
    table_6 = pd.read_csv(run / "report" / "table_6.csv").set_index(["row", "column"])["here"]
    assert np.isnan(table_6["Score 3", "Accuracy"])
    assert table_6["Average", "Accuracy"] == pytest.approx(np.mean([table_6["Score 0", "Accuracy"], table_6["Score 1", "Accuracy"]]))
    _everywhere(said, page, run)


def test_a_sign_that_one_patient_shows_is_learned_and_takes_no_part_in_the_means(tiny_signs, tmp_path, capsys):
    root, run = _study(tiny_signs, tmp_path / "data", _signs), tmp_path / "run"
    page, info, metrics = _run(root, run, "four-signs", "multilabel")
    (said,) = info["data"]["not_measured"]
    assert said.startswith("Effusion is learned but not measured among the test patients and validation patients: of 8 patients only 1")
    assert f"note: {said}" in " ".join(capsys.readouterr().out.split())
    record = metrics["members"]["network"]["frame"]["effusion"]
    assert record["sensitivity_1"] is record["precision_1"] is record["f1_1"] is record["auroc"] is record["auroc_1"] is None
    table = pd.read_csv(run / "report" / "table_1.csv").set_index(["row", "column"])["here"]
    kappa = pd.read_csv(run / "report" / "kappa.csv").set_index(["row", "column"])["here"]
    assert np.isnan(table["Pleural effusion", "Recall"])
    for column in ("Recall", "Specificity", "Accuracy"):
        assert table["Total", column] == pytest.approx(np.mean([table[s, column] for s in ("A-lines", "B-lines", "Consolidation")]))
    assert ("Pleural effusion", "Kappa") not in kappa.dropna().index
    assert "Of Pleural effusion all tested images show the same" in page
    _everywhere(said, page, run)


def test_the_samples_of_no_fold_are_in_every_networks_batches_and_never_predicted_out_of_fold(tiny_study, tmp_path):
    root = _study(tiny_study, tmp_path / "data", _scores)
    data = FrameDataModule(size=32, batch_size=8, study="tiny", root=str(root), iterations=40, num_workers=0,
                           split=Split(test_share=0.0), cache_dir=str(tmp_path / "cache"))  # fmt: skip
    model = FrozenFeatureClassifier(lr=0.1, weights="none", folds=3, networks=["test_resnet"])

    class Trainer:
        lightning_module, global_rank, world_size, current_epoch, max_epochs = model, 0, 1, 0, 1

    model._trainer = data.trainer = Trainer()
    data.prepare_data()
    train, oof = data.part("train"), data.part("oof")
    assert ALONE in set(train["patient"])
    assert set(oof["patient"]) == set(train["patient"]) - {ALONE}
    assert (oof["fold"] >= 0).all()
    drawn = np.array([[item for item, _ in batch] for batch in data.train_dataloader().batch_sampler])
    assert drawn.shape == (40, 12)
    fold = train["fold"].to_numpy()[drawn]
    for group in range(3):
        assert set(fold[:, 4 * group : 4 * group + 4].ravel()) == {group, -1}
    assert set(np.flatnonzero(train["patient"] == ALONE)) <= set(drawn.ravel())


def test_folds_together_say_what_no_fold_has_tested(tmp_path):
    never, here = "Score 3 is learned but not measured.", "Score 2 is learned but not measured."
    for i, told in enumerate(([never, here], [never])):
        folder = tmp_path / str(i)
        folder.mkdir()
        data = {"fingerprint": "f", "not_measured": told}
        (folder / "run.json").write_text(json.dumps({"data": data, "changes": [], "seconds": 1.0}))
        pd.DataFrame({"clip": [f"c{i}"], "patient": [f"p{i}"], "unit": "patient", "split": "test", "fold": -1}).to_csv(folder / "split.csv")
        pd.DataFrame({"clip": [f"c{i}"], "split": "test"}).to_parquet(folder / "predictions.parquet")
    pool_folds(tmp_path / "all", [tmp_path / "0", tmp_path / "1"])
    assert json.loads((tmp_path / "all" / "run.json").read_text())["data"]["not_measured"] == [never]
