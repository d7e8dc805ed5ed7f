import json
from types import SimpleNamespace

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn

from lus_lightning.callbacks.checkpoint import LastCheckpoint
from lus_lightning.callbacks.nonfinite import FindNonFinite
from lus_lightning.errors import UserError
from lus_lightning.methods.base import LungModule, Step, cross_entropy

CLIPS, PER_BATCH = 24, 4


class Clips(pl.LightningDataModule):
    """Clip i is a row of numbers around i; `planted` clips hold 0 everywhere, `spoiled` ones a NaN."""

    def __init__(self, planted=(), spoiled=()):
        super().__init__()
        self.sources = SimpleNamespace(clips=pd.DataFrame({"clip": [f"clip-{i}" for i in range(CLIPS)]}))
        self.values = torch.randn(CLIPS, 4, generator=torch.Generator().manual_seed(0)) + 0.1
        for i in planted:
            self.values[i] = 0
        for i in spoiled:
            self.values[i, 2] = torch.nan

    def train_dataloader(self):
        samples = [{"x": x, "target": torch.tensor(i % 4), "row": torch.tensor(i)} for i, x in enumerate(self.values)]
        return torch.utils.data.DataLoader(samples, PER_BATCH)


class Normalise(nn.Module):
    """Divides each row by its length: 0 / 0 for a row of zeros."""

    def forward(self, x):
        return x / x.detach().norm(dim=1, keepdim=True)


class Length(nn.Module):
    """Adds each row's length, whose slope at a row of zeros is 0 * infinity."""

    def forward(self, x):
        return x + x.square().sum(1, keepdim=True).sqrt()


class Unlucky(nn.Module):
    """Divides by 0 or 1, as chance has it."""

    def forward(self, x):
        return x / (torch.rand(()) > 0.3)


class Method(LungModule):
    def __init__(self, plant=None, lr=0.01):
        super().__init__(headline="a")
        torch.manual_seed(7)
        self.first = nn.Linear(4, 4, bias=False)
        self.body = nn.Sequential(nn.Dropout(0.2), plant or nn.Identity(), nn.Linear(4, 8), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 4)
        self.lr, self.spoil_loss = lr, False

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)

    def step(self, batch):
        logits = self.head(self.body(self.first(batch["x"])))
        loss = cross_entropy(logits, batch["target"])
        return Step(batch["target"], {"a": (loss - loss).log() if self.spoil_loss else loss}, {"a": logits.detach().softmax(1)})


class AtBatch(pl.Callback):
    def __init__(self, number, act):
        self.number, self.act = number, act

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.number:
            self.act(pl_module)


def _fit(folder, method, data, *others, **how):
    pl.seed_everything(3, verbose=False)
    trainer = pl.Trainer(
        default_root_dir=folder, max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[*others, FindNonFinite(), LastCheckpoint(every_n_steps=1)], **how,
    )  # fmt: skip
    trainer.fit(method, datamodule=data)
    return trainer


def _found(folder, method, data, *others, **how):
    with pytest.raises(UserError) as error:
        _fit(folder, method, data, *others, **how)
    return json.loads((folder / "nonfinite.json").read_text()), str(error.value)


def _clips_of(batch):
    return [f"clip-{i}" for i in range(batch * PER_BATCH, (batch + 1) * PER_BATCH)]


def _check_batch(folder, found, batch):
    assert (found["batch"], found["clips"], found["seen_again"]) == (batch, _clips_of(batch), True)
    assert found["clips_before"] == (_clips_of(batch - 1) if batch else [])
    saved = torch.load(folder / "nonfinite.pt", weights_only=True)
    assert saved["row"].tolist() == list(range(batch * PER_BATCH, (batch + 1) * PER_BATCH))
    last = folder / "checkpoints" / "last.ckpt"
    assert last.exists() == (batch > 0)
    if batch:
        kept = torch.load(last, weights_only=True)
        assert kept["global_step"] == batch
        assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.parametrize("batch", [0, 2, 5])
def test_a_nan_in_a_clip_is_found_as_that_input_of_that_clip(tmp_path, batch):
    clip = batch * PER_BATCH + 1
    found, told = _found(tmp_path, Method(), Clips(spoiled=[clip]))
    _check_batch(tmp_path, found, batch)
    assert (found["kind"], found["what"], found["bad_clips"]) == ("input", "x", [f"clip-{clip}"])
    assert f"`x` is not finite in batch {batch} of epoch 0 (clips clip-{clip})" in told


@pytest.mark.parametrize("batch", [0, 2, 5])
@pytest.mark.parametrize("name", ["first.weight", "body.2.bias", "head.weight"])
def test_a_weight_that_is_nan_is_found_in_the_batch_that_meets_it(tmp_path, batch, name):
    plant = AtBatch(batch, lambda method: dict(method.named_parameters())[name].data.view(-1)[:1].fill_(torch.nan))
    found, told = _found(tmp_path, Method(), Clips(), plant)
    _check_batch(tmp_path, found, batch)
    assert (found["kind"], found["module"], found["what"], found["class"]) == ("weight", name.rpartition(".")[0], name, "Linear")
    assert name in told


@pytest.mark.parametrize("batch", [0, 2, 5])
def test_a_division_by_0_is_found_in_its_module(tmp_path, batch):
    found, told = _found(tmp_path, Method(Normalise()), Clips(planted=[batch * PER_BATCH + 3]))
    _check_batch(tmp_path, found, batch)
    assert (found["kind"], found["module"], found["class"], found["loss"]) == ("activation", "body.1", "Normalise", "nan")
    assert "first in body.1 (Normalise)" in told


@pytest.mark.parametrize("batch", [0, 2, 5])
def test_a_gradient_that_overflows_is_found_in_its_module_though_the_loss_is_sound(tmp_path, batch):
    found, told = _found(tmp_path, Method(Length()), Clips(planted=[batch * PER_BATCH]))
    _check_batch(tmp_path, found, batch)
    assert (found["kind"], found["module"], found["class"]) == ("gradient", "body.1", "Length")
    assert float(found["loss"]) < 10
    assert "gradient_clip_val" in told


@pytest.mark.parametrize("batch", [0, 2, 5])
def test_a_loss_that_spoils_itself_is_the_methods_own(tmp_path, batch):
    found, _ = _found(tmp_path, Method(), Clips(), AtBatch(batch, lambda method: setattr(method, "spoil_loss", True)))
    _check_batch(tmp_path, found, batch)
    assert (found["kind"], found["module"], found["class"], found["what"]) == ("activation", "", "Method", "loss")


def test_what_chance_spoiled_is_seen_again_with_the_same_chance(tmp_path):
    found, _ = _found(tmp_path, Method(Unlucky()), Clips())
    assert (found["kind"], found["class"], found["seen_again"]) == ("activation", "Unlucky", True)
    assert found["batch"] > 0, "the first batch would need no seed of its own"


class FarStep(pl.Callback):
    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 3:
            for group in optimizer.param_groups:
                group["lr"] = 3e38
            for p in pl_module.parameters():
                p.grad.fill_(100)


def test_a_step_that_throws_the_weights_out_of_range_is_stopped_before_they_are_saved(tmp_path):
    found, told = _found(tmp_path, Method(), Clips(), FarStep())
    assert (found["kind"], found["what"], found["batch"], found["clips"]) == ("weight", "first.weight", 3, _clips_of(3))
    assert "no checkpoint holds it" in told
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_a_sound_training_ends_as_without_it_and_writes_nothing(tmp_path):
    trainer = _fit(tmp_path, Method(), Clips())
    assert trainer.global_step == CLIPS // PER_BATCH
    assert not list(tmp_path.glob("nonfinite*"))
    other = Method()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, **quiet).fit(other, datamodule=Clips())
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


class Steep(nn.Module):
    """As it was, with gradients so large that their squares are infinite."""

    def forward(self, x):
        return x + 1e30 * (x - x.detach())


def test_gradients_whose_squares_alone_are_infinite_are_no_finding(tmp_path):
    assert _fit(tmp_path, Method(Steep(), lr=1e-36), Clips()).global_step == CLIPS // PER_BATCH


def test_a_loss_scale_that_is_too_large_is_the_scalers_business(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    trainer = _fit(tmp_path, Method(), Clips(), plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() < 2.0**127, "no gradient overflowed"
    assert trainer.global_step == CLIPS // PER_BATCH
    assert not list(tmp_path.glob("nonfinite*"))


def test_a_gradient_that_no_loss_scale_can_mend_is_found(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    found, _ = _found(tmp_path, Method(Length()), Clips(planted=[9]), plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert (found["kind"], found["module"], found["batch"]) == ("gradient", "body.1", 2)


def test_a_dry_run_stops_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="Normalise"):
        _fit(tmp_path, Method(Normalise()), Clips(planted=[1]), fast_dev_run=2)
    assert not list(tmp_path.iterdir())
