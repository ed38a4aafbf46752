"""Outpost: when it acts, what it prunes, and where its noise sits."""

import math

import pytest
import torch
from scene import flat, held, net_of, seen
from torch import nn

from gibench.datasets import Parts
from gibench.defenses.outpost import Outpost
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import alone, mean_gradient
from gibench.learned.fit import seeded
from gibench.types import Batch, Memory

DRAWS = Draws(("m",), range(3))


def test_every_first_step_is_changed(digits: Parts) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, 2)
    plain = flat(mean_gradient(net, batch))
    sent = flat(Outpost().gradient(net, batch, DRAWS))
    assert (sent - plain).norm(dim=1).min() > 0.1 * plain.norm(dim=1).max()


@pytest.mark.parametrize("prune", [0.0, 50.0, 80.0, 99.0])
def test_without_noise_the_smallest_entries_of_each_layer_are_gone(digits: Parts, prune: float) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, 2)
    sent = Outpost(prune=prune, base=0).gradient(net, batch, DRAWS)
    for name, g in mean_gradient(net, batch).items():
        for before, after in zip(g.flatten(1), sent[name].flatten(1), strict=True):
            kept = after != 0
            assert int(kept.sum()) == round((100 - prune) / 100 * len(before))
            assert torch.allclose(after[kept], before[kept], rtol=1e-4, atol=1e-7)
            if kept.any() and not kept.all():
                assert before[kept].abs().min() >= before[~kept].abs().max() * (1 - 1e-4)


@pytest.mark.parametrize("b", [1, 3])
def test_noise_sits_where_the_fisher_information_is_largest(digits: Parts, b: int) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 20, b)
    draws = Draws(("m",), range(20))
    sent = Outpost(prune=100, base=5.0, phi=30).gradient(net, batch, draws)  # noise alone
    single, owner = alone(batch)
    assert owner.tolist() == [i for i in range(20) for _ in range(b)]
    for name, each in mean_gradient(net, single).items():
        fisher = each.unflatten(0, (20, b)).square().mean(1).flatten(1)
        noise = sent[name].flatten(1)
        for information, found in zip(fisher, noise, strict=True):
            here = found != 0
            assert int(here.sum()) == round(0.3 * len(found))
            if here.any():
                assert information[here].min() >= information[~here].max() * (1 - 1e-4)
        weight = net.get_parameter(name).detach()
        if int((noise != 0).sum()) > 1000:
            assert float(noise[noise != 0].std()) == pytest.approx(5 * float(weight.var(correction=0)), rel=0.05)


def test_the_deviation_stops_at_base_where_weights_vary_more(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 8, 1)
    with torch.no_grad():
        net[1].weight.mul_(100)
    noise = Outpost(prune=100, base=0.5).gradient(net, batch, Draws(("m",), range(8)))["1.weight"]
    assert float(noise[noise != 0].std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("t", [0, 4, 40])
def test_the_share_of_changed_messages_decays(t: int) -> None:
    n, beta = 1500, 0.125
    net = seeded(Draws(("tiny",)), lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 2)))
    batch = Batch(Draws(("x",), range(n)).uniform(1, 1, 3, 3), torch.zeros(n, 1, dtype=torch.long))
    memory: Memory = {"steps": torch.full((n,), float(t))}
    sent = Outpost(beta=beta, prune=100, base=0).gradient(net, batch, Draws(("m",), range(n)), memory=memory)
    share, expected = float((flat(sent) == 0).all(1).double().mean()), 1 / (1 + beta * t)
    assert abs(share - expected) <= 4 * (expected * (1 - expected) / n) ** 0.5
    assert memory["steps"].tolist() == [t + 1] * n
    whole = flat(mean_gradient(net, batch))
    untouched = ~(flat(sent) == 0).all(1)
    assert torch.allclose(flat(sent)[untouched], whole[untouched])


def test_the_upload_is_sparse_where_that_is_shorter(digits: Parts) -> None:
    update = {"a": torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 0]]), "b": None}
    assert Outpost().upload_bytes(update) == (8 + 16) / 2


def test_without_noise_the_simulation_at_the_true_images_is_the_message(digits: Parts) -> None:
    net, batch, defense = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, 2), Outpost(base=0)
    view = seen(net, batch, 10, defense)
    objective = Objective(view, Plan(defense.match(view), batch.y))
    assert objective.distance(batch.x, batch.y, DRAWS).abs().max() < 1e-6
    blind = 1 - torch.cosine_similarity(flat(mean_gradient(net, batch)), flat(view.update))
    assert blind.min() > 1e-3, "the defense did nothing"


def test_bad_fields_are_refused() -> None:
    for bad in ({"phi": 101}, {"prune": -1}, {"base": -1}, {"base": math.inf}, {"beta": math.nan}):
        with pytest.raises(ValueError, match="validation error"):
            Outpost(**bad)


def test_the_attacker_trusts_layers_by_the_noise_that_they_get(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 2, 1)
    weight = Outpost().match(seen(net, batch, 10, Outpost())).weight
    spread = {name: float(p.detach().var(correction=0)) for name, p in net.named_parameters()}
    for a, b in ((a, b) for a in spread for b in spread):
        assert weight[a] * spread[a] == pytest.approx(weight[b] * spread[b], rel=1e-4)
    assert Outpost(base=0).match(seen(net, batch, 10, Outpost(base=0))).weight is None
