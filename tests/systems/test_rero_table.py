"""Budgets become noise that accountants accept, and noise becomes the published bounds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gibench.accounting import epsilon, noise_multiplier
from gibench.errors import InputError
from gibench.systems.rero_table import GRID, Plan, bound, table

PLAN = Plan(rate=0.01, steps=1000, delta=1e-5)


def noise_for(budget: float, plan: Plan) -> float:
    return noise_multiplier(budget, plan.rate, plan.steps, plan.delta)


@pytest.mark.parametrize("budget", [e for e in GRID if math.isfinite(e)])
def test_the_accountant_returns_the_budget(budget: float) -> None:
    sigma = noise_for(budget, PLAN)
    assert budget * (1 - 1e-4) <= epsilon(sigma, PLAN.rate, PLAN.steps, PLAN.delta) <= budget * (1 + 1e-9)
    assert epsilon(0.97 * sigma, PLAN.rate, PLAN.steps, PLAN.delta) > budget


@pytest.mark.parametrize(("budget", "sigma"), [(1, 1.51312), (8, 0.615717), (20, 0.461659), (1e3, 0.140126)])
def test_moderate_budgets_have_the_noise_of_opacus(budget: float, sigma: float) -> None:
    assert noise_for(budget, PLAN) == pytest.approx(sigma, rel=1e-4)


@pytest.mark.parametrize("budget", [1e9, 1e12])
@pytest.mark.parametrize("plan", [PLAN, Plan(1, 400, 1e-5), Plan(0.2048, 500, 8e-7)])
def test_huge_budgets_have_the_noise_of_the_rule_of_thumb(plan: Plan, budget: float) -> None:
    """sigma = sqrt(T / (2 epsilon)); opacus alone asks for 5 % more."""
    assert noise_for(budget, plan) == pytest.approx(math.sqrt(plan.steps / (2 * budget)), rel=3e-4)


def test_budgets_below_what_opacus_can_tell_still_have_noise() -> None:
    sigma = noise_for(0.05, PLAN)  # its largest order ends at .1
    assert math.isfinite(sigma)
    rho = PLAN.steps / (2 * sigma**2)
    assert rho + 2 * math.sqrt(rho * math.log(1e5)) == pytest.approx(0.05)


@settings(max_examples=10, deadline=None)
@given(budget=st.floats(0.2, 1e12), more=st.floats(1.01, 10))
def test_a_larger_budget_needs_less_noise(budget: float, more: float) -> None:
    plan = Plan(rate=1, steps=100, delta=1e-5)
    assert noise_for(budget * more, plan) < noise_for(budget, plan)


@pytest.mark.parametrize(
    ("mu", "rate", "steps", "gammas"),
    [
        (1, 0.01, 1000, (0.0291, 0.1942)),
        (1, 0.05, 1000, (0.3663, 0.7453)),
        (0.5, 0.05, 1000, (0.0695, 0.3292)),
        (2, 0.01, 1000, (0.2750, 0.6084)),  # the published expansion gives .2745 and .6080
        (1, 0.01, 10000, (0.1539, 0.5051)),
    ],
)
def test_noise_has_the_published_bound(mu: float, rate: float, steps: int, gammas: tuple[float, float]) -> None:
    plan = Plan(rate, steps, 1e-5)
    found = [bound(1 / mu, plan, kappa, 14, 784) for kappa in (0.01, 0.1)]
    assert [row.gamma for row in found] == pytest.approx(gammas, abs=1e-4)
    assert all(row.relaxed < row.gamma for row in found)


@pytest.mark.parametrize(("sigma", "psnr"), [(1e-4, 57.08), (1e-3, 37.08), (1e-2, 17.08), (1e-1, -2.92)])
def test_noise_has_the_published_psnr(sigma: float, psnr: float) -> None:
    row = bound(sigma, Plan(1, 1, 1e-5), 0.01, 14, 784)
    assert row.psnr == pytest.approx(psnr, abs=0.005)
    assert (row.low - row.psnr, row.high - row.psnr) == pytest.approx((-0.36, 0.36), abs=0.015)


def test_the_table_runs_from_protection_to_none() -> None:
    plan = Plan(rate=1, steps=100, delta=1e-5)
    rows = table(plan, kappa=1e-3, radius=14, pixels=784)
    assert [row.epsilon for row in rows] == list(GRID)
    assert [row.sigma for row in rows] == sorted((row.sigma for row in rows), reverse=True)
    assert [row.gamma for row in rows] == sorted(row.gamma for row in rows)
    assert [row.psnr for row in rows] == sorted(row.psnr for row in rows)
    assert rows[0].gamma < 0.01
    assert rows[-2].gamma > 0.999
    assert (rows[-1].sigma, rows[-1].gamma, rows[-1].relaxed, rows[-1].psnr) == (0, 1, 1, math.inf)


def test_mistakes_are_told() -> None:
    for budget in (0, -1, math.nan):
        with pytest.raises(InputError, match="allowed: > 0"):
            noise_for(budget, PLAN)
    with pytest.raises(InputError, match="rate"):
        Plan(0, 1, 1e-5)
