import copy

import pytest
import torch
import torchvision
from torch import nn

from lus_lightning.errors import UserError
from lus_lightning.nets.backbones import ImageClassifier
from lus_lightning.nets.video import ClipNetwork, FeatureMaps, TimePooling

LENGTHS = (3, 9, 1, 6)


def _net(**how):
    torch.manual_seed(0)
    net = ClipNetwork(**{"backbone": "test_resnet", "hidden": 8, "chunk": 5} | how)
    for part in net.modules():  # statistics as after a training, so that eval mode is no identity
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return net


def _clips(lengths=LENGTHS, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(n, 1, size, size, generator=generator) for n in lengths]


def _padded(clips, value=0.0, longer=0):
    length = torch.tensor([len(c) for c in clips])
    frames = torch.full((len(clips), int(length.max()) + longer, *clips[0].shape[1:]), value, dtype=clips[0].dtype)
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip)] = clip
    return frames, length


@pytest.mark.parametrize("value", [0.0, 1.0, 1e30, torch.nan, torch.inf])
@pytest.mark.parametrize("pooling", TimePooling.WAYS)
@pytest.mark.parametrize("training", [False, True])
def test_a_clips_output_is_the_same_alone_and_in_a_batch_whatever_the_padding_holds(pooling, value, training):
    net, clips = _net(pooling=pooling).train(training), _clips()
    alone = torch.cat([net(clip[None], torch.tensor([len(clip)])) for clip in clips])
    together = net(*_padded(clips, value, longer=2))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert alone.std(0).min() > 1e-3, "clips that all give one output would prove nothing"


@pytest.mark.parametrize("pooling", TimePooling.WAYS)
def test_a_clips_gradients_are_the_same_alone_and_in_a_batch_with_padding_of_nan(pooling):
    net, clips = _net(pooling=pooling), _clips()
    for clip in clips:
        net(clip[None], torch.tensor([len(clip)])).square().sum().backward()
    alone = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    net(*_padded(clips, torch.nan)).square().sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, alone[name], rtol=1e-4, atol=1e-5)


def _count_frames(net):
    seen = []
    net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_only_real_frames_go_through_the_cnn_at_most_a_chunk_at_a_time(chunk):
    net = _net(chunk=chunk).eval()
    seen = _count_frames(net)
    out = net(*_padded(_clips(), torch.nan, longer=50))
    assert sum(seen) == sum(LENGTHS)
    assert max(seen) <= chunk
    torch.testing.assert_close(out, _net(chunk=3).eval()(*_padded(_clips())), rtol=1e-5, atol=1e-5)


def test_the_lstm_takes_as_many_steps_as_there_are_real_frames():
    net, given = _net().eval(), []
    net.lstm.register_forward_hook(lambda module, inputs, output: given.append(inputs[0]))
    net(*_padded(_clips(), longer=50))
    assert len(given[0].data) == sum(LENGTHS)
    assert given[0].batch_sizes.tolist() == [4, 3, 3, 2, 2, 2, 1, 1, 1]


def test_the_order_of_frames_matters_and_the_order_of_clips_does_not():
    net, clips = _net(pooling="last").eval(), _clips()
    out = net(*_padded(clips))
    torch.testing.assert_close(net(*_padded(clips[::-1])), out.flip(0), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(net(*_padded([c.flip(0) for c in clips]))[1], out[1], atol=1e-4)


def test_checkpointing_changes_neither_output_nor_gradient_and_keeps_no_activations():
    clips = _padded(_clips())
    held = {}
    results = []
    for checkpointing in (False, True):
        net, kept = _net(checkpointing=checkpointing), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            out = net(*clips)
        held[checkpointing] = sum(kept)
        out.square().sum().backward()
        results.append([out.detach()] + [p.grad for p in net.parameters()])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    assert held[True] < 0.25 * held[False]


def test_uint8_frames_are_the_same_as_their_grey_levels_in_0_to_1():
    net = _net().eval()
    levels, length = _padded([(c * 255).byte() for c in _clips()])
    torch.testing.assert_close(net(levels, length), net(levels.float() / 255, length))


def test_the_mask_multiplies_the_feature_map_before_it_is_averaged():
    net = _net().eval()
    maps = net.backbone(torch.rand(2, 1, 64, 64))
    attended, mask = net.attention(maps)
    torch.testing.assert_close(attended, (maps * mask[:, None]).flatten(2).mean(2))
    assert len([p for p in net.attention.mask if isinstance(p, nn.Conv2d)]) == 3
    nn.init.constant_(net.attention.mask[-2].bias, -100.0)
    assert net.attention(maps)[0].abs().max() < 1e-20


@pytest.mark.parametrize("pooling", TimePooling.WAYS)
def test_the_maps_and_the_weight_of_each_frame_can_be_had(pooling):
    net = _net(pooling=pooling).eval()
    frames, length = _padded(_clips(size=64), torch.nan)
    reading = net.explain(frames, length)
    torch.testing.assert_close(reading.logits, net(frames, length))
    assert reading.attention.shape == (4, 9, 2, 2)
    outside = torch.arange(9) >= length[:, None]
    inside = reading.attention[~outside]
    assert ((inside > 0) & (inside < 1)).all()
    assert not reading.attention[outside].any()
    alone = net.explain(frames[3:, :6], length[3:])
    torch.testing.assert_close(reading.attention[3, :6], alone.attention[0], rtol=1e-5, atol=1e-5)
    if pooling == "last":
        assert reading.frames is None
        return
    torch.testing.assert_close(reading.frames.sum(1), torch.ones(4))
    assert not reading.frames[outside].any()
    if pooling in ("mean", "attention"):
        torch.testing.assert_close((reading.frames[..., None] * reading.frame_logits).sum(1), reading.logits)
    if pooling == "mean":
        torch.testing.assert_close(reading.frames[0, :3], torch.full((3,), 1 / 3))


def test_batch_norm_keeps_its_statistics_in_training_but_is_trained():
    net = _net().train()
    before = copy.deepcopy({n: b for n, b in net.named_buffers() if "running" in n})
    net(*_padded(_clips())).sum().backward()
    assert before
    assert all(torch.equal(b, before[n]) for n, b in net.named_buffers() if n in before)
    scales = [p.weight.grad for p in net.backbone.modules() if isinstance(p, nn.BatchNorm2d)]
    assert all(g is not None and g.isfinite().all() for g in scales)


def test_batch_norm_may_take_the_statistics_of_each_chunk():
    net = _net(statistics="chunk").train()
    before = [b.clone() for n, b in net.named_buffers() if "running_mean" in n]
    net(*_padded(_clips()))
    assert not torch.equal(before[0], next(b for n, b in net.named_buffers() if "running_mean" in n))
    assert not any(p.training for p in net.eval().modules())


def test_a_chunk_holds_frames_from_all_over_the_batch():
    net, chunks = _net(chunk=5).eval(), []
    net.backbone.register_forward_hook(lambda module, inputs, output: chunks.append(inputs[0].mean((1, 2, 3))))
    net(*_padded([torch.full((10, 1, 32, 32), i / 4) for i in range(4)]))
    assert all(len(set(chunk.tolist())) == 4 for chunk in chunks)


@pytest.mark.parametrize("name", ["torchvision:alexnet", "torchvision:resnet18", "torchvision:googlenet"])
def test_the_head_of_a_torchvision_network_on_its_feature_maps_gives_what_the_whole_network_gives(name, tmp_path):
    whole = ImageClassifier(name, 4).eval()
    torch.save(whole.net.state_dict(), tmp_path / "weights.pth")
    maps = FeatureMaps(name).eval()
    maps.load_weights(str(tmp_path / "weights.pth"))
    image, head = torch.rand(1, 1, 96, 96), getattr(whole.net, "classifier", getattr(whole.net, "fc", None))
    with torch.no_grad():
        torch.testing.assert_close(head(whole.net.avgpool(maps(image)).flatten(1)), whole(image), rtol=1e-4, atol=1e-5)
    assert set(maps.net.state_dict()) == {n for n in whole.net.state_dict() if not n.startswith(("classifier", "fc"))}


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv3_small_050"])
def test_a_timm_network_gives_its_unpooled_maps_with_the_weights_of_a_file(name, tmp_path):
    whole = ImageClassifier(name, 4).eval()
    torch.save(whole.net.state_dict(), tmp_path / "weights.pth")
    maps = FeatureMaps(name).eval()
    maps.load_weights(str(tmp_path / "weights.pth"))
    image = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(maps(image), whole.net.forward_features(whole.normalised(image)))
    maps(image).sum().backward()
    assert all(p.grad is not None for p in maps.parameters()), "a weight without a gradient stops DDP"


def test_alexnets_hidden_layers_are_not_built_into_the_network():
    net = ClipNetwork(hidden=8)
    assert sum(p.numel() for p in net.backbone.parameters()) == 2_469_696
    assert sum(p.numel() for p in torchvision.models.alexnet().parameters()) > 60e6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_what_comes_behind_the_cnn_is_float32(dtype):
    net, given = _net(pooling="attention"), []
    net.lstm.register_forward_hook(lambda module, inputs, output: given.append((inputs[0].data.dtype, output[0].data.dtype)))
    with torch.autocast("cpu", dtype):
        out = net(*_padded(_clips()))
    assert given == [(torch.float32, torch.float32)]
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, net(*_padded(_clips())), rtol=0.05, atol=0.02)


def test_what_it_does_not_know_is_told_with_the_choice():
    with pytest.raises(UserError, match="mean, max, last, attention"):
        _net(pooling="median")
    with pytest.raises(UserError, match="kept, chunk"):
        _net(statistics="none")
    for transformer in ("test_vit", "vit_tiny_patch16_224"):
        with pytest.raises(UserError, match="convolutional"):
            _net(backbone=transformer)
    with pytest.raises(UserError, match="take one that timm has"):
        _net(backbone="torchvision:densenet121")
