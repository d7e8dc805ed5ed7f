import pandas as pd
import pytest

from lus_lightning.cli import main
from lus_lightning.data.index import build_index


@pytest.fixture
def folder(tiny_study, tmp_path):
    for i, clip in enumerate(pd.read_csv(tiny_study / "index.csv")["path"][:3]):
        target = tmp_path / "new clips" / f"day {i}" / "a.mp4"
        target.parent.mkdir(parents=True)
        target.write_bytes((tiny_study / clip).read_bytes())
    return tmp_path / "new clips"


def test_a_folder_of_clips_without_a_table_is_indexed_without_any_label(folder):
    table = build_index(folder).table
    assert list(table["clip"]) == ["day 0/a", "day 1/a", "day 2/a"]
    assert table["patient"].is_unique
    assert table[["score", "a_lines", "b_lines", "effusion", "consolidation"]].isna().all(axis=None)


def test_training_on_clips_without_a_label_is_refused(folder, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", "experiments/xing.yaml", "--config", "experiments/with/quick-xing.yaml",
              "--config", "experiments/with/no-wandb.yaml",
              "--data.init_args.root", str(folder), "--trainer.default_root_dir", str(tmp_path / "run")])  # fmt: skip
    assert ended.value.code == 2
    assert "can only be predicted" in capsys.readouterr().err
