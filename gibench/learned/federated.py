"""Federated averaging of what a defense learns: parties train copies on their own images, weights alone are joined."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

from gibench.draws import Draws
from gibench.types import Images

M = TypeVar("M", bound=nn.Module)
PARTIES = 8


def parties(images: Images, draws: Draws, n: int = PARTIES) -> list[Images]:
    """Even random shares of the images."""
    order = torch.randperm(len(images.y), generator=draws.generator()).to(images.y.device)
    return [Images(images.x[own], images.y[own]) for own in order.tensor_split(n)]


def federate(net: M, shares: list[Images], train: Callable[[M, Images, Draws], None], draws: Draws) -> None:
    """One round in place: every party trains a copy of the net on its share; the net becomes their mean, weighed by
    the numbers of images."""
    total = sum(len(share.y) for share in shares)
    mean = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    for k, share in enumerate(shares):
        own = deepcopy(net)
        train(own, share, draws.at("party", k))
        for name, value in own.state_dict().items():
            mean[name] += value * (len(share.y) / total)
    net.load_state_dict(mean)
