"""Weight noise: its size, and that the gradient is the one at the noisy weights."""

import math

import pytest
import torch
from scene import flat, held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.weight_noise import WeightNoise
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.message import make_message
from gibench.types import Batch, Local

DRAWS = Draws(("test message",), range(3)).at(0)


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.05])
def test_the_noise_has_deviation_sigma(sigma: float) -> None:
    net, draws = net_of("lenet", 1, 10), Draws(("w",), range(12))
    noisy = WeightNoise(sigma=sigma).weights(net, draws, {})
    noise = torch.cat([(noisy[k] - p.detach()).flatten(1) for k, p in net.named_parameters()], 1)
    assert noise.numel() > 1e5
    assert float(noise.var()) == pytest.approx(sigma**2, rel=0.05)
    assert abs(float(noise.mean())) < 0.02 * sigma
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.06  # victims draw for themselves
    same_size = [k for k, p in net.named_parameters() if p.shape == (12,)]
    one, two = (noisy[k] - net.get_parameter(k).detach() for k in same_size[:2])
    assert not torch.allclose(one, two, atol=1e-3 * sigma)  # layers too


def test_the_message_is_the_gradient_at_the_noisy_weights(digits: Parts) -> None:
    defense, batch, net = WeightNoise(sigma=0.05), held(digits.test, 3, 2), net_of("lenet(width=6)", 1, 10)
    sent = flat(make_message(net, defense, batch, DRAWS))
    noisy = defense.weights(net, DRAWS.at("weights"), {})
    assert noisy is not None
    for victim in range(3):
        own = net_of("lenet(width=6)", 1, 10)
        own.load_state_dict({**own.state_dict(), **{k: w[victim] for k, w in noisy.items()}})
        single = Batch(batch.x[victim : victim + 1], batch.y[victim : victim + 1])
        assert torch.allclose(flat(mean_gradient(own, single))[0], sent[victim], atol=1e-5)
    assert (sent - flat(mean_gradient(net, batch))).norm(dim=1).min() > 0.05 * sent.norm(dim=1).max()


def test_local_training_starts_at_the_noisy_weights(digits: Parts) -> None:
    defense, batch, net = WeightNoise(sigma=0.05), held(digits.test, 3, 2), net_of("lenet(width=6)", 1, 10)
    step = flat(make_message(net, defense, batch, DRAWS, Local(1, 0.1, 0.0)))
    noisy = defense.weights(net, DRAWS.at("weights"), {})
    assert torch.allclose(step, -0.1 * flat(mean_gradient(net, batch, params=noisy)), atol=1e-5)


def test_with_the_true_noise_the_simulation_is_the_message(digits: Parts) -> None:
    defense, batch, net = WeightNoise(sigma=0.05), held(digits.test, 3, 1), net_of("lenet(width=6)", 1, 10)
    view = seen(net, batch, 10, defense)
    match = defense.match(view)
    assert match.gradient is not None
    noisy = defense.weights(net, DRAWS.at("weights"), {})
    assert noisy is not None
    true = {name: (noisy[name] - p.detach()) / 0.05 for name, p in net.named_parameters()}
    x = batch.x.clone().requires_grad_()
    a, b = flat(match.gradient(net, Batch(x, batch.y), true, DRAWS)), flat(view.update)
    assert ((a - b).norm(dim=1) / b.norm(dim=1)).max() < 1e-4
    start = match.extra(Draws(("a",), range(3)))
    other = flat(match.gradient(net, batch, start, DRAWS))
    assert ((other - b).norm(dim=1) / b.norm(dim=1)).min() > 0.01
    objective = Objective(view, Plan(match, batch.y))
    assert objective.distance(batch.x, batch.y, DRAWS, true).abs().max() < 1e-6
    assert torch.allclose(match.penalty(true), torch.full((3,), 0.01), rtol=0.1)
    (slope,) = torch.autograd.grad(a.square().sum(), x)
    assert slope.abs().flatten(1).amax(1).min() > 0


def test_without_noise_nothing_is_drawn_and_bad_fields_are_refused() -> None:
    assert WeightNoise(sigma=0).weights(net_of("lenet", 1, 10), DRAWS, {}) is None
    for bad in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="validation error"):
            WeightNoise(sigma=bad)
