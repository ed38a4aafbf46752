"""Federated averaging: the mean of what parties learn, each on its own share."""

import torch
from scene import net_of
from torch import nn

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.learned.federated import federate, parties
from gibench.types import Images


def test_shares_part_the_images_evenly(digits: Parts) -> None:
    few = Images(digits.client.x[:50], torch.arange(50))
    shares = parties(few, Draws(("p",)), 8)
    assert sorted(len(share.y) for share in shares) == [6] * 6 + [7] * 2
    assert sorted(torch.cat([share.y for share in shares]).tolist()) == list(range(50))
    assert all(torch.equal(share.x, few.x[share.y]) for share in shares)


def test_one_step_of_each_is_one_step_on_all(digits: Parts) -> None:
    """With one full-batch step of SGD, averaging weights by the number of images is exact."""
    few = Images(digits.client.x[:50].double(), digits.client.y[:50])

    def step(net: nn.Module, share: Images, _: Draws) -> None:
        loss = nn.functional.cross_entropy(net(share.x), share.y)
        for p, g in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            p.data -= 0.1 * g

    one, other = net_of("mlp", 1, 10).double(), net_of("mlp", 1, 10).double()
    federate(one, parties(few, Draws(("p",)), 8), step, Draws(("t",)))
    step(other, few, Draws(("t",)))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(one.parameters(), other.parameters(), strict=True))
