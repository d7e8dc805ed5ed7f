"""Image classifiers by name, from timm or torchvision, with weights that are downloaded, read from a file, or none."""

import pickle
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Final

import timm
import torch
import torchvision
from torch import Tensor, nn

from lus_lightning.errors import UserError

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


class GreyNetwork(nn.Module):
    """A network trained on colour pictures that is given grey ones.

    Args:
        cfg: timm's, with the `mean` and `std` of the network's own training; ImageNet's where it tells none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, cfg: dict[str, Any] | None) -> None:
        super().__init__()
        cfg = cfg or {}
        # Not persistent: they belong to the architecture, and a weights file of the bare network must fit.
        self.register_buffer("mean", torch.tensor(cfg.get("mean", IMAGENET_MEAN)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(cfg.get("std", IMAGENET_STD)).view(1, 3, 1, 1), persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) as the network's own training had them, of grey images (B, 1, H, W) in [0, 1]."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class ImageClassifier(GreyNetwork):
    """A named network with a fresh head of `n_classes` outputs.

    Args:
        name: a timm model, or `torchvision:<model>` for those timm lacks (googlenet, alexnet).
        n_classes: outputs of the head; 0 leaves it out (timm).

    Raises:
        UserError: no library has a network of that name.
    """

    def __init__(self, name: str, n_classes: int) -> None:
        net = _build(name, n_classes)
        super().__init__(getattr(net, "pretrained_cfg", None))
        self.name, self.n_classes = name, n_classes
        # Channels last is how convolutions compute on CPUs and tensor cores: 1.1 to 1.5 times as fast from the start.
        self.net = net.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, n_classes) of grey images (B, 1, H, W) in [0, 1]: each network gets its own normalisation, grey on three channels."""
        return self.net(self.normalised(images))

    def load_weights(self, weights: str) -> None:
        """Start from `imagenet` (downloaded), a file of a state dict, or `none` (as initialised); the head always starts afresh.

        Raises:
            UserError: the download failed, the file is missing, or it fits no layer of the network.
        """
        if weights == "none":
            return
        state = downloaded(self.name, partial(_imagenet_state, self.name)) if weights == "imagenet" else file_state(weights)
        own = self.net.state_dict()
        head = {k for k, v in state.items() if k in own and own[k].shape != v.shape}
        head |= {k for k in own if k.startswith(_head_name(self.net, own))}
        # Not the network's: torchvision's auxiliary classifiers of GoogLeNet, which we build without; a classifier that was left out.
        left_out = ("aux", *((_head_name(self.net, own), "pre_logits") if not self.n_classes else ()))
        unknown = {k for k in state if k not in own and not k.startswith(left_out)}
        missing = {k for k in own if k not in state and k not in head and not k.endswith("num_batches_tracked")}
        check_fit(self.name, weights, missing, unknown)
        self.net.load_state_dict({k: v for k, v in state.items() if k in own and k not in head}, strict=False)


def _build(name: str, n_classes: int) -> nn.Module:
    library, _, model = name.rpartition(":")
    try:
        if library == "torchvision":
            # Without GoogLeNet's auxiliary heads: no paper here trains with them.
            extra = {"aux_logits": False, "init_weights": True} if model == "googlenet" else {}
            return torchvision.models.get_model(model, weights=None, num_classes=n_classes, **extra)
        return timm.create_model(model, pretrained=False, num_classes=n_classes)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"there is no network named {name} ({error}); give a timm name, or torchvision:<name>") from error


def _head_name(net: nn.Module, state: dict[str, Tensor]) -> str:
    if hasattr(net, "pretrained_cfg"):
        return str(net.pretrained_cfg["classifier"])  # type: ignore[index]
    last = [k for k in state if k.endswith(".weight")][-1]
    return last.removesuffix("weight")


def _imagenet_state(name: str) -> dict[str, Tensor]:
    library, _, model = name.rpartition(":")
    if library == "torchvision":
        return torchvision.models.get_model_weights(model).DEFAULT.get_state_dict(progress=True)
    return timm.create_model(model, pretrained=True).state_dict()


def downloaded(name: str, fetch: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The ImageNet weights that `fetch` gets for the network `name`.

    Raises:
        UserError: the download failed.
    """
    try:
        return fetch()
    except Exception as error:  # whatever the download library raises, the remedy is the same
        raise UserError(
            f"the ImageNet weights of {name} could not be had ({type(error).__name__}: {str(error).splitlines()[0][:120]});"
            " connect to the internet once, or give a file or `none`: --model.init_args.weights=none (a network that starts from nothing is"
            " another experiment)"
        ) from error


def check_fit(name: str, weights: str, missing: Collection[str], unknown: Collection[str]) -> None:
    """Refuse weights that lack layers of the network `name`, or have layers that it has not.

    Raises:
        UserError: there is a `missing` or an `unknown` layer.
    """
    if unknown or missing:
        raise UserError(
            f"the weights {weights} do not belong to {name}: {len(missing)} of its layers are missing there"
            f" (such as {sorted(missing)[:2]}) and {len(unknown)} are unknown to it (such as {sorted(unknown)[:2]});"
            f" give a state dict of {name}, or `weights: none`"
        )


def file_state(path: str) -> dict[str, Tensor]:
    """The state dict in a file, also where it lies under `state_dict` there.

    Raises:
        UserError: there is no such file.
    """
    if not Path(path).is_file():
        raise UserError(
            f"there is no weights file {path}; `weights` is imagenet, none, or the path of a state dict (.pt, .pth, .safetensors)"
        )
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    state = saved(path)
    return state.get("state_dict", state)


def saved(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """What `torch.save` wrote into a file, on the CPU. A file may hold tensors and plain values; one that holds code is not run.

    With `mmap` its tensors stay on the disk until they are used.

    Raises:
        UserError: the file is damaged, is not torch's, or holds code.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, or is no file of torch.save ({str(error).splitlines()[0][:120]}); code in a"
            " file is never run here: save the state dict alone, `torch.save(model.state_dict(), path)`"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0][:120]}); it may be cut short: make it again") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state dict or a checkpoint; save `model.state_dict()`")
    return state
