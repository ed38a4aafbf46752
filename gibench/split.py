"""Split learning (Gupta, Raskar 2018, arXiv 1810.06060): a client runs the first layers, a server the rest.

What crosses the cut are the smashed data. Never ranked with gradients: the adversary sees activations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gibench.errors import InputError


class Split(NamedTuple):
    """Two parts that share the weights of the net that was cut; a client's parameter keeps its name."""

    client: nn.Sequential
    server: nn.Sequential


def cuts(net: nn.Module) -> tuple[int, ...]:
    """Where a net that is a sequence may be cut: before each layer with weights but the first.

    Normalisation, activation and pooling belong to the layer before; flattening to the one behind.
    """
    if not isinstance(net, nn.Sequential):
        raise InputError(
            f"split: {type(net).__name__} is no sequence of layers; allowed: models that are, such as lenet"
        )
    layers = list(net)
    weighted = [i for i, layer in enumerate(layers) if _weighted(layer)]
    return tuple(i - 1 if isinstance(layers[i - 1], nn.Flatten) else i for i in weighted[1:])


def split(net: nn.Module, cut: int) -> Split:
    """The client's part ends with layer number `cut` of those with weights, counted from 1."""
    places = cuts(net)
    if not 1 <= cut <= len(places):
        raise InputError(f"split: cut is {cut}; allowed: 1 to {len(places)}, layers with weights that a client runs")
    assert isinstance(net, nn.Sequential)
    place = places[cut - 1]
    parts = Split(net[:place], net[place:])
    for part in parts:
        part.training = net.training  # of the container alone: a layer keeps the mode it is in
    return parts


def uncuttable(net: nn.Module, cut: int) -> str:
    """Why the net cannot be cut there, in one line; empty if it can. It may live on the meta device."""
    try:
        split(net, cut)
    except InputError as error:
        return str(error)
    return ""


def smashed(net: nn.Module, x: Tensor, cut: int) -> Tensor:
    """What the server gets of images (n, c, h, w): the activations at the cut, with their gradient to x."""
    out: Tensor = split(net, cut).client(x)
    return out


def upload_bytes(net: nn.Module, shape: tuple[int, ...], cut: int) -> int:
    """Bytes of one image's smashed data in float32; shape (c, h, w)."""
    like = next(net.parameters())
    with torch.no_grad():
        return 4 * smashed(net, like.new_zeros(1, *shape), cut).numel()


def _weighted(layer: nn.Module) -> bool:
    """Convolutions, linear layers and blocks of them; not normalisation, whose weights have one axis."""
    return any(p.dim() > 1 for p in layer.parameters())
