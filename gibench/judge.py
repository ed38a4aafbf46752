"""The independent judge of reconstructions: a classifier trained on raw auxiliary images, and the gallery.

It never shares weights with the federated model, which an attack could have optimised.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.bounds import GALLERY
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.learned.fit import minimise, seeded
from gibench.models.lenet import LeNet
from gibench.types import Images


def train_judge(parts: Parts, classes: int, draws: Draws) -> nn.Module:
    """A three-convolution LeNet, 20 epochs of Adam on the auxiliary images."""
    aux = parts.aux
    net = judge_net(parts, classes, draws).to(aux.x)
    minimise(
        net.parameters(),
        lambda chosen, _: F.cross_entropy(net(aux.x[chosen]), aux.y[chosen]),
        len(aux.y),
        epochs=20,
        lr=2e-3,
        draws=draws.at("fit"),
    )
    return net.eval()


def judge_net(parts: Parts, classes: int, draws: Draws) -> nn.Module:
    """The judge's architecture, not yet trained."""
    _, channels, side, _ = parts.aux.x.shape
    return seeded(draws, lambda: LeNet(convs=3, width=24).build(channels, side, classes))


def judged_right(judge: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """1 where the judge gives the true label, (n, c, h, w) and (n,) -> (n,)."""
    with torch.no_grad():
        right: Tensor = judge(x).argmax(1) == y
        return right.double()


def gallery_of(test: Images) -> Tensor:
    """The first images of the test split, which hold the victims: a reconstruction must find its own among them."""
    return test.x[:GALLERY]


def identified(gallery: Tensor, x: Tensor, index: Tensor) -> Tensor:
    """1 where the nearest gallery image in mean squared error is the true one; chance is 1 / len(gallery)."""
    distance = torch.cdist(x.flatten(1).double(), gallery.flatten(1).double())
    return (distance.argmin(1) == index).double()
