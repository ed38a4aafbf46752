"""Small classifiers that a defense learns on public images, to have a gradient when it acts on private ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from gibench.registry import build


def surrogate(name: str, channels: int, side: int, classes: int) -> nn.Module:
    """A model of the registry with fresh weights."""
    return cast(nn.Module, cast(Any, build("models", name)).build(channels, side, classes))


@cache
def without_weights(name: str, channels: int, side: int, classes: int) -> nn.Module:
    """Its layers without weights."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return surrogate(name, channels, side, classes).eval()


def with_weights(theta: Mapping[str, Tensor], name: str, channels: int, side: int, classes: int) -> nn.Module:
    """The surrogate as it was learned, frozen."""
    net = copy.deepcopy(without_weights(name, channels, side, classes))
    net.load_state_dict(dict(theta), assign=True)
    return net.requires_grad_(False)
