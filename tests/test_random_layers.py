"""Random layers: their noise comes from outside, image by image, and what they charge reaches the gradient."""

import pytest
import torch
from scene import flat, held
from torch import Tensor, nn

from gibench.datasets import Parts
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import alone, mean_gradient
from gibench.learned.fit import seeded
from gibench.message import make_message, own_weights
from gibench.noise import Noisy, costs, draw_noise, given
from gibench.types import Batch


class Jitter(Noisy):
    """Adds its noise and charges the square of what it lets through."""

    def forward(self, x: Tensor) -> Tensor:
        self.cost = 0.1 * x.square().sum(1)
        return x if self.noise is None else x + self.noise


def net() -> nn.Module:
    def make() -> nn.Module:
        body = [nn.Conv2d(1, 4, 5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(196, 8), Jitter(8)]
        return nn.Sequential(*body, nn.Tanh(), nn.Linear(8, 10)).double()

    return seeded(Draws(("net",)), make)


def noisy_batch(digits: Parts, v: int, b: int) -> Batch:
    batch = held(digits.test, v, b, torch.float64)
    return Batch(batch.x, batch.y, noise=draw_noise(net(), b, Draws(("n",), range(v)), batch.x))


def by_hand(batch: Batch, i: int) -> dict[str, Tensor]:
    """The gradient of victim i by plain autograd."""
    model = net()
    x = model[:4](batch.x[i])
    out = model[5:](x + batch.noise["4"][i])
    loss = nn.functional.cross_entropy(out, batch.y[i]) + (0.1 * x.square().sum(1)).mean()
    return dict(
        zip((n for n, _ in model.named_parameters()), torch.autograd.grad(loss, model.parameters()), strict=True)
    )


@pytest.mark.parametrize("own", [False, True], ids=["shared weights", "own weights"])
def test_noise_and_cost_reach_the_gradient(digits: Parts, own: bool) -> None:
    batch, model = noisy_batch(digits, 3, 2), net()
    found = mean_gradient(model, batch, params=own_weights(model, 3) if own else None)
    for i in range(3):
        for name, g in by_hand(batch, i).items():
            assert torch.allclose(found[name][i], g, atol=1e-12)


def test_each_image_keeps_its_noise_when_it_stands_alone(digits: Parts) -> None:
    batch = noisy_batch(digits, 3, 2)
    single, owner = alone(batch)
    assert owner.tolist() == [0, 0, 1, 1, 2, 2]
    each = flat(mean_gradient(net(), single)).view(3, 2, -1).mean(1)
    assert torch.allclose(each, flat(mean_gradient(net(), batch)), atol=1e-12)


def test_padding_does_not_stand_alone(digits: Parts) -> None:
    batch = held(digits.test, 2, 3)
    single, owner = alone(Batch(batch.x, batch.y, torch.tensor([[1.0, 0, 1], [0, 0, 0]])))
    assert owner.tolist() == [0, 0]
    assert torch.equal(single.x[:, 0], batch.x[0, [0, 2]])


def test_a_message_draws_fresh_noise_for_every_image_and_use(digits: Parts) -> None:
    batch = held(digits.test, 1, 1, torch.float64)
    twins = Batch(batch.x.expand(2, 2, -1, -1, -1), batch.y.expand(2, 2))
    noise = draw_noise(net(), 2, Draws(("a",), range(2)), twins.x)["4"].flatten(0, 1)
    assert torch.pdist(noise).min() > 0.1
    sent = [flat(make_message(net(), Defense(), twins, Draws((name,), range(2)))) for name in ("a", "a", "b")]
    assert torch.equal(sent[0], sent[1])
    assert not torch.allclose(sent[0], sent[2])
    assert not torch.allclose(sent[0][0], sent[0][1])


def test_noise_and_costs_are_forgotten_after_a_pass() -> None:
    model, x = net(), Draws(("x",)).uniform(1, 32, 32).double().repeat(2, 1, 1, 1)
    plain = model(x)
    with given(model, {"4": torch.ones(2, 8, dtype=torch.float64)}):
        assert not torch.allclose(model(x), plain)
        assert len(costs(model)) == 1
    assert torch.equal(model(x), plain)
    with given(model, {}):
        assert costs(model) == []
