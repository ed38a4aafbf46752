"""Two stages: what is frozen neither moves nor leaves, and the head's message tells its features exactly."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of
from torch import nn

from gibench.client import Checkpoints, build_net, restore, split_clients, train, train_rounds
from gibench.datasets import Parts
from gibench.defenses.two_stage import TwoStage
from gibench.draws import Draws
from gibench.engine.first_linear import sole_input
from gibench.grid import Client
from gibench.message import make_message
from gibench.registry import build
from gibench.suite import Training
from gibench.types import Images, Local

DRAWS = Draws(("m",), range(3))
HEAD = {"6.weight", "6.bias"}


def client(spec: str, **settings: object) -> Client:
    training = Training(clients=4, epochs=2, **settings)  # type: ignore[arg-type]
    entries = (build("datasets", "digits"), build("models", "lenet"), build("defenses", spec))
    return Client(*entries, 0, training, 200, 200)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unfrozen", "sent"), [(0, HEAD), (1, {*HEAD, "3.weight", "3.bias"}), (99, {"1.weight", "1.bias"})]
)
@pytest.mark.parametrize("local", [None, Local(2, 0.1, 0.0)])
def test_frozen_tensors_are_none(unfrozen: int, sent: set[str], local: Local | None, digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 2)
    update = make_message(net, TwoStage(unfrozen=unfrozen), batch, DRAWS, local)
    shared = {name for name, g in update.items() if g is not None}
    assert shared == (sent if unfrozen < 99 else set(update))
    assert update.keys() == dict(net.named_parameters()).keys()


def test_the_head_alone_tells_the_features_exactly(digits: Parts) -> None:
    net = net_of("lenet", 1, 10).double()
    batch = held(digits.test, 3, 1, torch.float64)
    update = make_message(net, TwoStage(), batch, DRAWS)
    body = nn.Sequential(*list(net.children())[:-1])
    assert torch.allclose(sole_input(update, "6"), body(batch.x.squeeze(1)), atol=1e-6)


@pytest.mark.parametrize("protocol", ["fedsgd", "fedavg"])
def test_training_starts_from_the_public_stage_and_leaves_it_frozen(protocol: str, digits: Parts) -> None:
    asked = client("two_stage(unfrozen=0, epochs=5)", protocol=protocol)
    few = Images(digits.client.x[:40], digits.client.y[:40])
    trained, _ = train(asked, replace(digits, client=few))
    first, last = trained.checkpoints["init"], trained.checkpoints["final"]
    fresh = build_net(asked, trained.defense).state_dict()
    for name in first:
        assert not torch.equal(first[name], fresh[name])
        assert torch.equal(first[name], last[name]) == (name not in HEAD)
    pretrained = restore(asked, trained, "init", "cpu")
    right = (pretrained(digits.test.x).argmax(1) == digits.test.y).double().mean()
    assert right > 0.6  # by stage one alone


def test_pretraining_leaves_the_given_net_alone(digits: Parts) -> None:
    net = net_of("lenet", 1, 10)
    before = {name: p.clone() for name, p in net.state_dict().items()}
    found = TwoStage(epochs=1).start(net, digits.aux, Draws(("start",)))
    assert all(torch.equal(before[name], p) for name, p in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert any(not torch.equal(before[name], found[name]) for name in before)


def test_its_neutral_end_trains_as_without_it(digits: Parts) -> None:
    few = Images(digits.client.x[:40], digits.client.y[:40])
    shards = split_clients(few.y, Training(clients=4), Draws(("split",)))
    weights = []
    for spec in ("none", TwoStage.neutral):
        net, defense = net_of("lenet", 1, 10), build("defenses", spec)
        net.load_state_dict(defense.start(net, digits.aux, Draws(("start",))), strict=False)
        asked = Training(clients=4, epochs=1)
        train_rounds(net, defense, few, shards, asked, 0, Draws(("train",)), Checkpoints())
        weights.append(net.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_batch_norm_is_told() -> None:
    assert "BatchNorm" in TwoStage().unfit(net_of('convnet(norm="batch")', 1, 10), (1, 32, 32), 4)
