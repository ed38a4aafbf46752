"""Low-resolution inversion and its enhancer, on real images."""

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks.rog import RecoverOrGenerate
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.search import resized
from gibench.registry import build
from gibench.types import Images


@pytest.mark.slow
def test_the_enhancer_brings_low_resolution_results_nearer(ihc: Parts) -> None:
    batch, aux = held(ihc.test, 8, 1), Images(ihc.aux.x[:96], ihc.aux.y[:96])
    view = seen(net_of("lenet", 3, 5), batch, 5, build("defenses", "prune(p=0.9)"), aux=aux)
    attack, draws = RecoverOrGenerate(pairs=96, epochs=12, steps=40), Draws(("attack",), range(8))
    rough = attack._rough(view, draws.at("invert"))
    guess = attack.reconstruct(view, draws)
    assert torch.equal(rough.loss, guess.loss)
    before, after = ((g.x - batch.x).square().flatten(1).mean(1) for g in (rough, guess))
    assert after.mean() < 0.9 * before.mean()
    assert (after < before).float().mean() >= 0.75


def test_what_is_searched_has_half_the_side(digits: Parts) -> None:
    """Its upsampled images span a space of a quarter of the dimension."""
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, aux=digits.aux)
    rough = RecoverOrGenerate(steps=20)._rough(view, Draws(("attack",), range(2))).x.double()
    basis = resized(torch.eye(256, dtype=torch.float64).view(256, 1, 1, 16, 16), 32).flatten(1).T
    inside = rough.flatten(1).T
    free = ((inside > 1e-6) & (inside < 1 - 1e-6)).double()  # pixels that the box did not cut
    for column, kept in zip(inside.T, free.T, strict=True):
        at = basis * kept[:, None]
        fit = basis @ torch.linalg.lstsq(at, column * kept, driver="gelsd").solution
        assert ((fit - column) * kept).abs().max() < 1e-4


def test_upsampling_has_the_adjoint_that_descent_needs() -> None:
    """<resize x, y> = <x, resize* y>, the gradient being the adjoint."""
    x = Draws(("x",)).normal(2, 1, 1, 14, 14)[0].double().requires_grad_()
    y = Draws(("y",)).normal(2, 1, 1, 28, 28)[0].double()
    up = resized(x, 28)
    (back,) = torch.autograd.grad((up * y).sum(), x)
    assert torch.allclose((up * y).sum(), (x * back).sum())
