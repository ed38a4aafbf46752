"""Unmixing the rows of a linear layer's gradient, on digits and stain patches."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen
from torch import Tensor

from gibench.attacks.analytic_fc import AnalyticFC
from gibench.attacks.cocktail_party import CocktailParty
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.assignment import match_images
from gibench.types import Batch, Guess, View

V = 3


def scene(parts: Parts, b: int, dtype: torch.dtype = torch.float32) -> tuple[View, Batch]:
    """A smooth layer, in which no row belongs to one image."""
    c, k = parts.test.x.shape[1], int(parts.test.y.max()) + 1
    batch = held(parts.test, V, b, dtype)
    return seen(net_of('mlp(activation="gelu")', c, k).to(dtype), batch, k, labels=False), batch


def run(view: View, attack: CocktailParty | AnalyticFC | None = None) -> Guess:
    return (attack or CocktailParty()).answer(view, Draws(("attack",), range(V)))


def psnr(batch: Batch, x: Tensor) -> float:
    order = match_images(batch.x, x)
    x = torch.stack([images[chosen] for images, chosen in zip(x, order, strict=True)])
    return float((-10 * (x - batch.x).square().flatten(2).mean(2).clamp(min=1e-12).log10()).mean())


@pytest.mark.parametrize(("source", "b", "least"), [("digits", 2, 60), ("digits", 4, 40), ("digits", 8, 20)])
def test_it_unmixes_what_quotients_cannot(source: str, b: int, least: float, request: pytest.FixtureRequest) -> None:
    parts: Parts = request.getfixturevalue(source)
    view, batch = scene(parts, b)
    found = psnr(batch, run(view).x)
    assert found > least
    assert found > psnr(batch, run(view, AnalyticFC()).x) + 3
    assert found > psnr(batch, parts.aux.x.mean(0).expand_as(batch.x)) + 6


def test_stain_patches_as_well(ihc: Parts) -> None:
    view, batch = scene(ihc, 4)
    found = psnr(batch, run(view, CocktailParty(steps=300, restarts=1)).x)
    assert found > psnr(batch, run(view, AnalyticFC()).x) + 6


def test_one_image_is_exact(digits: Parts) -> None:
    view, batch = scene(digits, 1)
    guess = run(view, CocktailParty(steps=1))
    assert (guess.x - batch.x).abs().max() < 1e-4
    assert guess.x.dtype == batch.x.dtype


def test_a_victim_does_not_depend_on_the_others_and_silence_is_answered(digits: Parts) -> None:
    attack = CocktailParty(steps=20)
    view, _ = scene(digits, 3, torch.float64)
    whole = run(view, attack)
    alone = attack.answer(replace(view, update=rows(view.update, 1, 2)), Draws(("attack",), (1,)))
    assert torch.allclose(whole.x[1:2], alone.x, atol=1e-9)
    quiet = {
        name: g * torch.tensor([1.0, 0.0, 1.0]).to(g).view(3, *[1] * (g.dim() - 1)) for name, g in view.update.items()
    }
    guess = run(replace(view, update=quiet), attack)
    assert (guess.x[1] == 0.5).all()
    assert guess.loss.isfinite().all()
    assert torch.allclose(guess.x[[0, 2]], whole.x[[0, 2]], atol=1e-9)


def test_what_it_cannot_handle_is_refused() -> None:
    attack = CocktailParty()
    assert "Conv2d" in attack.unfit(net_of("lenet", 1, 10), 2, "gradient")
    assert "max_batch" in attack.unfit(net_of("mlp", 1, 10), 17, "gradient")
    assert "4 rows" in attack.unfit(net_of("mlp(width=4)", 1, 10), 8, "gradient")
