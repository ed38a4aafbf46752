"""PRECODE: the bottleneck's price, its noise, and what one message gives away of it."""

import math

import pytest
import torch
from scene import flat, held, net_of, seen
from torch import nn

from gibench.datasets import Parts
from gibench.defenses.precode import Bottleneck, Precode, bottleneck
from gibench.draws import Draws
from gibench.engine.labels import linears
from gibench.engine.objective import Objective, Plan
from gibench.learned.fit import seeded
from gibench.message import make_message
from gibench.noise import draw_noise

DRAWS = Draws(("test message",), range(3)).at(0)


def defended(defense: Precode, model: str = "lenet(width=6)") -> nn.Module:
    return seeded(Draws(("precode",)), lambda: defense.network(net_of(model, 1, 10))).eval()


def test_the_price_is_the_divergence_from_the_standard_normal(digits: Parts) -> None:
    layer = seeded(Draws(("b",)), lambda: Bottleneck(30, 8, 0.5))
    h = Draws(("h",)).normal(5, 30)[0]
    layer(h)
    with torch.no_grad():
        mean, raw = layer.encode(h).chunk(2, 1)
        own = torch.distributions.Normal(mean, nn.functional.softplus(raw))
        expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum(1)
        assert torch.allclose(layer.cost, 0.5 * expected / math.log(2), rtol=1e-4)
        assert layer.cost.min() > 0.01
        nn.init.zeros_(layer.encode.weight)
        layer.encode.bias.copy_(torch.cat([torch.zeros(8), torch.full((8,), math.log(math.e - 1))]))
        layer(h)
    assert layer.cost.abs().max() < 1e-6


@pytest.mark.parametrize("b", [1, 3])
def test_the_message_is_the_gradient_of_cross_entropy_and_price_at_fresh_noise(digits: Parts, b: int) -> None:
    defense, batch = Precode(k=16, beta=0.1), held(digits.test, 3, b, torch.float64)
    net = defended(defense).double()
    name, layer = bottleneck(net)
    sent = make_message(net, defense, batch, DRAWS)
    noise = draw_noise(net, b, DRAWS.at("layers"), batch.x)[name]
    assert noise.shape == (3, b, 16)
    for victim in range(3):
        layer.noise = noise[victim]
        loss = nn.functional.cross_entropy(net(batch.x[victim]), batch.y[victim])
        own = torch.autograd.grad(loss + layer.cost.mean(), list(net.parameters()))
        layer.noise = layer.cost = None
        for g, (key, _) in zip(own, net.named_parameters(), strict=True):
            assert torch.allclose(g, sent[key][victim], atol=1e-12), key


def test_two_messages_differ_and_without_noise_the_mean_shows(digits: Parts) -> None:
    defense, batch = Precode(k=16), held(digits.test, 3, 1)
    net = defended(defense)
    one, two = (flat(make_message(net, defense, batch, DRAWS.at(i))) for i in range(2))
    assert (one - two).norm(dim=1).min() > 0.05 * one.norm(dim=1).max()
    with torch.no_grad():
        assert torch.equal(net(batch.x[:, 0]), net(batch.x[:, 0]))


def test_the_bottleneck_goes_where_asked() -> None:
    for where, width in (("first", 1024), ("middle", 20), ("last", 20)):
        defense = Precode(k=4, where=where)
        net = net_of("mlp(width=20, depth=2)", 1, 10)
        before = {key: p.detach().clone() for key, p in net.named_parameters()}
        changed = defended(defense, "mlp(width=20, depth=2)")
        name, layer = bottleneck(changed)
        assert layer.encode.in_features == layer.decode.out_features == width
        following = linears(changed)[linears(changed).index(f"{name}.decode") + 1]
        place = {"first": "2", "middle": "4", "last": "6"}[where]
        assert following == f"{place}.1"
        assert len([m for m in changed.modules() if isinstance(m, Bottleneck)]) == 1
        assert torch.equal(changed.get_submodule(following).weight, before[f"{place}.weight"])
        assert dict(net.named_parameters()).keys() == before.keys()


def test_one_message_gives_its_noise_away_and_the_simulation_then_fits(digits: Parts) -> None:
    defense, batch = Precode(), held(digits.test, 3, 1)
    net = defended(defense)
    view = seen(net, batch, 10, defense)
    match = defense.match(view)
    noise = draw_noise(net, 1, DRAWS.at("layers"), batch.x)[bottleneck(net)[0]]
    extra = match.extra(Draws(("a",), range(3)))
    assert torch.allclose(extra["eps"], noise, atol=1e-2)
    objective = Objective(view, Plan(match, batch.y))
    assert objective.distance(batch.x, batch.y, Draws(("a",), range(3)), extra).abs().max() < 1e-6
    assert objective.distance(batch.x, batch.y, Draws(("a",), range(3)), {}).min() > 1e-4
    assert {key for key, w in match.weight.items() if w == 0} == {key for key in view.update if key.startswith("6.")}


def test_the_noise_of_several_images_is_searched_for(digits: Parts) -> None:
    defense, batch = Precode(k=16), held(digits.test, 3, 2)
    net = defended(defense)
    view = seen(net, batch, 10, defense)
    match = defense.match(view)
    assert match.extra(Draws(("a",), range(3)))["eps"].shape == (3, 2, 16)
    noise = draw_noise(net, 2, DRAWS.at("layers"), batch.x)[bottleneck(net)[0]]
    objective = Objective(view, Plan(match, batch.y))
    assert objective.distance(batch.x, batch.y, Draws(("a",), range(3)), {"eps": noise}).abs().max() < 1e-6


def test_what_it_cannot_serve_is_said() -> None:
    without = nn.Sequential(nn.MaxPool2d(8), nn.Flatten())
    assert "has none" in Precode().unfit(Precode().network(without), (1, 32, 32), 8)
    assert Precode().unfit(defended(Precode()), (1, 32, 32), 8) == ""
    for bad in ({"k": 0}, {"beta": -1}, {"beta": math.inf}, {"where": "end"}):
        with pytest.raises(ValueError, match="validation error"):
            Precode(**bad)
