"""Contract menus: closed forms, constraints that hold or are seen to break, and searches over whole grids."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from gibench.errors import InputError
from gibench.systems.contract import (
    EUT,
    Market,
    Menu,
    Taste,
    complete_information,
    freshness,
    mean_age,
    participation,
    screening,
    uniform_price,
    violations,
    worth,
)

THREE = Market(types=(1, 2, 3), shares=(1 / 3,) * 3, cost=1, value=4)
PROSPECT = Taste(loss=2.25, power=0.88)


@st.composite
def markets(draw: st.DrawFn) -> Market:
    k = draw(st.integers(1, 4))
    steps = draw(st.lists(st.floats(0.1, 2), min_size=k, max_size=k))
    shares = np.array(draw(st.lists(st.floats(0.1, 1), min_size=k, max_size=k)))
    types, shares = tuple(np.cumsum(steps).tolist()), tuple((shares / shares.sum()).tolist())
    return Market(types, shares, draw(st.floats(0.3, 3)), draw(st.floats(0.5, 8)), draw(st.sampled_from([0.0, 0.2])))


def test_hidden_types_have_the_closed_form_menu() -> None:
    menu = screening(THREE)
    assert menu.freshness == pytest.approx([1, 5, 11], abs=1e-4)
    assert menu.rewards == pytest.approx([1, 3, 5], abs=1e-4)
    assert worth(THREE, menu) == pytest.approx(3.6264, abs=5e-5)
    assert violations(THREE, menu) == pytest.approx((0, 0), abs=1e-9)


def test_known_types_have_the_closed_form_menu_that_a_liar_would_break() -> None:
    menu = complete_information(THREE)
    assert menu.freshness == pytest.approx([3, 7, 11], abs=1e-4)
    assert worth(THREE, menu) == pytest.approx(4.5453, abs=5e-5)
    ir, ic = violations(THREE, menu)
    assert ir == pytest.approx(0, abs=1e-9)
    assert ic == pytest.approx(2, abs=1e-3)  # type 3 with the item of type 1


def test_one_price_has_its_closed_form() -> None:
    menu = uniform_price(THREE)
    assert menu.freshness == pytest.approx([0, 7, 7])
    assert menu.rewards == pytest.approx([0, 3.5, 3.5])
    assert worth(THREE, menu) == pytest.approx(2 / 3 * (4 * math.log(8) - 3.5))
    assert (participation(THREE, menu), mean_age(THREE, menu)) == pytest.approx((2 / 3, 1 / 7))


def test_prospect_theory_moves_the_menu() -> None:
    menu = screening(THREE, PROSPECT)
    assert menu.freshness == pytest.approx([1.105, 5.031, 11.0], abs=1e-3)
    assert violations(THREE, menu) == pytest.approx((0, 0), abs=1e-9)
    assert worth(THREE, menu, PROSPECT) > worth(THREE, screening(THREE), PROSPECT)
    assert worth(THREE, menu) < worth(THREE, screening(THREE))


def test_prospect_theory_without_its_parameters_is_expected_utility() -> None:
    gains = np.linspace(-3, 3, 13)
    assert np.array_equal(Taste(loss=1, power=1, reference=0).felt(gains), gains)
    assert PROSPECT.felt(np.array([1.0, 0.0, -1.0])) == pytest.approx([1, 0, -2.25])


@pytest.mark.parametrize("taste", [PROSPECT, Taste(2.25, 0.88, 2.0), Taste(4, 0.5, 1.0), Taste(1, 1, 3)])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.1, 0.9)])
def test_no_menu_of_a_grid_is_better(taste: Taste, shares: tuple[float, float]) -> None:
    market = Market((1, 2.5), shares, 1, 4)
    low, high = np.meshgrid(np.linspace(0, 9, 181), np.linspace(0, 9, 181), indexing="ij")
    u = [4 * np.log1p(low) - low, 4 * np.log1p(high) - low - (high - low) / 2.5]
    grid = shares[0] * taste.felt(u[0]) + shares[1] * taste.felt(u[1])
    best = float(grid[high >= low].max())
    found = worth(market, screening(market, taste), taste)
    assert best - 1e-9 <= found <= best + 0.02


@settings(max_examples=25, deadline=None)
@given(market=markets(), taste=st.sampled_from([EUT, PROSPECT, Taste(2.25, 0.88, 0.5)]))
def test_every_menu_keeps_its_constraints_and_its_place(market: Market, taste: Taste) -> None:
    hidden, known, one = (f(market, taste) for f in (screening, complete_information, uniform_price))
    assert violations(market, hidden) == pytest.approx((0, 0), abs=1e-9)
    assert violations(market, known)[0] == pytest.approx(0, abs=1e-9)
    assert violations(market, one)[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(hidden.freshness) >= 0).all()
    assert hidden.freshness.max() <= (1 / market.delay if market.delay else math.inf) + 1e-9
    assert worth(market, known, taste) >= worth(market, hidden, taste) - 1e-6 >= worth(market, one, taste) - 2e-6


@settings(max_examples=25, deadline=None)
@given(market=markets())
def test_hidden_types_meet_the_virtual_costs_where_these_ascend(market: Market) -> None:
    types, shares = np.array(market.types), np.array(market.shares)
    tail = shares[::-1].cumsum()[::-1]
    virtual = market.cost * (tail / types - np.append(tail[1:] / types[1:], 0))
    ideal = np.clip(market.value * shares / virtual - 1, 0, 1 / market.delay if market.delay else None)
    menu = screening(market)
    if (np.diff(ideal) >= 0).all():
        assert worth(market, menu) == pytest.approx(float(shares @ (market.value * np.log1p(ideal)) - virtual @ ideal))
        assert menu.freshness == pytest.approx(ideal, abs=2e-3 * (1 + ideal.max()))


@pytest.mark.parametrize("taste", [EUT, PROSPECT])
def test_types_whose_order_would_turn_get_one_item(taste: Taste) -> None:
    """Few of the middle type: alone it would get less than the lowest, which no menu can hold."""
    market = Market((1, 1.1, 3), (0.5, 0.05, 0.45))
    menu = screening(market, taste)
    assert violations(market, menu) == pytest.approx((0, 0), abs=1e-9)
    assert menu.freshness[0] == pytest.approx(menu.freshness[1], abs=1e-4)
    if taste is EUT:
        virtual = 1 - 0.5 / 1.1 + 0.5 / 1.1 - 0.45 / 3  # of both together
        assert menu.freshness == pytest.approx([4 * 0.55 / virtual - 1] * 2 + [11], abs=1e-3)


def test_free_rewards_under_all_constraints_gain_nothing() -> None:
    """SLSQP over freshness and rewards with every IR and IC spelled out finds the reduced problem's value."""
    theta = np.array(THREE.types)

    def slack(z: np.ndarray) -> np.ndarray:
        gains = z[3:] - z[:3] / theta[:, None]
        own = np.diag(gains)
        return np.concatenate([own, (own[:, None] - gains).ravel()])

    def loss(z: np.ndarray) -> float:
        return -float((4 * np.log1p(z[:3]) - z[3:]).mean())

    found = minimize(
        loss, [2, 4, 8, 3, 4, 6], method="SLSQP", bounds=[(0, 50)] * 6, constraints={"type": "ineq", "fun": slack}
    )
    assert -found.fun == pytest.approx(worth(THREE, screening(THREE)), abs=1e-4)


def test_broken_constraints_are_seen() -> None:
    menu = screening(THREE)
    poor = Menu(menu.freshness, menu.rewards - np.array([0.1, 0, 0]))
    assert violations(THREE, poor)[0] == pytest.approx(0.1, abs=1e-4)
    assert participation(THREE, poor) == pytest.approx(2 / 3)
    rich = Menu(menu.freshness, menu.rewards + np.array([0.2, 0, 0]))
    assert violations(THREE, rich)[1] == pytest.approx(0.2, abs=1e-3)


def test_freshness_is_the_inverse_of_the_mean_age() -> None:
    assert freshness([2, 4], 1) == pytest.approx([1 / 2, 1 / 3])
    assert mean_age(THREE, screening(THREE)) == pytest.approx((1 + 1 / 5 + 1 / 11) / 3, abs=1e-4)
    worthless = Market((1, 2), (0.5, 0.5), cost=4, value=1)
    assert mean_age(worthless, screening(worthless)) == math.inf
    slow = Market((1, 2, 3), (1 / 3,) * 3, 1, 4, delay=0.2)
    assert screening(slow).freshness == pytest.approx([1, 5, 5], abs=1e-3)


@pytest.mark.parametrize(
    ("types", "shares"), [((2, 1), (0.5, 0.5)), ((), ()), ((0, 1), (0.5, 0.5)), ((1, 2), (0.5, 0.4)), ((1, 2), (1,))]
)
def test_a_market_that_is_none_is_refused(types: tuple[float, ...], shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="allowed"):
        Market(types, shares)
