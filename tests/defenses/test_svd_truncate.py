"""Truncated SVD: the least rank for the energy, the best of that rank, and its spaces in the attacker's hands."""

import numpy as np
import pytest
import torch
from scene import flat, held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.svd_truncate import SvdTruncate
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.types import Match

DRAWS = Draws(("m",), range(3))


@pytest.mark.parametrize("eta", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("b", [1, 4])
def test_the_least_rank_that_holds_the_energy_at_the_least_error(eta: float, b: int, digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet(width=6)", 1, 10).double(), held(digits.test, 3, b, torch.float64))
    sent = SvdTruncate(eta=eta).message(plain, DRAWS, {})
    shortened = 0
    for name, g in plain.items():
        if g.dim() == 2:
            assert torch.equal(sent[name], g)
            continue
        for before, after in zip(g.flatten(2).numpy(), sent[name].flatten(2).numpy(), strict=True):
            s = np.linalg.svd(before, compute_uv=False)
            k = next(k for k in range(1, len(s) + 1) if (s[:k] ** 2).sum() >= eta * (s**2).sum() * (1 - 1e-12))
            assert np.linalg.matrix_rank(after) == k
            dropped = (s[k:] ** 2).sum()
            assert ((before - after) ** 2).sum() == pytest.approx(dropped, rel=1e-6, abs=1e-14)  # Eckart-Young
            shortened += dropped > 1e-6 * (s**2).sum()
    assert shortened


@pytest.mark.parametrize("eta", [0.5, 0.9])
def test_but_for_what_was_dropped_the_simulation_at_the_true_image_is_the_message(eta: float, digits: Parts) -> None:
    net, batch, defense = net_of("lenet", 1, 10), held(digits.test, 3, 2), SvdTruncate(eta=eta)
    view = seen(net, batch, 10, defense)
    known, blind = (Objective(view, Plan(m, batch.y)) for m in (defense.match(view), Match()))
    assert known.distance(batch.x, batch.y, DRAWS).abs().max() < 1e-6
    assert known.distance(batch.x.roll(4, -1), batch.y, DRAWS).min() > 1e-3
    assert blind.distance(batch.x, batch.y, DRAWS).min() > 1e-3


def test_factors_are_sent_where_they_are_smaller() -> None:
    u, v = torch.randn(2, 30, 1, generator=torch.Generator().manual_seed(0)), torch.ones(2, 1, 40)
    update = {"w": u @ v, "b": torch.ones(2, 30)}
    assert SvdTruncate().upload_bytes(update) == 4 * (30 + 40) + 4 * 30
    full = {"w": torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))}
    assert SvdTruncate().upload_bytes(full) == 4 * 12
    assert flat(SvdTruncate(eta=1).message(full, DRAWS, {})).shape == (2, 12)
