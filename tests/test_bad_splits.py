"""Studies too small or too one-sided to divide, through the real command line: one sentence, code 2, the data untouched."""

import hashlib
import shutil

import pandas as pd
import pytest
from command_lines import EXPERIMENTS, words

from lus_lightning.cli import main


def fingerprint(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return [(str(p), p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


@pytest.fixture
def study(tiny_study, tmp_path):
    """Two zones of every simulated patient, clips scored whole."""
    root = tmp_path / "my study"
    table = pd.read_csv(tiny_study / "index.csv").drop(columns=["mask", "frame_labels"])
    table = table.groupby("patient").head(2).assign(score=lambda t: [i % 4 for i in range(len(t))])
    table[["rater_1", "rater_2"]] = table[["score", "score"]].to_numpy()
    for path in table["path"]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_study / path, root / path)
    table.to_csv(root / "index.csv", index=False)
    return root


def one_score_in_one_patient(table):
    first = table["patient"] == table["patient"].iloc[0]
    return table.assign(
        **{c: [3 if f else s % 3 for f, s in zip(first, table["score"], strict=True)] for c in ("score", "rater_1", "rater_2")}
    )


CASES = {
    "fewer patients than folds": (None, ["--model.init_args.folds=9", "--data.init_args.batch_size=8"], "8 patients are too few"),
    "no patient left to train on": (None, ["--data.init_args.split.test_share=0.9"], "too few"),
    "an unknown test patient": (None, ["--data.init_args.split.test_patients=[nobody]"], "no patient is called 'nobody'"),
    "an unknown stratum": (None, ["--data.init_args.split.stratify=age"], "stratified by score or diagnosis"),
    "a score of test patients alone": (
        one_score_in_one_patient,
        ["--data.init_args.split.test_patients=[sim-001]"],
        "has nobody with score 3, which 1 have; leave some of 'sim-001' out of split.test_patients",
    ),
}


@pytest.mark.parametrize(("change", "options", "sentence"), CASES.values(), ids=CASES)
def test_a_study_that_cannot_be_divided_is_told_in_one_sentence(change, options, sentence, study, tmp_path, capsys):
    if change:
        change(pd.read_csv(study / "index.csv")).to_csv(study / "index.csv", index=False)
    before = fingerprint(study)
    quick = EXPERIMENTS / "with" / "quick-xing.yaml"
    with pytest.raises(SystemExit) as ended:
        main(["fit", *words(EXPERIMENTS / "xing.yaml", quick, study, tmp_path / "run", *options)])
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert sentence in said[-1]
    assert not any("Traceback" in line for line in said)
    assert fingerprint(study) == before
