"""Layers with randomness of their own, which comes from outside: a pass of the net repeats, victim by victim."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from gibench.draws import Draws


class Noisy(nn.Module):
    """`noise` (n, *size) is there for one pass at a time; without it the layer shows its mean behaviour.

    A layer that charges for what it lets through leaves the price of its last pass in `cost` (n,), which is added to
    each image's loss.
    """

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.size = size
        self.noise: Tensor | None = None
        self.cost: Tensor | None = None

    def draw(self, b: int, draws: Draws, like: Tensor) -> Tensor:
        """Fresh noise for b images of every member, (v, b, *size); standard normal unless a layer says otherwise."""
        return draws.normal(b, *self.size, like=like)


def draw_noise(net: nn.Module, b: int, draws: Draws, like: Tensor) -> dict[str, Tensor]:
    """Fresh noise of every random layer by its name, (v, b, ...)."""
    return {name: layer.draw(b, draws.at(name), like) for name, layer in _noisy(net).items()}


def put_before(net: nn.Module, name: str, make: Callable[[int], nn.Module]) -> nn.Module:
    """A copy of the net in which the features that reach the linear layer `name` pass `make(their number)` first."""
    net = copy.deepcopy(net)
    linear = net.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    net.set_submodule(name, nn.Sequential(make(linear.in_features).to(linear.weight), linear).train(net.training))
    return net


@contextmanager
def given(net: nn.Module, noise: Mapping[str, Tensor]) -> Iterator[None]:
    """Random layers use `noise` {name: (n, *size)}; afterwards they forget it and their costs."""
    layers = _noisy(net)
    for name, layer in layers.items():
        layer.noise, layer.cost = noise.get(name), None
    try:
        yield
    finally:
        for layer in layers.values():
            layer.noise = layer.cost = None


def costs(net: nn.Module) -> list[Tensor]:
    """What the layers charged for the pass that was just made, (n,) each."""
    return [layer.cost for layer in _noisy(net).values() if layer.cost is not None]


def _noisy(net: nn.Module) -> dict[str, Noisy]:
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, Noisy)}
