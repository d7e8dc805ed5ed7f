import pytest
import timm
import torch
import torchvision

from lus_lightning.errors import UserError
from lus_lightning.nets.backbones import ImageClassifier


@pytest.mark.parametrize("name", ["test_resnet", "vgg11_bn", "torchvision:googlenet", "torchvision:alexnet"])
def test_a_network_by_name_takes_grey_images_and_gives_four_logits(name):
    net = ImageClassifier(name, 4).eval()
    assert net(torch.rand(2, 1, 96, 96)).shape == (2, 4)


def test_the_input_is_the_grey_image_on_three_channels_with_the_networks_own_normalisation():
    net = ImageClassifier("test_resnet", 4).eval()
    image = torch.rand(1, 1, 64, 64)
    cfg = net.net.pretrained_cfg
    by_hand = torch.cat([(image - m) / s for m, s in zip(cfg["mean"], cfg["std"], strict=True)], dim=1)
    torch.testing.assert_close(net(image), net.net(by_hand))


@pytest.mark.parametrize(("name", "make"), [
    ("test_resnet", lambda: timm.create_model("test_resnet")),
    ("torchvision:googlenet", lambda: torchvision.models.googlenet(weights=None, init_weights=False)),
])  # fmt: skip
def test_weights_of_a_file_with_1000_classes_fill_all_but_the_head(name, make, tmp_path):
    source = make()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = ImageClassifier(name, 4)
    head = net.net.fc.weight.detach().clone()
    net.load_weights(str(tmp_path / "weights.pth"))
    for key, value in source.state_dict().items():
        if not key.startswith(("fc", "aux")):
            assert torch.equal(net.net.state_dict()[key], value)
    assert torch.equal(net.net.fc.weight, head)


def test_a_head_starts_afresh_even_where_the_file_has_four_classes_too(tmp_path):
    torch.save(timm.create_model("test_resnet", num_classes=4).state_dict(), tmp_path / "weights.pth")
    net = ImageClassifier("test_resnet", 4)
    head = net.net.fc.weight.detach().clone()
    net.load_weights(str(tmp_path / "weights.pth"))
    assert torch.equal(net.net.fc.weight, head)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="do not belong to test_resnet"):
        ImageClassifier("test_resnet", 4).load_weights(str(tmp_path / "weights.pth"))


def test_a_missing_weights_file_and_an_unknown_network_are_told_with_the_remedy():
    with pytest.raises(UserError, match="imagenet, none, or the path"):
        ImageClassifier("test_resnet", 4).load_weights("nowhere.pth")
    with pytest.raises(UserError, match="no network named"):
        ImageClassifier("resnet5000", 4)


def test_a_download_that_fails_stops_with_what_to_do(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    net = ImageClassifier("test_resnet", 4)
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError, match="weights=none"):
        net.load_weights("imagenet")
