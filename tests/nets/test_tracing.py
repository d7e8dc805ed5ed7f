import pytest
import torch
from torch import nn

from lus_lightning.nets.tracing import Finding, bad_weight, finite, trace
from lus_lightning.nets.video import ClipNetwork


class Divide(nn.Module):
    def forward(self, x):
        return x / (x.detach() - x.detach())


class Root(nn.Module):
    """Sound forward, and backward the infinite slope of a square root at 0."""

    def forward(self, x):
        return (x * 0).sqrt() + x


class Apart(nn.Module):
    """Its own code, between two sound parts, spoils values or gradients."""

    def __init__(self, spoil):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.spoil = spoil

    def forward(self, x):
        x = self.parts[0](x)
        return self.parts[1](self.spoil(x))


class Around(nn.Module):
    """Its own code spoils what a part returns that has it from a part of its own."""

    def __init__(self, spoil):
        super().__init__()
        self.deep = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
        self.spoil = spoil

    def forward(self, x):
        return self.spoil(self.deep(x))


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.other = inner, nn.Linear(4, 4)

    def forward(self, x):
        return self.other(x) + self.inner(x) + x


class Overflow(nn.Module):
    """Sound forward and backward, but for the gradient of its weight, a sum that is too large."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1e-30))

    def forward(self, x):
        return x + self.weight * torch.full((8, 1), 2e38)


def _net(plant, at):
    torch.manual_seed(1)
    parts = [nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.LeakyReLU(inplace=True), nn.Linear(4, 4)]
    inner = nn.Sequential(*parts[:at], plant, *parts[at:])
    return nn.Sequential(nn.Linear(4, 4), inner, nn.Linear(4, 4))


def _trace(net):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    return trace(net, lambda: net(x).square().mean())


def test_a_sound_network_has_nothing_to_find():
    assert _trace(_net(nn.Identity(), 2)) is None


@pytest.mark.parametrize("at", range(6))
def test_the_module_that_divides_by_0_is_named_wherever_it_stands(at):
    found = _trace(_net(Divide(), at))
    assert (found.kind, found.module, found.what) == ("activation", f"1.{at}", "output")


@pytest.mark.parametrize("at", range(6))
def test_the_module_whose_slope_is_infinite_is_named_wherever_it_stands(at):
    found = _trace(_net(Root(), at))
    assert (found.kind, found.module) == ("gradient", f"1.{at}")


@pytest.mark.parametrize("at", range(6))
def test_the_module_whose_weight_gets_a_gradient_beyond_all_numbers_is_named(at):
    found = _trace(_net(Overflow(), at))
    assert found == Finding("gradient", f"1.{at}", f"1.{at}.weight")


def test_of_two_such_weights_the_one_nearer_to_the_loss_is_named():
    net = _net(Overflow(), 2)
    net.append(Overflow())
    assert _trace(net).module == "3"


@pytest.mark.parametrize("plant", [Apart, Around])
@pytest.mark.parametrize(("spoil", "kind"), [(Divide(), "activation"), (Root(), "gradient")])
def test_what_a_modules_own_code_spoils_is_that_modules(plant, spoil, kind):
    found = _trace(_net(plant(spoil.forward), 2))
    assert (found.kind, found.module) == (kind, "1.2")


@pytest.mark.parametrize(("spoil", "kind"), [(Divide(), "activation"), (Root(), "gradient")])
def test_of_several_that_use_a_value_the_one_that_spoils_it_is_named(spoil, kind):
    found = _trace(_net(Residual(nn.Sequential(spoil)), 2))
    assert (found.kind, found.module) == (kind, "1.2.inner.0")


@pytest.mark.parametrize("loss", [lambda x: (x * 0).log().mean(), lambda x: ((x * 0).sqrt() + x).mean()])
def test_what_the_loss_spoils_is_the_networks_own(loss):
    net = _net(nn.Identity(), 2)
    x = torch.randn(8, 4)
    assert trace(net, lambda: loss(net(x))).module == ""


def test_tracing_leaves_no_hook_and_no_gradient():
    net = _net(Root(), 2)
    _trace(net)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_the_first_weight_that_is_not_finite_is_named_and_an_infinity_meant_in_a_buffer_is_not():
    net = _net(nn.BatchNorm1d(4), 2)
    net.register_buffer("mask", torch.tensor(-torch.inf))
    assert bad_weight(net) is None
    net[1][2].running_var[1] = torch.nan
    assert bad_weight(net) == Finding("weight", "1.2", "1.2.running_var")
    net[0].weight.data[0, 0] = torch.inf
    assert bad_weight(net) == Finding("weight", "0", "0.weight")


def test_numbers_are_looked_for_in_packed_sequences_too():
    packed = torch.nn.utils.rnn.pack_sequence([torch.tensor([1.0, torch.nan]), torch.tensor([2.0])])
    assert not finite({"a": [packed]})
    assert finite({"a": (torch.ones(2), 3, None, torch.tensor([1]))})


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("where", "at"), [("backbone.net", "layer2"), ("attention.mask", "1"), ("pool", "score"), ("", "head")])
@pytest.mark.parametrize(("plant", "kind"), [(Divide, "activation"), (Root, "gradient")])
def test_it_is_found_in_every_part_of_a_clip_network(where, at, plant, kind, checkpointing):
    net = ClipNetwork("test_resnet", hidden=8, pooling="attention", chunk=4, checkpointing=checkpointing)
    parent = net.get_submodule(where)
    setattr(parent, at, nn.Sequential(getattr(parent, at), plant()))
    frames, length = torch.rand(2, 7, 1, 32, 32), torch.tensor([7, 3])
    found = trace(net, lambda: net(frames, length).square().sum())
    assert (found.kind, found.module) == (kind, f"{where}.{at}.1".removeprefix("."))
