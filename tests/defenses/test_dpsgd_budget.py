"""DP-SGD at a budget: the accountant confirms it, and its messages are those of `dpsgd` with that noise."""

import math
from dataclasses import replace

import pytest
import torch
from scene import held, net_of

from gibench.client import train
from gibench.datasets import Parts
from gibench.defenses import Defense, Exposure
from gibench.defenses.dpsgd import DPSGD
from gibench.defenses.dpsgd_budget import DPSGDBudget
from gibench.defenses.prune import Prune
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.grid import Client
from gibench.message import make_message
from gibench.registry import build
from gibench.stack import stacked
from gibench.suite import Training
from gibench.types import Images

EXPOSURE = Exposure(images=50, all_images=2000, batch=1, rounds=500, local_steps=1)


@pytest.mark.parametrize(
    ("budget", "steps"), [(1.0, 1), (8.0, 4), (20.0, 1), (1e3, 4), (1e6, 1), (1e9, 4), (1e12, 1), (1e12, 4)]
)
def test_the_training_spends_the_budget(budget: float, steps: int) -> None:
    exposure = replace(EXPOSURE, local_steps=steps)
    spent = DPSGDBudget(epsilon=budget).planned(exposure).accounting(exposure)
    assert budget * (1 - 1e-4) <= float(spent["epsilon"]) <= budget * (1 + 1e-9)


def test_an_infinite_budget_only_clips(digits: Parts) -> None:
    defense = DPSGDBudget(epsilon=math.inf).planned(EXPOSURE)
    net, batch, draws = net_of("lenet", 1, 10), held(digits.test, 3, 2), Draws(("m",), range(3))
    clipped = make_message(net, DPSGD(sigma=0), batch, draws)
    found = make_message(net, defense, batch, draws)
    assert all(torch.equal(found[name], clipped[name]) for name in clipped)
    assert defense.accounting(EXPOSURE)["epsilon"] == math.inf


def test_its_messages_are_those_of_the_solved_noise(digits: Parts) -> None:
    defense = DPSGDBudget(epsilon=100.0).planned(EXPOSURE)
    same = DPSGD(sigma=defense.multiplier)
    net, batch, draws = net_of("lenet", 1, 10), held(digits.test, 3, 2), Draws(("m",), range(3))
    found, wanted = (make_message(net, one, batch, draws) for one in (defense, same))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not torch.equal(found["6.bias"], make_message(net, DPSGD(sigma=0), batch, draws)["6.bias"])


def test_less_budget_is_more_noise_and_so_says_the_knob() -> None:
    levels = [DPSGDBudget().at(value) for value in DPSGDBudget.sweep]
    noise = [one.planned(EXPOSURE).multiplier for one in levels]
    assert noise == sorted(noise)
    assert [one.strength for one in levels] == sorted(one.strength for one in levels)  # type: ignore[type-var]
    assert levels[-1].spec() == "dpsgd_budget(epsilon=1.0)"


def test_a_trained_client_has_the_epsilon_that_it_asked_for(digits: Parts) -> None:
    entries = (build("datasets", "digits"), build("models", "lenet"), build("defenses", "dpsgd_budget(epsilon=50)"))
    training = Training(clients=4, epochs=1)
    few = replace(digits, client=Images(digits.client.x[:40], digits.client.y[:40]))
    trained, row = train(Client(*entries, 0, training, 40, 50), few)  # type: ignore[arg-type]
    assert row["epsilon"] == pytest.approx(50, rel=1e-4)
    assert trained.defense.state["multiplier"] > 0


def test_in_a_stack_it_keeps_its_noise() -> None:
    alone = DPSGDBudget(epsilon=8.0)
    stack = stacked([alone, Prune(p=0.5)]).planned(EXPOSURE)
    assert stack.accounting(EXPOSURE) == alone.planned(EXPOSURE).accounting(EXPOSURE)


def test_what_follows_from_the_budget_cannot_be_set() -> None:
    with pytest.raises(InputError, match="no field 'sigma'"):
        build("defenses", "dpsgd_budget(epsilon=8, sigma=1)")
    with pytest.raises(InputError, match="epsilon"):
        build("defenses", "dpsgd_budget(epsilon=0)")
    assert isinstance(build("defenses", "dpsgd_budget"), Defense)
