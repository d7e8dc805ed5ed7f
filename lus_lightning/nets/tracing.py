"""Where in a network a value first is no number any more, forward or backward."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Finding:
    """The first NaN or infinity.

    Args:
        kind: `input` (of the batch), `weight`, `activation` (forward), or `gradient` (backward).
        module: its dotted name within the network; empty is the network itself: its own code, or its loss.
        what: the input, the weight, or what was not finite of the module.
        seen_again: whether it showed when the batch was run again.
    """

    kind: str
    module: str
    what: str
    seen_again: bool = True


def tensors(tree: Any) -> Iterator[Tensor]:
    """All floating-point tensors in nested dictionaries, lists and tuples (a packed sequence is one)."""
    if isinstance(tree, Tensor):
        if tree.is_floating_point():
            yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for branch in tree.values() if isinstance(tree, Mapping) else tree:
            yield from tensors(branch)


def finite(tree: Any) -> bool:
    """Whether all floating-point numbers in it are finite."""
    return all(bool(t.detach().isfinite().all()) for t in tensors(tree))


def bad_weight(network: nn.Module) -> Finding | None:
    """The first weight that is not finite, or kept buffer with a NaN; an infinity in a buffer may be meant."""
    weights = dict(network.named_parameters())
    for name, value in network.state_dict().items():
        if not finite(value) and (name in weights or bool(value.isnan().any())):
            return Finding("weight", name.rpartition(".")[0], name)
    return None


def trace(network: nn.Module, loss: Callable[[], Tensor], scale: float = 1.0) -> Finding | None:
    """Run `loss` forward and backward; what was not finite first, or none. No gradient is kept.

    A module is to blame where what it was given is finite and what it gives is not; where no module is, then the code of the module that
    calls it. Backward likewise: its gradient is finite where it comes in and not where it leaves.

    Args:
        network: whose modules are watched.
        loss: of the network; its weights must be finite.
        scale: of the loss before the backward pass, where a gradient scaler has one.
    """
    watch = _Watch(network)
    weights = {name: p for name, p in network.named_parameters() if p.requires_grad}
    hooks = [hook for name, part in network.named_modules() if name for hook in watch.hook(name, part)]
    try:
        value = loss()
        if watch.forward is None and not finite(value):
            watch.forward = Finding("activation", "", "loss")
        if watch.forward is not None:
            return watch.forward
        grads = torch.autograd.grad(value * scale, list(weights.values()), allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    # The last in the network is the first in the backward pass.
    bad = [name for name, grad in zip(weights, grads, strict=True) if not finite(grad)]
    return watch.backward() or (Finding("gradient", bad[-1].rpartition(".")[0], bad[-1]) if bad else None)


class _Watch:
    """Hooks that note the first bad value forward, and backward every gradient in the order in which it is made."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.forward: Finding | None = None
        self._grads: list[tuple[str, str, Any, bool]] = []

    def hook(self, name: str, part: nn.Module) -> list[Any]:
        """Hooks on the module `name`."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
            if self.forward is None and not finite([args, kwargs]):
                self.forward = Finding("activation", self._caller(name), f"input of {name}")
            if any(True for _ in module.children()):
                return None
            # An alias of its own, so that the gradient is this module's share and not the sum of all that use the same value.
            args = tuple(a.view_as(a) if isinstance(a, Tensor) and a.requires_grad else a for a in args)
            self._follow(name, "input", [args, kwargs])
            return args, kwargs

        def after(module: nn.Module, args: Any, output: Any) -> None:
            if self.forward is None and not finite(output):
                self.forward = Finding("activation", name, "output")
            self._follow(name, "output", output)

        return [part.register_forward_pre_hook(before, with_kwargs=True), part.register_forward_hook(after)]

    def backward(self) -> Finding | None:
        """The first bad gradient that a module gave or got."""
        if not (bad := [seen for seen in self._grads if not seen[3]]):
            return None
        name, side, node, _ = bad[0]
        if side == "input":
            return Finding("gradient", name, "gradient of its input")
        # A value that several modules return one from the other was used, and spoiled, by who called the outermost.
        outermost = [seen[0] for seen in bad if seen[1:3] == ("output", node)][-1]
        return Finding("gradient", self._caller(outermost), f"gradient of the output of {outermost}")

    def _follow(self, name: str, side: str, tree: Any) -> None:
        for tensor in tensors(tree):
            if tensor.requires_grad and (node := tensor.grad_fn) is not None:
                tensor.register_hook(lambda grad, node=node: self._grads.append((name, side, node, finite(grad))))

    def _caller(self, name: str) -> str:
        """The module whose code calls `name`; a list of modules has none."""
        parent = name.rpartition(".")[0]
        while isinstance(self.network.get_submodule(parent), nn.ModuleList | nn.ModuleDict):
            parent = parent.rpartition(".")[0]
        return parent
