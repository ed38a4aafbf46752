"""Planted rows that few images activate, on digits and stain patches."""

import pytest
import torch
from scene import held, net_of, same, seen
from torch import Tensor

from gibench.attacks.analytic_fc import AnalyticFC
from gibench.attacks.trap_weights import TrapWeights
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.types import Batch, Guess, Images

F64 = torch.float64


def steal(
    parts: Parts, attack: TrapWeights, batch: Batch, aux: Images | None, model: str = "mlp"
) -> tuple[Guess, Tensor]:
    """The guess, and which rows of the first layer each image activates, (v, b, rows)."""
    c, k = parts.test.x.shape[1], int(parts.test.y.max()) + 1
    net = attack.plant(net_of(model, c, k).to(batch.x), tuple(batch.x.shape[1:]), aux, Draws(("plant",)))
    view = seen(net, batch, k, labels=False, aux=aux, planted=True)
    active = net[:3](batch.x.flatten(0, 1)) > 0
    return attack.answer(view, Draws(("attack",), range(len(batch.y)))), active.unflatten(0, batch.y.shape)


def nearest(truth: Tensor, guess: Tensor) -> Tensor:
    return (truth.unsqueeze(2) - guess.unsqueeze(1)).abs().flatten(3).amax(3).amin(2)


@pytest.mark.parametrize(("source", "with_aux"), [("digits", True), ("digits", False), ("ihc", True)])
def test_images_that_are_alone_in_rows_are_exact(source: str, with_aux: bool, request: pytest.FixtureRequest) -> None:
    parts: Parts = request.getfixturevalue(source)
    batch = held(parts.test, 4, 8, F64)
    guess, active = steal(parts, TrapWeights(rows=256), batch, parts.aux if with_aux else None)
    lone = active & (active.sum(1, keepdim=True) == 1)
    assert lone.any(1).double().mean() > 0.05
    exact = nearest(batch.x, guess.x) < 1e-9
    assert exact[lone.sum(2) >= 2].all()
    assert exact.any(1).all()


def test_traps_find_more_than_the_rows_of_an_honest_model(digits: Parts) -> None:
    batch = held(digits.test, 4, 16, F64)
    trapped, _ = steal(digits, TrapWeights(rows=256), batch, digits.aux)
    honest = AnalyticFC().answer(
        seen(net_of("mlp", 1, 10).to(F64), batch, 10, labels=False), Draws(("attack",), range(4))
    )
    share = [(nearest(batch.x, guess.x) < 1e-6).double().mean() for guess in (trapped, honest)]
    assert share[0] > share[1] + 0.3


def test_with_auxiliary_images_a_row_lets_one_image_of_a_batch_pass(ihc: Parts) -> None:
    batch = held(ihc.test, 4, 8, F64)
    _, active = steal(ihc, TrapWeights(rows=256), batch, ihc.aux)
    assert 0.3 < active.sum(1).double().mean() < 3
    _, dead = steal(ihc, TrapWeights(rows=256, mu=0), batch, ihc.aux)  # bright images: the negative half wins
    assert dead.double().mean() < 0.01


def test_only_the_trap_rows_change_and_only_in_the_copy(digits: Parts) -> None:
    net = net_of("mlp", 1, 10)
    before = {k: p.clone() for k, p in net.state_dict().items()}
    planted = TrapWeights().plant(net, (4, 1, 32, 32), None, Draws(("plant",)))
    assert same(before, net.state_dict())
    assert torch.equal(planted[2].weight[8:], net[2].weight[8:])
    trap = planted[2].weight[:8].detach() * 4  # what it weighs pixels with: the model divides them by 0.25
    assert (trap < 0).sum(1).tolist() == [512] * 8
    assert torch.allclose(trap.clamp(min=0).sum(1), -0.95 * trap.clamp(max=0).sum(1), rtol=1e-4)
    black = planted[:3](torch.zeros(1, 1, 32, 32))[0, :8]
    assert black.abs().max() < 1e-3  # mu = 0


def test_other_models_are_refused() -> None:
    assert "Conv2d" in TrapWeights().unfit(net_of("lenet", 1, 10), 4, "gradient")
    assert "ReLU" in TrapWeights().unfit(net_of('mlp(activation="gelu")', 1, 10), 4, "gradient")
