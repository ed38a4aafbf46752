"""Poisoned updates and planted weights are told from honest ones, and honest ones are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gibench.attacks import Attack
from gibench.attacks.imprint import Imprint
from gibench.attacks.trap_weights import TrapWeights
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.learned.fit import seeded
from gibench.models.mlp import MLP
from gibench.systems.mesas import METRICS, Mesas, measured

SEEDS = 40
DIM = 2000


def clients(seed: int, n: int, lean: float = 0.0, dim: int = DIM) -> tuple[np.ndarray, np.ndarray]:
    """Updates of n honest clients, a shared part and their own, and the global weights; `lean` shifts all entries."""
    draws = np.random.default_rng(seed)
    own = np.exp(0.05 * draws.normal(size=(n, 1))) * draws.normal(size=(n, dim))
    return 0.01 * (draws.normal(size=dim) + lean + own), 0.1 * draws.normal(size=dim)


def losses(factor: float, n: int, bad: int, lean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the honest and of the `bad` last clients, scaled by `factor`, that are rejected, over seeds."""
    found = []
    for seed in range(SEEDS):
        updates, weights = clients(seed, n + bad, lean)
        updates[n:] *= factor
        out = ~Mesas().judge(updates, weights).kept
        found.append((out[:n].mean(), out[n:].mean() if bad else 1.0))
    return np.array(found)[:, 0], np.array(found)[:, 1]


@pytest.mark.parametrize(("factor", "lean"), [(10, 0), (-10, 0), (-3, 0), (-1, 0.5)])
def test_scaled_and_reversed_updates_are_always_rejected_and_honest_ones_hardly_ever(
    factor: float, lean: float
) -> None:
    honest, poisoned = losses(factor, 20, 4, lean)
    assert poisoned.min() == 1
    assert honest.mean() <= 0.03


def test_honest_clients_alone_are_kept() -> None:
    honest, _ = losses(1, 24, 0)
    assert honest.mean() <= 0.03


def test_a_mere_reversal_of_updates_without_a_leaning_goes_unseen() -> None:
    """What the six metrics cannot see: norm and variance are those of the honest, and no sign prevails."""
    _, reversed_ = losses(-1, 20, 4)
    assert reversed_.mean() < 0.1


def test_a_large_cluster_that_inflates_every_spread_is_outvoted() -> None:
    """Within seven robust deviations, so that tests and clusters have to tell: 60 against 40."""
    updates, weights = clients(0, 100)
    updates[60:] *= 1.3
    verdict = Mesas().judge(updates, weights)
    assert not verdict.kept[60:].any()
    assert verdict.kept[:60].mean() > 0.95
    assert any("smaller cluster" in reason for reason in verdict.reasons)
    assert Mesas(alpha=1e-30).judge(updates, weights).kept[60:].any()  # it was the tests


def test_metrics_have_their_definitions() -> None:
    d, w = np.array([[3.0, -4.0, 0.5], [-1.0, -1.0, -1.0]]), np.array([1.0, 2.0, 2.0])
    values = dict(zip(METRICS, measured(d, w).T, strict=True))
    moved = w + d
    cos = moved @ w / np.linalg.norm(moved, axis=1) / 3
    assert values["COS"] == pytest.approx(1 - cos)
    assert values["EUCL"] == pytest.approx(np.linalg.norm(d, axis=1))
    assert values["VAR"] == pytest.approx(d.var(1))
    assert [values[name].tolist() for name in ("COUNT", "MIN", "MAX")] == [[2, 0], [0.5, 0], [3, 0]]


def test_a_small_angle_does_not_drown_in_rounding() -> None:
    w = np.random.default_rng(0).normal(size=50)
    for_w = np.zeros(50)
    for_w[:2] = w[1], -w[0]
    angle = 1e-9 * np.linalg.norm(for_w) / np.linalg.norm(w)
    assert measured([1e-9 * for_w], w)[0, 0] == pytest.approx(angle**2 / 2, rel=1e-6, abs=0)
    assert measured([-3 * w, w], w)[:, 0].tolist() == pytest.approx([2, 0])


def test_every_rejected_client_has_a_reason_and_no_other() -> None:
    updates, weights = clients(0, 24)
    updates[5] *= 10
    updates[7, 3] = np.nan
    updates[8] = np.inf
    verdict = Mesas().judge(updates, weights)
    assert [bool(reason) for reason in verdict.reasons] == (~verdict.kept).tolist()
    assert "robust deviations" in verdict.reasons[5]
    assert verdict.reasons[7] == verdict.reasons[8] == "not finite"


@pytest.mark.parametrize("updates", [np.zeros((8, 50)), np.ones((8, 50)), np.tile(np.arange(50.0), (8, 1))])
def test_clients_who_agree_exactly_are_all_kept(updates: np.ndarray) -> None:
    assert Mesas().judge(updates, np.ones(50)).kept.all()
    odd = updates.copy()
    odd[2] = 3 * updates[2] + 1
    assert np.flatnonzero(~Mesas().judge(odd, np.ones(50)).kept).tolist() == [2]


def test_one_entry_more_or_less_than_the_median_is_no_offence() -> None:
    """Equal in every metric but COUNT, by one; a difference of eight is an offence."""
    rest = [0.1, 3.0, -3.0, -0.1]
    for times, kept in ((1, True), (8, False)):
        updates = np.tile([1.0, 1.0, -2.0] * times + rest, (9, 1))
        updates[4, : 3 * times] *= -1
        verdict = Mesas().judge(updates, np.ones(updates.shape[1]))
        assert verdict.values[4] == pytest.approx(verdict.values[0] - [0, 0, times, 0, 0, 0])
        assert verdict.kept.tolist() == [k != 4 or kept for k in range(9)]
        assert verdict.reasons[4] == ("" if kept else "COUNT is 8 robust deviations from the median")


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)), seed=st.integers(0, 10**6))
def test_the_order_of_the_clients_does_not_matter(order: list[int], seed: int) -> None:
    updates, weights = clients(seed, 12, dim=200)
    updates[:2] *= 4
    kept = Mesas().judge(updates, weights).kept
    assert Mesas().judge(updates[order], weights).kept.tolist() == kept[order].tolist()
    assert Mesas().judge(8 * updates, 8 * weights).kept.tolist() == kept.tolist()


def test_too_few_clients_are_not_judged_and_mistakes_are_told() -> None:
    updates, weights = clients(0, 3)
    updates[0] *= 100
    assert Mesas().judge(updates, weights).kept.all()
    with pytest.raises(InputError, match="allowed"):
        Mesas().judge(updates, weights[:-1])
    with pytest.raises(InputError, match="alpha"):
        Mesas(alpha=0)


def flat(net: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in net.parameters()]).numpy()


def fresh(net: nn.Module, draws: Draws) -> np.ndarray:
    """The same architecture, initialised anew."""

    def build() -> nn.Module:
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        return net

    return flat(seeded(draws, build))


@pytest.mark.parametrize("attack", [TrapWeights(), Imprint()], ids=["trap_weights", "imprint"])
def test_weights_that_a_server_planted_are_unlike_fresh_ones(attack: Attack, digits: Parts) -> None:
    net = seeded(Draws(("net",)), lambda: MLP(width=64).build(1, 32, 10))
    planted = attack.plant(net, (8, 1, 32, 32), digits.aux, Draws(("plant",), range(1)))
    model = flat(planted)
    inits = np.stack([fresh(planted, Draws(("init", k))) for k in range(56)])
    reference, honest, others = inits[0], inits[1:41], inits[41:]
    assert Mesas().unlike([model], honest, reference)[0]
    assert sum(bool(reason) for reason in Mesas().unlike(others, honest, reference)) <= 1
    assert Mesas().unlike([np.full_like(model, np.nan)], honest, reference)[0]
