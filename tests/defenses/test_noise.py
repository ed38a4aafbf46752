"""Noise: its law, its size, layer by layer, and the likelihood that it leaves an attacker."""

import pytest
import torch
from scene import flat, held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.noise import Noise
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.types import Update

KURTOSIS = {"gauss": 3.0, "laplace": 6.0}


def noise_of(defense: Noise, plain: Update, members: int) -> Update:
    sent = defense.message(plain, Draws(("m",), range(members)), {})
    return {name: sent[name] - g for name, g in plain.items()}


@pytest.mark.parametrize("law", ["gauss", "laplace"])
def test_the_noise_has_its_law_and_deviation(law: str, digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet", 1, 10), held(digits.test, 30, 1))
    noise = flat(noise_of(Noise(sigma=0.1, law=law), plain, 30))
    assert noise.numel() > 1e5
    assert float(noise.var()) == pytest.approx(0.01, rel=0.03)
    assert abs(float(noise.mean())) < 1e-3
    assert float((noise**4).mean() / noise.var() ** 2) == pytest.approx(KURTOSIS[law], rel=0.1)
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.06  # victims draw for themselves


@pytest.mark.parametrize("law", ["gauss", "laplace"])
def test_relative_noise_follows_each_layer_of_each_victim(law: str, digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet", 1, 10), held(digits.test, 8, 1))
    plain = {name: g * torch.arange(1.0, 9).view(-1, *[1] * (g.dim() - 1)) for name, g in plain.items()}
    for name, noise in noise_of(Noise(sigma=0.5, law=law, relative=True), plain, 8).items():
        if noise[0].numel() > 1000:
            expected = 0.5 * plain[name].flatten(1).square().mean(1).sqrt()
            assert torch.allclose(noise.flatten(1).std(1), expected, rtol=0.12)


@pytest.mark.parametrize("relative", [False, True])
def test_no_other_image_is_likelier_than_the_true_one(relative: bool, digits: Parts) -> None:
    """The noise's mean is zero, so that over many messages the true image has the least distance."""
    net, batch, sigma = net_of("lenet", 1, 10), held(digits.test, 4, 1), 0.3 if relative else 3e-3
    defense, fresh = Noise(sigma=sigma, relative=relative), Draws(("a",), range(4))
    total = 0
    for seed in range(4):
        view = seen(net, batch, 10, defense)
        again = defense.message(mean_gradient(net, batch), Draws(("s", seed), range(4)), {})
        view = type(view)(**{**vars(view), "update": again})
        objective = Objective(view, Plan(defense.match(view), batch.y))
        shifted = [(batch.x + eps * (batch.x.roll(1, -1) - batch.x)) for eps in (0.0, 0.3, 1.0)]
        total = total + torch.stack([objective.distance(x, batch.y, fresh).detach() for x in shifted])
    assert (total[0] < total[1]).all()
    assert (total[1] < total[2]).all()


def test_layers_weigh_by_the_inverse_of_their_noise(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 3, 1), 10, Noise(sigma=1, relative=True))
    for name, weight in Noise(sigma=1, relative=True).match(view).mask.items():
        assert torch.allclose((view.update[name] * weight).flatten(1).square().mean(1), torch.ones(3))
    assert Noise().match(view).mask is None
    assert Noise(sigma=0).match(view).linear
