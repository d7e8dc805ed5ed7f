"""Xing's cascade as a training: exact resume, two processes, and what its stages may see."""

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from lus_lightning.callbacks.checkpoint import LastCheckpoint
from lus_lightning.callbacks.predictions import PredictionWriter
from lus_lightning.data.datamodules import FrameDataModule
from lus_lightning.data.frames import FrameChoice
from lus_lightning.data.splits import Split
from lus_lightning.data.transforms import Augmentation
from lus_lightning.errors import UserError
from lus_lightning.methods import CascadedVotingClassifier

ITERATIONS = 6


def data_module(root, **changes):
    augmentation = Augmentation(rotate_degrees=10, shift=0.05, scale=0.1, flip=0.5, brightness=0.1, contrast=0.1)
    given = {"size": 64, "batch_size": 4, "study": "tiny", "root": str(root), "iterations": ITERATIONS, "choice": FrameChoice(max_frames=2),
             "split": Split(test_share=0.25), "augmentation": augmentation, "num_workers": 2}  # fmt: skip
    return FrameDataModule(**(given | changes))


def cascade(**changes):
    torch.manual_seed(7)
    networks = ["test_resnet", "test_efficientnet", "torchvision:googlenet"]  # the last has dropout
    given = {
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "weights": "none",
        "selector": "test_resnet",
        "networks": networks,
        "folds": 3,
        "schedule": "warm_cosine",
    }
    return CascadedVotingClassifier(**(given | changes))


def trainer(folder, *callbacks, **changes):
    given = {"max_epochs": 2, "default_root_dir": folder, "logger": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0,
             "reload_dataloaders_every_n_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False,
             "enable_model_summary": False}  # fmt: skip
    return pl.Trainer(callbacks=[LastCheckpoint(every_n_steps=2, min_seconds=0), PredictionWriter(), *callbacks], **(given | changes))


class Killed(Exception):
    pass


class Kill(pl.Callback):
    """Ends a run as a power cut would, at iteration `step` or in validation."""

    def __init__(self, step=None, in_validation=False):
        self.step, self.in_validation = step, in_validation

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == self.step:
            raise Killed

    def on_validation_batch_start(self, *args):
        if self.in_validation:
            raise Killed


@pytest.fixture(scope="module")
def unbroken(tiny_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    model = cascade()
    trainer(folder).fit(model, data_module(tiny_study))
    return model, folder


@pytest.mark.parametrize("kill", [Kill(step=3), Kill(step=5), Kill(in_validation=True), Kill(step=6), Kill(step=7), Kill(step=11)],
                         ids=["stage 1", "stage 1, late", "the pass that selects", "the border", "stage 2", "stage 2, late"])  # fmt: skip
def test_a_run_killed_anywhere_and_resumed_ends_with_the_weights_of_an_unbroken_run_to_the_bit(kill, unbroken, tiny_study, tmp_path):
    whole, whole_folder = unbroken
    with pytest.raises(Killed):
        trainer(tmp_path, kill).fit(cascade(), data_module(tiny_study))
    torch.rand(3)  # whatever the random state is now
    resumed = cascade(lr=0.01)
    trainer(tmp_path).fit(resumed, data_module(tiny_study), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert torch.equal(resumed.selection["probs"], whole.selection["probs"])
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    ends = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (whole_folder, tmp_path)]
    momenta = [{k: v["momentum_buffer"] for k, v in end["optimizer_states"][0]["state"].items()} for end in ends]
    assert momenta[0].keys() == momenta[1].keys()
    assert all(torch.equal(momenta[0][k], momenta[1][k]) for k in momenta[0])


def test_stage_1_leaves_no_momentum_in_the_checkpoint_and_stage_2_does_not_move_its_networks(unbroken, tiny_study, tmp_path):
    whole, folder = unbroken
    end = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    n_voters = len(list(whole.voters.parameters()))
    assert len(end["optimizer_states"][0]["state"]) == n_voters
    with pytest.raises(Killed):
        trainer(tmp_path, Kill(step=ITERATIONS)).fit(half := cascade(), data_module(tiny_study))
    for name, value in half.fold_networks.state_dict().items():
        assert torch.equal(whole.fold_networks.state_dict()[name], value), name


def test_selection_csv_is_what_the_network_that_did_not_see_the_patient_says(unbroken, tiny_study):
    model, folder = unbroken
    data = data_module(tiny_study)
    trainer(folder).test(cascade(), data, ckpt_path=folder / "checkpoints" / "last.ckpt", verbose=False)
    train, chosen = data.part("train"), pd.read_csv(folder / "selection.csv")
    assert len(chosen) == len(train)
    assert chosen.groupby("patient")["fold"].nunique().eq(1).all()
    dataset, member = data.dataset(train, "oof"), model.fold_networks.members.eval()
    for item in np.linspace(0, len(train) - 1, 8).astype(int):
        row = chosen[(chosen["row"] == train["row"][item]) & (chosen["frame"] == train["frame"][item])].iloc[0]
        with torch.no_grad():
            probs = member[int(train["fold"][item])](dataset[item]["image"][None].float() / 255).softmax(1)[0]
        assert row["p_own"] == pytest.approx(float(probs[row["target"]]), abs=1e-5)
        assert row["kept"] == (int(probs.argmax()) == row["target"])


def test_stage_2_trains_on_kept_images_alone(unbroken, tiny_study, tmp_path):
    class Witness(pl.Callback):
        seen: set = set()  # noqa: RUF012

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.current_epoch == 1:
                self.seen |= set(zip(batch["row"].tolist(), batch["frame"].tolist(), strict=True))

    trainer(tmp_path, Witness()).fit(cascade(), data_module(tiny_study))
    chosen = pd.read_csv(tmp_path / "selection.csv")
    kept = set(chosen.loc[chosen["kept"], ["row", "frame"]].itertuples(index=False, name=None))
    assert Witness.seen
    assert Witness.seen <= kept


def test_networks_of_stage_2_trained_together_equal_each_trained_alone(tiny_study, tmp_path):
    names = ["test_resnet", "test_efficientnet"]
    together = cascade(select=False, networks=names)
    alone = {}
    for name in names:
        alone[name] = cascade(select=False, networks=[name])
        alone[name].voters.load_state_dict({k: v for k, v in together.voters.state_dict().items() if k.startswith(f"{name}.")})
    for i, model in enumerate([together, *alone.values()]):
        trainer(tmp_path / str(i), max_epochs=1).fit(model, data_module(tiny_study))
    for model in alone.values():
        for key, value in model.voters.state_dict().items():
            torch.testing.assert_close(together.voters.state_dict()[key], value, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_loads_whole_with_weights_only(unbroken):
    model, folder = unbroken
    loaded = CascadedVotingClassifier.load_from_checkpoint(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert dict(loaded.hparams) == dict(model.hparams)
    assert torch.equal(loaded.selection["probs"], model.selection["probs"])
    assert loaded.selection["clip"] == model.selection["clip"]


def test_the_test_predictions_hold_stage_1_the_networks_and_the_vote_once_per_image(unbroken, tiny_study):
    _, folder = unbroken
    trainer(folder).test(cascade(), data_module(tiny_study), ckpt_path=folder / "checkpoints" / "last.ckpt", verbose=False)
    table = pd.read_parquet(folder / "predictions.parquet")
    assert not table.duplicated(["row", "frame", "member", "split"]).any()
    test = table[table["split"] == "test"]
    assert set(test["member"]) == {"fold0", "fold1", "fold2", "test_resnet", "test_efficientnet", "googlenet", "vote"}
    assert set(table.loc[table["split"] == "oof", "member"]) == {"stage1"}
    assert test.groupby("member").size().nunique() == 1
    sums = table[["p_0", "p_1", "p_2", "p_3"]].sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"networks": ["test_resnet", "test_resnet"]}, "name stands twice"),
    ({"weights": ["none"]}, "entries"),
])  # fmt: skip
def test_a_cascade_that_cannot_be_built_says_why(changes, sentence, tiny_study, tmp_path):
    with pytest.raises(UserError, match=sentence):
        trainer(tmp_path).fit(cascade(**changes), data_module(tiny_study))


def test_a_number_of_epochs_other_than_the_stages_is_refused(tiny_study, tmp_path):
    with pytest.raises(UserError, match="a stage is an epoch"):
        trainer(tmp_path, max_epochs=3).fit(cascade(), data_module(tiny_study))
