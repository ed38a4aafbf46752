"""Convolutions solved from the last to the first, on digits and stain patches."""

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks.rgap import RGAP
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.types import Batch, Guess, View

V = 2
F64 = torch.float64


def scene(parts: Parts, model: str, dtype: torch.dtype = F64, b: int = 1) -> tuple[View, Batch]:
    c, k = parts.test.x.shape[1], int(parts.test.y.max()) + 1
    batch = held(parts.test, V, b, dtype)
    return seen(net_of(model, c, k).to(dtype), batch, k, labels=False), batch


def run(view: View) -> Guess:
    return RGAP().answer(view, Draws(("attack",), range(V)))


def psnr(guess: Guess, batch: Batch) -> torch.Tensor:
    return -10 * (guess.x - batch.x).square().flatten(1).mean(1).clamp(min=1e-30).log10()


@pytest.mark.parametrize(
    ("activation", "dtype", "least"),
    [("leaky_relu", F64, 100), ("tanh", F64, 100), ("sigmoid", F64, 100), ("tanh", torch.float32, 60)],
)
def test_a_small_convolutional_net_is_solved(digits: Parts, activation: str, dtype: torch.dtype, least: float) -> None:
    view, batch = scene(digits, f'lenet(activation="{activation}")', dtype)
    guess = run(view)
    assert psnr(guess, batch).min() > least
    assert guess.x.dtype == dtype
    assert guess.loss.max() < 1e-3
    assert torch.equal(guess.labels, batch.y)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "convs"), [("digits", 3), ("ihc", 2)])
def test_so_are_deeper_nets_and_colours(source: str, convs: int, request: pytest.FixtureRequest) -> None:
    view, batch = scene(request.getfixturevalue(source), f'lenet(convs={convs}, activation="tanh")')
    assert psnr(run(view), batch).min() > 40


def test_equations_that_lack_rank_show_in_the_loss(digits: Parts) -> None:
    """6 channels: 6 * 64 + 36 * 25 equations for the 6 * 256 inputs of the second convolution."""
    view, batch = scene(digits, 'lenet(width=6, activation="leaky_relu")')
    guess = run(view)
    assert psnr(guess, batch).max() < 20
    assert guess.loss.min() > 0.1
    assert guess.loss.isfinite().all()


@pytest.mark.parametrize(
    ("model", "b", "reason"),
    [
        ("lenet", 1, "GELU has no inverse"),
        ("convnet(width=16)", 1, "GroupNorm has no inverse"),
        ("resnet18(width=8)", 1, "needs plain convolutions with bias"),
        ("mlp", 1, "needs convolutions"),
        ('lenet(activation="tanh")', 2, "a single image"),
    ],
)
def test_what_it_cannot_handle_is_refused(digits: Parts, model: str, b: int, reason: str) -> None:
    view, _ = scene(digits, model, torch.float32, b)
    with pytest.raises(InputError, match=reason):
        run(view)


def test_a_weight_change_is_refused() -> None:
    assert "gradient's own scale" in RGAP().unfit(net_of('lenet(activation="tanh")', 1, 10), 1, "delta")
