"""Frozen means frozen."""

import pytest
import timm
import torch

from lus_lightning.errors import UserError
from lus_lightning.nets import frozen
from lus_lightning.nets.frozen import FrozenBackbone, fingerprint


@pytest.mark.parametrize("name", ["test_resnet", "vgg11", "legacy_xception"])
def test_features_are_the_mean_of_the_last_map_under_the_networks_own_statistics(name):
    torch.manual_seed(0)
    frozen = FrozenBackbone(name)
    plain = timm.create_model(name).eval()
    plain.load_state_dict(frozen.net.state_dict(), strict=False)
    images = torch.rand(2, 1, 64, 64)
    mean, std = (torch.tensor(plain.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = plain.forward_features((images - mean) / std).mean((2, 3))
    assert expected.shape == (2, frozen.width)
    torch.testing.assert_close(frozen(images), expected)


def test_no_mode_and_no_batch_changes_it_and_nothing_asks_for_a_gradient():
    frozen = FrozenBackbone("test_resnet")
    before = fingerprint(frozen)
    frozen.train()
    assert not any(module.training for module in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen(torch.rand(4, 1, 32, 32)).requires_grad
    assert fingerprint(frozen) == before


def test_pictures_are_resized_to_the_networks_own_size():
    torch.manual_seed(0)
    frozen = FrozenBackbone("test_resnet", size=48)
    plain = FrozenBackbone("test_resnet")
    plain.load_state_dict(frozen.state_dict())
    images = torch.rand(1, 1, 64, 64)
    small = torch.nn.functional.interpolate(images, (48, 48), mode="bilinear", antialias=True)
    assert torch.equal(frozen(images), plain(small))


def test_a_whole_networks_weights_file_fits_its_frozen_part_and_a_changed_one_has_another_fingerprint(tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("test_resnet").state_dict()
    torch.save(whole, tmp_path / "a.pt")
    frozen = FrozenBackbone("test_resnet")
    frozen.load_weights(str(tmp_path / "a.pt"))
    assert all(torch.equal(value, whole[name]) for name, value in frozen.net.state_dict().items())
    before, statistic = fingerprint(frozen), next(n for n in whole if n.endswith("running_mean"))
    whole[statistic][0] += 1e-3
    torch.save(whole, tmp_path / "b.pt")
    frozen.load_weights(str(tmp_path / "b.pt"))
    assert fingerprint(frozen) != before


@pytest.mark.parametrize("name", ["mean", "std"])
def test_another_normalisation_is_another_fingerprint(name):
    torch.manual_seed(1)
    frozen = FrozenBackbone("test_resnet")
    before = fingerprint(frozen)
    getattr(frozen, name)[0, 0] += 1e-3
    assert fingerprint(frozen) != before


def test_another_version_is_another_fingerprint_and_weights_of_16_bits_have_one(monkeypatch):
    network = FrozenBackbone("test_resnet")
    before = fingerprint(network)
    monkeypatch.setattr(frozen, "FEATURES_VERSION", 0)
    assert fingerprint(network) != before
    assert fingerprint(network.bfloat16()) != before


def test_weights_of_another_network_and_a_network_without_maps_are_refused(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "a.pt")
    with pytest.raises(UserError, match="do not belong to test_efficientnet"):
        FrozenBackbone("test_efficientnet").load_weights(str(tmp_path / "a.pt"))
    with pytest.raises(UserError, match="frozen backbones come from timm"):
        FrozenBackbone("torchvision:alexnet")
