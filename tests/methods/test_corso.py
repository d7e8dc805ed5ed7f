"""The video net as a training on clips of different lengths: exact resume, what is chosen, what is written, two processes."""

import json

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from command_lines import EXPERIMENTS
from command_lines import words as short
from test_ddp import lus

from lus_lightning import reproduce
from lus_lightning.callbacks.checkpoint import LastCheckpoint
from lus_lightning.callbacks.clips import ClipRecord, inside
from lus_lightning.callbacks.curves import Curves
from lus_lightning.callbacks.nonfinite import FindNonFinite
from lus_lightning.callbacks.predictions import PredictionWriter
from lus_lightning.cli import main
from lus_lightning.data.datamodules import ClipDataModule, FrameDataModule
from lus_lightning.data.frames import FrameChoice
from lus_lightning.data.splits import Split
from lus_lightning.data.transforms import Augmentation
from lus_lightning.errors import UserError
from lus_lightning.evaluation.pooling import pool_folds
from lus_lightning.methods import SeverityClassifier, SpatiotemporalClassifier
from lus_lightning.runs import record, write_record


def data_module(root, kind=ClipDataModule, **changes):
    augmentation = Augmentation(rotate_degrees=10, shift=0.05, scale=0.1, flip=0.5, brightness=0.1, contrast=0.1)
    given = {"size": 32, "batch_size": 4, "study": "tiny", "root": str(root), "split": Split(test_share=0.25, val_share=0.25),
             "augmentation": augmentation, "num_workers": 2, "iterations": 4}  # fmt: skip
    return kind(**(given | changes))


def video(**changes):
    torch.manual_seed(7)
    given = {"lr": 0.01, "momentum": 0.7, "weight_decay": 1e-3, "weights": "none", "backbone": "test_resnet", "hidden": 8, "chunk": 16,
             "statistics": "chunk", "schedule": "warm_cosine"}  # fmt: skip
    return SpatiotemporalClassifier(**(given | changes))


def trainer(folder, *callbacks, **changes):
    given = {"max_epochs": 3, "default_root_dir": folder, "logger": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0,
             "reload_dataloaders_every_n_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False,
             "enable_model_summary": False}  # fmt: skip
    kept = LastCheckpoint(every_n_steps=2, min_seconds=0, monitor="val/loss")
    return pl.Trainer(callbacks=[kept, FindNonFinite(), Curves(), PredictionWriter(), ClipRecord(), *callbacks], **(given | changes))


class Killed(Exception):
    pass


class Kill(pl.Callback):
    """Ends a run as a power cut would, at iteration `step` or in the validation of epoch `validation`."""

    def __init__(self, step=None, validation=None):
        self.step, self.validation = step, validation

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == self.step:
            raise Killed

    def on_validation_batch_start(self, trainer, *args):
        if trainer.current_epoch == self.validation:
            raise Killed


@pytest.fixture(scope="module")
def unbroken(tiny_clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    model = video()
    trainer(folder).fit(model, data_module(tiny_clips))
    return model, folder


@pytest.mark.parametrize("kill", [Kill(step=3), Kill(step=4), Kill(step=7), Kill(validation=1)],
                         ids=["first epoch", "border", "second epoch", "validation"])  # fmt: skip
def test_a_run_on_clips_killed_anywhere_and_resumed_ends_with_the_weights_of_an_unbroken_run_to_the_bit(
    kill, unbroken, tiny_clips, tmp_path
):
    whole, whole_folder = unbroken
    with pytest.raises(Killed):
        trainer(tmp_path, kill).fit(video(), data_module(tiny_clips))
    torch.rand(3)  # whatever the random state is now
    resumed = video()
    trainer(tmp_path).fit(resumed, data_module(tiny_clips), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "curves.csv") for folder in (tmp_path, whole_folder)))
    best = [torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True) for folder in (tmp_path, whole_folder)]
    assert best[0]["epoch"] == best[1]["epoch"]
    assert all(torch.equal(best[0]["state_dict"][name], value) for name, value in best[1]["state_dict"].items())


def test_the_best_checkpoint_is_of_the_epoch_whose_validation_loss_was_lowest(unbroken):
    _, folder = unbroken
    curves = pd.read_csv(folder / "curves.csv")
    best = json.loads((folder / "run.json").read_text())["best"]
    assert list(curves["epoch"]) == [0, 1, 2]
    assert best["epoch"] == curves["epoch"][curves["val/loss"].argmin()]
    assert best["value"] == pytest.approx(curves["val/loss"].min())
    assert torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == best["epoch"]


def test_the_best_epoch_cannot_be_told_without_validation_patients(tiny_clips, tmp_path):
    with pytest.raises(UserError, match="set split"):
        trainer(tmp_path, max_epochs=1).fit(video(), data_module(tiny_clips, split=Split(test_share=0.25), iterations=1))


def test_what_is_not_pretrained_learns_ten_times_faster():
    net = video().net
    groups = video().configure_optimizers().param_groups
    assert [group["lr"] for group in groups] == [0.01, 0.1]
    assert all(group["momentum"] == 0.7 and group["weight_decay"] == 1e-3 for group in groups)
    sizes = [sum(p.numel() for p in group["params"]) for group in groups]
    assert sizes[0] == sum(p.numel() for p in net.backbone.parameters())
    assert sum(sizes) == sum(p.numel() for p in net.parameters())


def test_the_schedule_runs_over_all_epochs(tiny_clips, tmp_path):
    rates = []

    class Rates(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            rates.append(optimizer.param_groups[1]["lr"] / optimizer.param_groups[1]["initial_lr"])

    trainer(tmp_path, Rates()).fit(video(), data_module(tiny_clips))
    assert rates == pytest.approx([min(1, 10 * t / 12 + 0.01) * (1 + np.cos(np.pi * t / 12)) / 2 for t in range(12)])


def test_a_clip_is_scored_alike_alone_and_beside_longer_ones(unbroken, tiny_clips, tmp_path):
    model, _ = unbroken
    tables = []
    for size in (1, 5):
        trainer(tmp_path).test(model, data_module(tiny_clips, batch_size=size), verbose=False)
        tables.append(pd.read_parquet(tmp_path / "predictions.parquet").filter(regex="^(clip|p_)").set_index("clip"))
    assert len(set(pd.read_csv(unbroken[1] / "lengths.csv")["frames"])) > 3
    pd.testing.assert_frame_equal(*tables, rtol=0, atol=1e-5)


def test_the_share_of_attention_inside_a_region_is_that_of_the_masks_laid_over_the_picture():
    rng = np.random.default_rng(0)
    attention, region = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(0)), rng.random((5, 12, 16)) < 0.3
    region[3] = False
    laid = attention.numpy().repeat(4, axis=1).repeat(4, axis=2)
    share, area = inside(attention, region)
    shown = [0, 1, 2, 4]
    assert share == pytest.approx((laid * region)[shown].sum() / laid[shown].sum(), rel=1e-5)
    assert area == pytest.approx(region[shown].mean(), rel=1e-5)
    assert inside(torch.full((5, 3, 4), 0.2), region)[0] == pytest.approx(area, rel=1e-5), "a mask alike everywhere"
    assert np.isnan(inside(attention, region & False)).all()


def test_it_is_written_where_it_looked_in_each_tested_clip(unbroken, tiny_clips, tmp_path):
    model, _ = unbroken
    data = data_module(tiny_clips)
    trainer(tmp_path).test(model, data, verbose=False)
    table, index = pd.read_parquet(tmp_path / "attention.parquet"), pd.read_csv(tiny_clips / "index.csv").set_index("clip")
    assert set(table["row"]) == set(data.part("test")["row"])
    assert (table["frames"].to_numpy() == index.loc[table["clip"], "frames"]).all()
    assert table["in_sector"].between(0, 1).all()
    assert table["sector_share"].between(0.2, 0.99).all()
    sector = data.sectors(table["row"].to_numpy()[:1])[table["row"].iloc[0]]
    picture = data.dataset(data.part("test"), "test")[0]["frames"].amax(dim=(0, 1)).numpy()
    assert (picture[~sector] > 40).mean() < 0.1 < (picture[sector] > 40).mean()
    with_b = index.loc[table["clip"], "truth_b_share"].to_numpy() > 0.05
    assert table.loc[with_b, "in_b_lines"].notna().all()
    kept = sorted((tmp_path / "attention").glob("*.npz"))
    assert len(kept) == min(8, len(table))
    with np.load(kept[0]) as one:
        assert one["frames"].shape == (len(one["attention"]), 32, 32)
        assert one["share"].sum() == pytest.approx(1, abs=1e-4)
        assert ((one["attention"] >= 0) & (one["attention"] <= 1)).all()


@pytest.mark.parametrize("length", [1, 7, 2000])
def test_clips_of_one_frame_and_of_two_thousand_train_and_predict(length, tmp_path):
    torch.manual_seed(0)
    model = video(checkpointing=True, chunk=64, pooling="attention")
    frames = torch.randint(0, 256, (2, length, 1, 32, 32), dtype=torch.uint8)
    batch = {"frames": frames, "length": torch.tensor([length, max(1, length // 2)]), "target": torch.tensor([1, 3])}
    step = model.step(batch | {"split": torch.tensor([0, 0])})
    step.losses["video"].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    told = model.eval().step(batch | {"split": torch.tensor([2, 2])})
    assert told.probs["video"].sum(1).tolist() == pytest.approx([1, 1])
    assert told.reading.attention.shape[:2] == (2, length)


def test_frame_methods_can_learn_with_ordinal_targets(tiny_clips, tmp_path):
    model = SeverityClassifier(0.01, 0.0, "none", "test_resnet", distances=[[2.0 * (a - b) ** 2 for b in range(4)] for a in range(4)])
    data = data_module(tiny_clips, FrameDataModule, iterations=2)
    trainer(tmp_path, max_epochs=1).fit(model, data)
    model.eval()
    batch = {"image": torch.zeros(1, 1, 32, 32), "target": torch.tensor([0])}
    with torch.no_grad():
        log_probs = model.network(batch["image"]).log_softmax(1)
        asked = torch.tensor([0.0, -2, -8, -18]).softmax(0)
        assert model.step(batch).losses["classifier"].item() == pytest.approx(-(asked * log_probs).sum().item(), rel=1e-5)
    with pytest.raises(UserError, match="square"):
        SeverityClassifier(0.01, 0.0, "none", "test_resnet", distances=[[0.0, 1.0]])


def test_two_processes_read_disjoint_clips_and_predict_as_one(tiny_clips, tmp_path):
    run = tmp_path / "run"
    lus("fit", "--config", "experiments/corso.yaml", "--config", "experiments/with/quick-corso.yaml",
        "--config", "experiments/with/no-wandb.yaml", "--data.init_args.root", tiny_clips, "--data.init_args.num_workers=0",
        "--data.init_args.size=32", "--data.init_args.iterations=3", "--data.init_args.batch_size=2", "--trainer.max_epochs=2",
        "--data.init_args.split.test_share=0.25", "--data.init_args.split.val_share=0.25", "--trainer.default_root_dir", run,
        "--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.enable_progress_bar=false",
        "--trainer.callbacks+=ddp_witness.DrawWitness", "--trainer.callbacks.folder", tmp_path)  # fmt: skip
    ranks = [json.loads((tmp_path / f"draws-{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(r) for r in ranks] == [6, 6]
    for one, other in zip(*ranks, strict=True):
        assert not {tuple(d) for d in one["draws"]} & {tuple(d) for d in other["draws"]}
    tables, attended = [], []
    for devices in (2, 1):
        lus("test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--trainer.devices", devices,
            "--trainer.strategy", "ddp" if devices == 2 else "auto", "--trainer.callbacks=null")  # fmt: skip
        tables.append(pd.read_parquet(run / "predictions.parquet").query("split == 'test'").reset_index(drop=True))
        attended.append(pd.read_parquet(run / "attention.parquet").reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables, rtol=0, atol=1e-5)
    pd.testing.assert_frame_equal(*attended, rtol=1e-4)


def test_every_patient_of_a_cross_validation_is_tested_once_by_a_run_that_did_not_see_him(tiny_clips, tmp_path, monkeypatch):
    def shrunk(command, words):
        more = []
        if command == "fit":
            small = short(EXPERIMENTS / "corso.yaml", None, tiny_clips, words[words.index("--trainer.default_root_dir") + 1])
            # Eight patients are too few for a validation part beside two folds.
            more = [*small, "--data.init_args.split.val_share=0", "--checkpoint.monitor=null"]
        main([command, *words, *more])

    monkeypatch.setattr(reproduce, "_run", shrunk)
    reproduce.cross_validate(tmp_path, [EXPERIMENTS / "corso.yaml"], [], [str(tiny_clips)], 2)
    split, predictions = pd.read_csv(tmp_path / "split.csv"), pd.read_parquet(tmp_path / "predictions.parquet")
    assert set(split["split"]) == {"test"}
    assert not split.groupby("patient")["fold"].nunique().gt(1).any()
    assert set(predictions["clip"]) == set(pd.read_csv(tiny_clips / "index.csv").dropna(subset="score")["clip"])
    lengths = pd.read_csv(tmp_path / "lengths.csv")
    assert sorted(lengths["clip"]) == sorted(split["clip"])
    for fold in (0, 1):
        own = pd.read_csv(tmp_path / "folds" / str(fold) / "split.csv")
        assert set(own.loc[own["split"] == "test", "patient"]) == set(split.loc[split["fold"] == fold, "patient"])
    labels = pd.read_csv(tiny_clips / "index.csv").set_index("clip")["score"]
    for fold, counts in enumerate(json.loads((tmp_path / "run.json").read_text())["train_scores"]):
        own = pd.read_csv(tmp_path / "folds" / str(fold) / "split.csv").query("split == 'train'")
        assert counts == [int((labels[own["clip"]] == score).sum()) for score in range(4)]
    with pytest.raises(UserError, match="tested in an earlier fold"):
        pool_folds(tmp_path / "wrong", [tmp_path / "folds" / "0"] * 2)
    write_record(tmp_path / "folds" / "1", data=record(tmp_path / "folds" / "1")["data"] | {"fingerprint": "another"})
    with pytest.raises(UserError, match="trained on other data"):
        pool_folds(tmp_path / "wrong", [tmp_path / "folds" / str(fold) for fold in (0, 1)])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_deep_net_trains_for_200_epochs_without_any_nan_and_its_loss_falls(tiny_clips, tmp_path):
    model = video(backbone="resnet50", lr=0.001, schedule="constant", hidden=64, checkpointing=True)
    data = data_module(tiny_clips, iterations=2, num_workers=0, choice=FrameChoice(max_frames=4), augmentation=Augmentation())
    data.part = lambda split, part=data.part: part(split).head(8)
    trainer(tmp_path, max_epochs=200).fit(model, data)  # FindNonFinite would end it
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert len(curves) == 200
    assert curves["train/loss"].notna().all()
    assert curves["train/loss"].tail(10).mean() < 0.7 * curves["train/loss"].head(10).mean()
