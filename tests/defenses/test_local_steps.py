"""Local steps: what is sent, that one of them is a scaled gradient, and that the simulation is exact."""

from dataclasses import replace

import pytest
import torch
from scene import flat, held, net_of, seen
from torch import nn

from gibench.client import Checkpoints, split_clients, train_rounds
from gibench.datasets import Parts
from gibench.defenses.local_steps import LocalSteps
from gibench.draws import Draws
from gibench.engine.objective import Objective
from gibench.gradients import mean_gradient
from gibench.message import server_sees
from gibench.registry import build
from gibench.suite import Training
from gibench.types import Images, Local, View

DRAWS = Draws(("m",), range(4))


def view_of(digits: Parts, defense: LocalSteps, v: int = 4) -> View:
    net = net_of("lenet(width=6)", 1, 10).double()
    return seen(net, held(digits.test, v, 2, torch.float64), 10, defense, local=defense.local(None))


def test_one_step_sends_the_gradient_times_minus_the_rate(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 4, 2)
    sent = flat(
        server_sees(net, LocalSteps(epochs=1, lr=0.07), batch, DRAWS, LocalSteps(epochs=1, lr=0.07).local(None))
    )
    assert torch.allclose(sent, -0.07 * flat(mean_gradient(net, batch)), atol=1e-7)


def test_it_is_plain_sgd_and_replaces_the_suites_own_local_training(digits: Parts) -> None:
    defense = LocalSteps(epochs=3, lr=0.05, momentum=0.9)
    for asked in (None, Local(7, 0.3, 0.0)):
        assert defense.local(asked) == Local(3, 0.05, 0.9)
    view, net = view_of(digits, defense, 1), net_of("lenet(width=6)", 1, 10).double()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(digits.test.x[:2].double()), digits.test.y[:2]).backward()
        optimizer.step()
    for name, p in net.named_parameters():
        assert torch.allclose(view.update[name][0], p - start[name], atol=1e-12)


def test_the_server_averages_the_weight_changes_whatever_the_suite_says(digits: Parts) -> None:
    images = Images(digits.client.x[:8].double(), digits.client.y[:8])
    found = []
    for spec, asked in (
        ("local_steps(epochs=2, lr=0.05)", Training(clients=4, batch=2, epochs=1, optimizer="adam", lr=0.002)),
        ("none", Training(clients=4, batch=2, epochs=1, protocol="fedavg", local_epochs=2, local_lr=0.05)),
    ):
        net = net_of("lenet(width=6)", 1, 10).double()
        shards = split_clients(images.y, asked, Draws(("split",)))
        train_rounds(net, build("defenses", spec), images, shards, asked, 0, Draws(("train",)), Checkpoints())
        found.append(dict(net.named_parameters()))
    assert all(torch.allclose(found[0][name], p, atol=1e-12) for name, p in found[1].items())


def test_more_steps_turn_the_message_further_from_the_gradient(digits: Parts) -> None:
    plain = -flat(mean_gradient(net_of("lenet(width=6)", 1, 10).double(), held(digits.test, 12, 2, torch.float64)))
    apart = []
    for epochs in LocalSteps.sweep:
        sent = flat(view_of(digits, LocalSteps(epochs=epochs), 12).update)
        apart.append(float(1 - torch.cosine_similarity(plain, sent, dim=1).mean()))
    assert apart[0] < 1e-12
    assert apart == sorted(apart)
    assert apart[-1] > 0.01


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_the_simulation_at_the_true_images_is_the_message(digits: Parts, epochs: int) -> None:
    """By the spec alone: the view need not hold the local training."""
    view = view_of(digits, LocalSteps(epochs=epochs, lr=0.1, momentum=0.5))
    view = replace(view, update={name: -g for name, g in view.update.items()}, local=None)
    batch = held(digits.test, 4, 2, torch.float64)
    plan = build("attacks", "adaptive_matching(tv=0)").plan(view)
    assert Objective(view, plan).distance(batch.x, batch.y, DRAWS).max() < 1e-10
    oblivious = build("attacks", "inverting_gradients(tv=0)").plan(view)
    assert (Objective(view, oblivious).distance(batch.x, batch.y, DRAWS).min() > 1e-4) == (epochs > 1)
