"""Quotients of a first linear layer, on digits and stain patches."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen
from torch import Tensor, nn

from gibench.attacks.analytic_fc import AnalyticFC
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.gradients import mean_gradient
from gibench.registry import build
from gibench.types import Batch, Guess, Local, View

F64 = torch.float64


def scene(parts: Parts, model: str, v: int, b: int, dtype: torch.dtype = F64, **seen_by: object) -> tuple[View, Batch]:
    c, k = parts.test.x.shape[1], int(parts.test.y.max()) + 1
    batch = held(parts.test, v, b, dtype)
    return seen(net_of(model, c, k).to(dtype), batch, k, labels=False, **seen_by), batch


def run(view: View, v: int, attack: AnalyticFC | None = None) -> Guess:
    return (attack or AnalyticFC()).answer(view, Draws(("attack",), range(v)))


def nearest(truth: Tensor, guess: Tensor) -> Tensor:
    """Largest pixel error of each true image to the nearest guess, (v, b)."""
    return (truth.unsqueeze(2) - guess.unsqueeze(1)).abs().flatten(3).amax(3).amin(2)


def active(view: View, batch: Batch) -> Tensor:
    """Which rows of the first layer each image activates, (v, b, rows)."""
    layers = list(view.model.children())
    at = next(i for i, m in enumerate(layers) if isinstance(m, nn.Linear))
    return (nn.Sequential(*layers[: at + 1])(batch.x.flatten(0, 1)) > 0).unflatten(0, batch.y.shape)


@pytest.mark.parametrize(("dtype", "least"), [(F64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("model", ["mlp", 'mlp(depth=3, activation="gelu")', 'mlp(activation="tanh")'])
@pytest.mark.parametrize("source", ["digits", "ihc"])
def test_one_image_is_exact(
    source: str, model: str, dtype: torch.dtype, least: float, request: pytest.FixtureRequest
) -> None:
    view, batch = scene(request.getfixturevalue(source), model, 6, 1, dtype)
    guess = run(view, 6)
    assert guess.x.dtype == dtype
    assert (guess.x - batch.x).abs().max() < least
    assert torch.equal(guess.labels, batch.y)
    assert guess.loss.max() < 1e-6


def test_an_image_that_is_alone_in_two_rows_is_exact(digits: Parts) -> None:
    view, batch = scene(digits, "mlp(width=1024)", 4, 4)
    on = active(view, batch)
    lone = (on & (on.sum(1, keepdim=True) == 1)).sum(2) >= 2
    assert lone.double().mean() > 0.5
    guess = run(view, 4)
    assert nearest(batch.x, guess.x)[lone].max() < 1e-9
    assert guess.loss[lone.all(1)].max() < 1e-9


def test_mixtures_fill_the_places_of_images_that_are_never_alone(digits: Parts) -> None:
    view, batch = scene(digits, 'mlp(activation="gelu")', 3, 4)
    guess = run(view, 3)
    assert guess.x.shape == batch.x.shape
    assert nearest(batch.x, guess.x).min() > 1e-2
    assert guess.x.flatten(2).std(2).min() > 0.05  # an image, not the grey substitute


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_weight_change_gives_the_image_away_as_well(digits: Parts, epochs: int) -> None:
    view, batch = scene(digits, "mlp", 4, 1, local=Local(epochs, 0.05, 0.9))
    guess = run(view, 4)
    assert (guess.x - batch.x).abs().max() < 1e-9
    assert torch.equal(guess.labels, batch.y)


def test_all_rows_together_average_out_noise(digits: Parts) -> None:
    view, batch = scene(digits, "mlp", 8, 1, defense=build("defenses", "dpsgd(sigma=0.001)"))
    all_rows = (run(view, 8).x - batch.x).square().mean()
    weight, bias = view.update["2.weight"], view.update["2.bias"]
    best = bias.abs().argmax(1)[:, None]
    quotient = weight.gather(1, best[..., None].expand(-1, -1, 1024)) / bias.gather(1, best)[..., None]
    one_row = ((quotient * 0.25 + 0.5).clamp(0, 1).view_as(batch.x) - batch.x).square().mean()
    assert all_rows < 0.7 * one_row


def test_a_victim_does_not_depend_on_the_others(digits: Parts) -> None:
    view, _ = scene(digits, "mlp", 3, 4)
    whole = run(view, 3)
    alone = run(replace(view, update=rows(view.update, 1, 2)), 1)
    assert torch.equal(whole.x[1:2], alone.x)


def test_a_victim_without_any_signal_gets_the_substitute(digits: Parts) -> None:
    view, _ = scene(digits, "mlp", 3, 2)
    update = {
        name: g * torch.tensor([1.0, 0.0, 1.0], dtype=F64).view(3, *[1] * (g.dim() - 1))
        for name, g in view.update.items()
    }
    guess = run(replace(view, update=update), 3)
    assert (guess.x[1] == 0.5).all()
    assert guess.loss[1] == 1
    assert not (guess.x[0] == 0.5).all()
    aux = run(replace(view, update=update, aux=digits.aux), 3)
    assert torch.allclose(aux.x[1, 0], digits.aux.x.mean(0).double())
    hidden = replace(view, update=view.update | {"2.weight": None, "2.bias": None})
    assert (run(hidden, 3).x == 0.5).all()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("lenet", "the first layer with parameters is Conv2d; needs Linear with bias"),
        ("resnet18(width=8)", "the first layer with parameters is Conv2d; needs Linear with bias"),
    ],
)
def test_other_nets_are_refused(digits: Parts, model: str, reason: str) -> None:
    view, _ = scene(digits, model, 2, 1)
    with pytest.raises(InputError, match=reason):
        run(view, 2)


def test_what_is_no_fixed_scaling_of_pixels_is_refused() -> None:
    attack = AnalyticFC()
    with torch.device("meta"):
        pooled = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10))
        assert "AvgPool2d comes before" in attack.unfit(pooled, 1, "gradient")
        unbiased = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10, bias=False))
        assert "Linear without bias" in attack.unfit(unbiased, 1, "gradient")
        assert not attack.unfit(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), 1, "gradient")
        assert not attack.unfit(build("models", "mlp").build(1, 28, 2), 1, "gradient")


@pytest.mark.slow
def test_pneumonia_is_exact_as_well() -> None:
    entry = build("datasets", "pneumoniamnist")
    try:
        parts = entry.load()
    except InputError as error:
        pytest.skip(str(error))
    batch = held(parts.test, 16, 1)
    view = seen(net_of("mlp", 1, 2, side=28), batch, 2, labels=False)
    assert (run(view, 16).x - batch.x).abs().max() < 1e-4
    assert mean_gradient(view.model, batch).keys() == view.update.keys()
