"""Exact batches from a linear ReLU layer, on digits and stain patches."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen

from gibench.attacks.analytic_fc import AnalyticFC
from gibench.attacks.spear import Spear
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.assignment import match_images
from gibench.errors import InputError
from gibench.types import Batch, Guess, View

V = 4


def scene(parts: Parts, b: int, dtype: torch.dtype = torch.float64, model: str = "mlp") -> tuple[View, Batch]:
    c, k = parts.test.x.shape[1], int(parts.test.y.max()) + 1
    batch = held(parts.test, V, b, dtype)
    return seen(net_of(model, c, k).to(dtype), batch, k, labels=False), batch


def run(view: View, attack: Spear | AnalyticFC | None = None) -> Guess:
    return (attack or Spear()).answer(view, Draws(("attack",), range(V)))


def errors(batch: Batch, guess: Guess) -> torch.Tensor:
    """Relative, (v, b)."""
    order = match_images(batch.x, guess.x)
    x = torch.stack([images[chosen] for images, chosen in zip(guess.x, order, strict=True)])
    return (x - batch.x).flatten(2).norm(dim=2) / batch.x.flatten(2).norm(dim=2)


@pytest.mark.parametrize("b", [1, 2, 4])
@pytest.mark.parametrize(("source", "model"), [("digits", "mlp"), ("ihc", "mlp(depth=2)")])
def test_every_image_of_a_batch_is_exact(source: str, model: str, b: int, request: pytest.FixtureRequest) -> None:
    view, batch = scene(request.getfixturevalue(source), b, model=model)
    guess = run(view)
    assert errors(batch, guess).max() < 1e-8
    assert guess.loss.max() < 0.01


def test_it_finds_images_that_are_alone_in_no_row(digits: Parts) -> None:
    view, batch = scene(digits, 8)
    guess = run(view, Spear(samples=20_000))
    assert (errors(batch, guess) < 1e-8).double().mean() > 0.95
    assert (errors(batch, run(view, AnalyticFC())) < 1e-8).double().mean() < 0.9


def test_single_precision_suffices(digits: Parts) -> None:
    view, batch = scene(digits, 4, torch.float32)
    guess = run(view)
    assert guess.x.dtype == torch.float32
    assert (errors(batch, guess) < 1e-3).double().mean() > 0.9


def test_one_draw_falls_back_on_quotients(digits: Parts) -> None:
    view, _ = scene(digits, 4)
    noisy = {
        name: g + 1e-3 * Draws(("noise", name), range(V)).normal(*g.shape[1:], like=g)
        for name, g in view.update.items()
    }
    view = replace(view, update=noisy)
    guess = run(view)
    assert torch.equal(guess.x, run(view, AnalyticFC()).x)
    assert guess.loss.min() >= 0.1


def test_a_victim_does_not_depend_on_the_others(digits: Parts) -> None:
    view, _ = scene(digits, 4)
    alone = Spear().answer(replace(view, update=rows(view.update, 2, 3)), Draws(("attack",), (2,)))
    assert torch.allclose(run(view).x[2:3], alone.x, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "b", "reason"),
    [
        ("lenet", 2, "the first layer with parameters is Conv2d"),
        ('mlp(activation="gelu")', 2, "not followed by a ReLU"),
        ("mlp", 11, "max_batch is 10"),
    ],
)
def test_what_it_cannot_handle_is_refused(digits: Parts, model: str, b: int, reason: str) -> None:
    view, _ = scene(digits, b, torch.float32, model)
    with pytest.raises(InputError, match=reason):
        run(view)
