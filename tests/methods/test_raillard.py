"""Raillard's frozen networks: nothing but the heads moves, and the folds are kept apart."""

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from command_lines import EXPERIMENTS
from torch import nn

from lus_lightning.callbacks.checkpoint import LastCheckpoint
from lus_lightning.callbacks.predictions import PredictionWriter
from lus_lightning.data.datamodules import FrameDataModule
from lus_lightning.data.frames import FrameChoice
from lus_lightning.data.splits import Split
from lus_lightning.data.transforms import Augmentation
from lus_lightning.errors import UserError
from lus_lightning.methods import FrozenFeatureClassifier
from lus_lightning.nets.backbones import ImageClassifier
from lus_lightning.nets.frozen import fingerprint
from lus_lightning.report.published import load
from lus_lightning.runs import flat


def data_module(root, cache, **changes):
    augmentation = Augmentation(rotate_degrees=10, shift=0.05, scale=0.1, flip=0.5)
    given = {"size": 48, "batch_size": 4, "study": "tiny", "root": str(root), "choice": FrameChoice(max_frames=1), "num_workers": 0,
             "split": Split(test_share=0), "augmentation": augmentation, "cache_dir": str(cache)}  # fmt: skip
    return FrameDataModule(**(given | changes))


def method(**changes):
    torch.manual_seed(3)
    given = {"lr": 0.01, "weights": "none", "folds": 3, "networks": ["test_resnet", "test_efficientnet"]}
    return FrozenFeatureClassifier(**(given | changes))


def trainer(folder, **changes):
    given = {"max_epochs": 2, "default_root_dir": folder, "logger": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0,
             "reload_dataloaders_every_n_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False,
             "enable_model_summary": False}  # fmt: skip
    return pl.Trainer(callbacks=[LastCheckpoint(every_n_steps=3, min_seconds=0), PredictionWriter()], **(given | changes))


@pytest.fixture(scope="module", params=[0, 2], ids=["fresh views", "kept views"])
def fitted(request, tiny_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raillard")
    model, data = method(views=request.param), data_module(tiny_study, folder / "cache")
    before = [fingerprint(network) for network in model.backbones.values()], {k: v.clone() for k, v in model.heads.state_dict().items()}
    trainer(folder).fit(model, data)
    return model, data, folder, before


def test_a_fit_changes_no_bit_of_the_backbones_and_every_head(fitted):
    model, _, _, (marks, heads) = fitted
    assert [fingerprint(network) for network in model.backbones.values()] == marks
    assert not any(torch.equal(model.heads.state_dict()[k], v) for k, v in heads.items())


def test_the_optimiser_holds_the_heads_only():
    model = method()
    held = {p for group in model.configure_optimizers().param_groups for p in group["params"]}
    assert held == set(model.heads.parameters())


def test_every_image_is_predicted_by_the_heads_that_did_not_see_its_patient(fitted):
    model, data, folder, _ = fitted
    table = pd.read_parquet(folder / "predictions.parquet")
    assert set(table["split"]) == {"oof"}
    assert not (folder / "selection.csv").exists()  # nothing is selected here
    assert set(table["member"]) == {"test_resnet", "test_efficientnet"}
    train = data.part("train")
    assert len(table) == 2 * len(train)
    model.eval()
    for name, network, heads in model._networks():
        rows = table[table["member"] == name].set_index(["row", "frame"])
        for item, sample in train.iterrows():
            image = data.dataset(train, "oof").__getitem__(item)
            image = image["image"] if "image" in image else data_image(data, train, item)
            with torch.no_grad():
                own = heads.members[int(sample["fold"])](network(image[None].float() / 255)).softmax(1)[0]
            told = rows.loc[(sample["row"], sample["frame"]), [f"p_{c}" for c in range(4)]].to_numpy(np.float32)
            np.testing.assert_allclose(told, own, atol=1e-5)
            assert rows.loc[(sample["row"], sample["frame"]), "fold"] == sample["fold"]


def data_image(data, train, item):
    from lus_lightning.data.datasets import FrameDataset

    return FrameDataset(train, data._files("path"), data.size, "oof", data.cache_dir)[item]["image"]


def test_kept_features_train_the_same_heads_as_fresh_ones_where_nothing_is_augmented(tiny_study, tmp_path):
    ends = []
    for views in (0, 1):
        model = method(views=views)
        trainer(tmp_path / str(views)).fit(model, data_module(tiny_study, tmp_path / "cache", augmentation=Augmentation()))
        ends.append(model.heads.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-5)


def test_a_heads_gradients_are_those_of_an_unfrozen_networks_head():
    torch.manual_seed(0)
    model = method(networks=["test_resnet"], dropout=0.0)
    images, target, fold = torch.rand(6, 1, 32, 32), torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([0, 0, 1, 1, 2, 2])
    batch = {"image": images, "target": target, "fold": fold, "split": torch.zeros(6, dtype=torch.int64)}
    torch.stack(list(model.step(batch).losses.values())).sum().backward()
    for i in range(3):
        whole = ImageClassifier("test_resnet", 4)
        whole.net.load_state_dict(model.backbones["test_resnet"].net.state_dict(), strict=False)
        head = model.heads["test_resnet"].members[i][1]
        whole.net.reset_classifier(4)
        whole.net.get_classifier().load_state_dict(head.state_dict())
        whole.eval()  # batch norm as it is; everything may train
        nn.functional.cross_entropy(whole(images[fold != i]), target[fold != i]).backward()
        torch.testing.assert_close(head.weight.grad, whole.net.get_classifier().weight.grad)
        assert any(p.grad is not None and p.grad.any() for p in whole.net.conv1.parameters())


def test_changed_weights_make_new_features_and_a_changed_head_makes_none(tiny_study, tmp_path):
    def folders():
        return {p.name: sorted(p.iterdir()) for p in (tmp_path / "cache" / "features").iterdir()}

    def fit(folder, model):
        trainer(tmp_path / folder, max_epochs=1).fit(model, data_module(tiny_study, tmp_path / "cache"))

    fit("a", method(views=1))
    first = folders()
    fit("b", method(views=1, lr=0.1, dropout=0.0))
    assert folders() == first
    other = method(views=1)
    other.backbones["test_resnet"].net.bn1.running_mean[0] += 1e-3
    fit("c", other)
    normalised = method(views=1)
    normalised.backbones["test_resnet"].std += 1e-3
    fit("d", normalised)
    assert len(set(folders()) - set(first)) == 2


def test_an_interrupted_run_ends_as_an_unbroken_one(tiny_study, tmp_path):
    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            if trainer.global_step == 7:
                raise RuntimeError("killed")

    ends = []
    for name in ("whole", "broken"):
        folder, model = tmp_path / name, method(views=2)
        data = data_module(tiny_study, tmp_path / "cache", batch_size=2)
        if name == "broken":
            stopped = trainer(folder)
            stopped.callbacks.append(Stop())
            with pytest.raises(RuntimeError, match="killed"):
                stopped.fit(method(views=2), data)
            assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
            data = data_module(tiny_study, tmp_path / "cache", batch_size=2)
            trainer(folder).fit(model, data, ckpt_path=folder / "checkpoints" / "last.ckpt")
        else:
            trainer(folder).fit(model, data)
        ends.append(model)
    for name, value in ends[0].state_dict().items():
        assert torch.equal(ends[1].state_dict()[name], value), name
    assert all(seconds > 0 for seconds in ends[1].member_seconds.values())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"networks": ["test_resnet", "test_resnet.r160_in1k"]}, "a name stands twice"),
        ({"sizes": [64]}, "sizes has 1 entries"),
        ({"weights": ["none"]}, "weights has 1 entries"),
        ({"networks": ["no_such_net"]}, "there is no network named no_such_net"),
    ],
)
def test_a_wrong_network_is_refused_in_a_sentence(changes, told):
    with pytest.raises(UserError, match=told):
        method(**changes)


def test_the_recipe_is_the_papers():
    recipe = {key.rpartition(".")[2]: value for key, value in flat(yaml.safe_load((EXPERIMENTS / "raillard.yaml").read_text())).items()}
    printed = {name: value.value for name, value in load("raillard").values.items()}
    for name in ("lr", "batch_size", "max_epochs", "folds"):
        assert recipe[name] == printed[name], name
    assert FrozenFeatureClassifier(0.001, "none", 3, ["test_resnet"]).hparams["dropout"] == printed["dropout"]
    assert recipe["weights"].lower() == printed["weights"].lower()
    assert recipe["views"] == 0
    assert {"rotate_degrees", "shift", "scale", "flip"} <= set(recipe)  # the kinds that section 2.2 names
