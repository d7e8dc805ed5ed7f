"""An offline W&B run, opened again from its own data file."""

import json
import struct

import pytest
from command_lines import EXPERIMENTS, words

from lus_lightning.cli import main


def records(path):
    """The protobuf records of a .wandb file (LevelDB's log format: blocks of 32 KiB, records of 7-byte headers)."""
    from wandb.proto import wandb_internal_pb2

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


@pytest.fixture(scope="module")
def offline(small_study, tmp_path_factory):
    run = tmp_path_factory.mktemp("wandb") / "run"
    quick = EXPERIMENTS / "with" / "quick-xing.yaml"
    options = ["--data.init_args.iterations=4", "--data.init_args.split.val_share=0.25", "--model.init_args.selector=test_resnet",
               "--model.init_args.networks=[test_resnet,test_efficientnet]", "--model.init_args.lr=0.0123",
               "--model.init_args.folds=3"]  # fmt: skip
    main(["fit", *words(EXPERIMENTS / "xing.yaml", quick, small_study, run, *options, logger="wandb")])
    main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")])
    files = sorted(run.glob("logs/wandb/offline-run-*/run-*.wandb"), key=lambda f: f.stat().st_mtime)
    assert len(files) == 2
    return [list(records(f)) for f in files], json.loads((run / "run.json").read_text())


def history(run):
    logged = [r.history.item for r in run if r.HasField("history")]
    rows = [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items} for items in logged]
    return {key: [row[key] for row in rows if key in row] for row in rows for key in row}


def test_an_offline_run_holds_the_configuration(offline):
    (fit, _), _ = offline
    config = {"/".join(u.nested_key) or u.key: json.loads(u.value_json) for r in fit if r.HasField("config") for u in r.config.update}
    assert config["lr"] == 0.0123
    assert config["networks"] == ["test_resnet", "test_efficientnet"]
    assert config["config"]["data.init_args.split.val_share"] == 0.25


def test_an_offline_run_holds_the_curves_of_every_network_over_both_stages(offline):
    (fit, _), _ = offline
    curves = history(fit)
    for member in ("fold0", "fold2", "test_resnet", "test_efficientnet"):
        assert len(curves[f"train/loss/{member}"]) == 4, member
    assert max(curves["trainer/global_step"]) >= 7


def test_an_offline_run_holds_the_final_metrics_that_run_json_holds(offline):
    (fit, _), state = offline
    assert history(fit)["val/qwk"][-1] == pytest.approx(state["final"]["val/qwk"])
    assert history(fit)["val/accuracy"][-1] == pytest.approx(state["final"]["val/accuracy"])


def test_the_test_run_holds_its_metrics_the_confusion_matrix_and_frames_with_their_prediction(offline):
    (_, test), _ = offline
    curves = history(test)
    assert {"test/accuracy", "test/qwk"} <= set(curves)
    assert curves["test/confusion/_type"] == ["images/separated"]
    assert all("vote" in caption for caption in curves["test/frames/captions"][0])
