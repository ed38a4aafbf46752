"""The bound of DP-SGD against the best possible attack on the messages that it really makes."""

import math
from dataclasses import replace

import pytest
import torch
from scene import flat, held, net_of
from torch import Tensor

from gibench.bounds import gaussian
from gibench.datasets import Parts
from gibench.defenses import Exposure
from gibench.defenses.dpsgd import DPSGD
from gibench.draws import Draws

CANDIDATES, ROUNDS, CLIP = 100, 5, 0.05  # the clip is far below every gradient: all candidates are at its distance


def identified(made: DPSGD, digits: Parts, messages: int = 1) -> float:
    """How often a message's sender is told from all candidates by someone who knows their clipped gradients."""
    net, batch = net_of("lenet", 1, 10), held(digits.test, CANDIDATES, 1)
    clean = flat(replace(made, sigma=0.0).gradient(net, batch, Draws(("clean",), range(CANDIDATES))))
    found = 0.0
    for game in range(ROUNDS):
        draws = [Draws(("game", game, m), range(CANDIDATES)) for m in range(messages)]
        sent = torch.stack([flat(made.gradient(net, batch, own)) for own in draws]).mean(0)
        found += float((nearest(sent, clean) == torch.arange(CANDIDATES)).double().mean())
    return found / ROUNDS


def nearest(sent: Tensor, clean: Tensor) -> Tensor:
    return torch.cdist(sent.double(), clean.double()).argmin(1)


def allowed(claimed: DPSGD, messages: int = 1) -> float:
    """The bound, with three standard errors of the games."""
    mu = claimed.accounting(Exposure(100, 100, 1, 1, 1))["gdp_mu"]
    bound = float(gaussian(1 / CANDIDATES, mu * math.sqrt(messages)))
    return bound + 3 * math.sqrt(bound * (1 - bound) / (ROUNDS * CANDIDATES))


@pytest.mark.parametrize(("sigma", "messages"), [(0.2, 1), (0.5, 1), (1.0, 1), (0.5, 4)])
def test_who_knows_all_candidates_stays_within_the_bound(digits: Parts, sigma: float, messages: int) -> None:
    share = identified(DPSGD(sigma=sigma, clip=CLIP), digits, messages)
    assert share <= allowed(DPSGD(sigma=sigma, clip=CLIP), messages)
    assert share > 0.03  # and is not guessing: chance is one in a hundred


def test_noise_that_is_missing_is_noticed(digits: Parts) -> None:
    claimed = DPSGD(sigma=1.0, clip=CLIP)
    assert identified(replace(claimed, sigma=0.0), digits) > allowed(claimed)
    assert identified(replace(claimed, sigma=0.1), digits) > allowed(claimed)


def test_four_messages_are_not_accounted_as_one(digits: Parts) -> None:
    defense = DPSGD(sigma=0.2, clip=CLIP)
    assert identified(defense, digits, 4) > identified(defense, digits)
