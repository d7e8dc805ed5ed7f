import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from lus_lightning.errors import UserError
from lus_lightning.nets.attention_unet import AttentionGate, AttentionUNet
from lus_lightning.nets.backbones import IMAGENET_MEAN, IMAGENET_STD

NARROW = (32, 24, 16, 16, 8)


def gate_by_hand(gate: AttentionGate, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Oktay et al., eqs. 1 and 2, place by place: alpha (h, w) at the resolution of g, for x (C, 2 h, 2 w) and g (G, h, w)."""
    w_x, w_g, psi = (layer.weight.detach().double().numpy()[:, :, 0, 0].T for layer in (gate.w_x, gate.w_g, gate.psi))
    b_g, b_psi = gate.w_g.bias.detach().double().numpy(), gate.psi.bias.item()
    alpha = np.zeros(g.shape[1:])
    for i, j in np.ndindex(alpha.shape):
        x_i = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(axis=(1, 2))
        q = psi.T @ np.maximum(w_x.T @ x_i + w_g.T @ g[:, i, j] + b_g, 0) + b_psi
        alpha[i, j] = 1 / (1 + np.exp(-q[0]))
    return alpha


def linear(alpha: np.ndarray) -> np.ndarray:
    """Twice as many rows and columns, linearly between the places' centres."""
    for axis in (0, 1):
        n = alpha.shape[axis]
        at = (np.arange(2 * n) + 0.5) / 2 - 0.5
        alpha = np.apply_along_axis(lambda line, at=at, n=n: np.interp(at, np.arange(n), line), axis, alpha)
    return alpha


def opened(net: AttentionUNet) -> AttentionUNet:
    for gate in net.gates:
        nn.init.constant_(gate.psi.bias, 1e4)
    return net


def test_the_gate_is_equations_1_and_2_of_oktay():
    torch.manual_seed(0)
    gate, x, g = AttentionGate(6, 5), torch.randn(2, 6, 8, 12), torch.randn(2, 5, 4, 6)
    gated = gate(x, g)
    for b in range(2):
        alpha = linear(gate_by_hand(gate, x[b].double().numpy(), g[b].double().numpy()))
        np.testing.assert_allclose(gate.alpha[b, 0], alpha, rtol=1e-5)
        np.testing.assert_allclose(gated[b].detach(), alpha * x[b].numpy(), rtol=1e-4, atol=1e-6)


def test_the_gate_learns_from_the_skip_and_from_the_coarser_scale():
    gate, x, g = AttentionGate(4, 3), torch.randn(1, 4, 8, 8, requires_grad=True), torch.randn(1, 3, 4, 4, requires_grad=True)
    gate(x, g).square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in (x, g, gate.w_x.weight, gate.w_g.weight, gate.w_g.bias, gate.psi.weight))
    assert not gate.alpha.requires_grad


@pytest.mark.parametrize(("encoder", "gates", "size"), [
    ("resnet18", 4, (70, 101)), ("vgg11_bn", 4, (33, 32)), ("tu-test_efficientnet", 4, (64, 64)),
    ("tu-test_resnet", 4, (128, 256)), ("tu-test_resnet", 4, (70, 101)), ("tu-test_convnext", 3, (70, 101)),
])  # fmt: skip
def test_any_encoder_and_any_size_give_a_logit_per_class_and_pixel_and_a_map_per_gate(encoder, gates, size):
    net, images = AttentionUNet(encoder, 5, NARROW).eval(), torch.rand(2, 1, *size)
    assert net(images).shape == (2, 5, *size)
    maps = net.attention(images)
    assert maps.shape == (2, gates, *size)
    assert 0 < maps.min() < maps.max() < 1


@pytest.mark.parametrize(("encoder", "mean", "std"), [
    ("resnet18", IMAGENET_MEAN, IMAGENET_STD), ("tu-test_resnet", (0.5,) * 3, (0.5,) * 3),
])  # fmt: skip
def test_open_gates_leave_the_plain_u_net_of_the_normalised_picture(encoder, mean, std):
    net, plain = opened(AttentionUNet(encoder, 5, NARROW)).eval(), smp.Unet(encoder, 5, None, decoder_channels=NARROW, classes=5).eval()
    weights = {key.replace(".block.", "."): value for key, value in net.net.state_dict().items() if ".gate." not in key}
    plain.load_state_dict(weights)
    images = torch.rand(2, 1, 64, 96)
    colour = torch.cat([(images - m) / s for m, s in zip(mean, std, strict=True)], dim=1)
    torch.testing.assert_close(net(images), plain(colour))
    nn.init.constant_(net.gates[-1].psi.bias, -1e4)
    assert not torch.allclose(net(images), plain(colour), atol=1e-3)


def test_a_picture_is_filled_with_black_to_the_right_and_below_up_to_the_stride():
    net, images = AttentionUNet("tu-test_resnet", 2, NARROW[:4]).eval(), torch.rand(1, 1, 50, 70)
    filled = torch.zeros(1, 1, 64, 80)
    filled[:, :, :50, :70] = images
    torch.testing.assert_close(net(images), net(filled)[:, :, :50, :70])


def test_a_fresh_network_takes_every_class_for_rare_and_bfloat16_autocast_changes_little():
    net, images = AttentionUNet("tu-test_resnet", 3, NARROW).eval(), torch.rand(2, 1, 64, 96)
    probs = net(images).sigmoid()
    assert 0.005 < probs.median() < 0.02
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(images)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float().sigmoid(), probs, atol=2e-3, rtol=0)


def lines_and_area() -> tuple[Tensor, Tensor]:
    """A simulated picture of (1, 1, 40, 70), with noise: a thin line, and below it an area that overlaps with a band: (1, 3, 40, 70)."""
    masks = torch.zeros(1, 3, 40, 70)
    masks[0, 0, :, 20:22], masks[0, 1, 10:25, 20:], masks[0, 2, :, 50:60] = 1, 1, 1
    noise = 0.1 * torch.rand(1, 1, 40, 70, generator=torch.Generator().manual_seed(0))
    return noise + (masks * torch.tensor([0.4, 0.2, 0.3]).view(1, 3, 1, 1)).sum(1, keepdim=True), masks


def test_it_learns_a_picture_by_heart_where_classes_overlap_and_sizes_are_no_multiple_of_the_stride():
    torch.manual_seed(0)
    net, (image, masks) = AttentionUNet("tu-test_resnet", 3, NARROW), lines_and_area()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net(image), masks).backward()
        optimizer.step()
    found = net(image) > 0
    dice = 2 * (found * masks).sum((0, 2, 3)) / (found.sum((0, 2, 3)) + masks.sum((0, 2, 3)))
    assert dice.min() > 0.95


@pytest.mark.parametrize(("encoder", "last", "make"), [
    ("resnet18", "layer4", lambda: torchvision.models.resnet18(weights=None)),
    ("tu-test_resnet", "layer4", lambda: timm.create_model("test_resnet")),
    ("tu-test_convnext", "stages", lambda: timm.create_model("test_convnext")),
    ("tu-test_efficientnet", "blocks", lambda: timm.create_model("test_efficientnet")),
])  # fmt: skip
def test_a_weights_file_of_the_classifier_gives_the_encoder_the_classifiers_features(encoder, last, make, tmp_path):
    source, images = make().eval(), torch.rand(1, 3, 64, 64)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = AttentionUNet(encoder, 2, NARROW).eval()
    net.load_weights(str(tmp_path / "weights.pth"))
    expected = []
    source.get_submodule(last).register_forward_hook(lambda module, given, output: expected.append(output))
    source(images)
    torch.testing.assert_close(net.net.encoder(images)[-1], expected[0])


def test_the_encoders_own_weights_load_and_decoder_and_gates_stay_new(tmp_path):
    source, net = (AttentionUNet("tu-test_resnet", 2, NARROW) for _ in range(2))
    torch.save({"state_dict": source.net.encoder.state_dict()}, tmp_path / "weights.pth")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.load_weights("none")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    net.load_weights(str(tmp_path / "weights.pth"))
    for key, value in net.state_dict().items():
        assert torch.equal(value, source.state_dict()[key] if key.startswith("net.encoder.") else before[key]), key


@pytest.mark.parametrize(("encoder", "make"), [
    ("tu-test_resnet", lambda: timm.create_model("test_vit")),
    ("resnet18", lambda: torchvision.models.resnet34(weights=None)),
    ("tu-resnet18", lambda: timm.create_model("resnet34")),
    ("resnet18", lambda: torchvision.models.wide_resnet50_2(weights=None)),
])  # fmt: skip
def test_weights_of_another_network_are_refused(encoder, make, tmp_path):
    torch.save(make().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=f"do not belong to {encoder}"):
        AttentionUNet(encoder, 2, NARROW).load_weights(str(tmp_path / "weights.pth"))


def test_a_missing_file_and_a_download_that_fails_are_told_with_the_remedy(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    net = AttentionUNet("tu-test_resnet", 2, NARROW)
    with pytest.raises(UserError, match="imagenet, none, or the path"):
        net.load_weights("nowhere.pth")
    monkeypatch.setattr(smp.encoders, "get_encoder", refuse)
    with pytest.raises(UserError, match=r"no route to host.*weights=none"):
        net.load_weights("imagenet")


@pytest.mark.parametrize(("encoder", "weights"), [("resnet18", "imagenet"), ("tu-test_resnet", True)])
def test_imagenet_asks_the_library_for_the_encoders_own_weights(encoder, weights, monkeypatch):
    net, make, asked = AttentionUNet(encoder, 2, NARROW), smp.encoders.get_encoder, []
    monkeypatch.setattr(smp.encoders, "get_encoder", lambda name, depth, weights: asked.append((name, weights)) or make(name, depth=depth))
    net.load_weights("imagenet")
    assert asked == [(encoder, weights)]


@pytest.mark.parametrize("encoder", ["resnet5000", "tu-resnet5000", "tu-test_vit"])
def test_an_unknown_encoder_and_one_without_halving_maps_are_told_with_the_remedy(encoder):
    with pytest.raises(UserError, match=f"has the encoder {encoder} .*tu-<timm name>"):
        AttentionUNet(encoder, 2)
