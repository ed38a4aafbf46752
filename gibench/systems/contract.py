"""Metaverse FL (Kang et al. 2023, arXiv 2307.15975): fresh updates are bought by contract, by a loss-averse provider.

Published (abstract): freshness as age of information, contracts against hidden types, prospect theory. This project's
reading, the standard model of adverse selection: a client of type theta who delivers freshness f for reward R gains
R - a f / theta; the provider gains u = b ln(1 + f) - R of it. It knows the shares of the types, not who is of which.
Individual rationality (IR): nobody loses by taking part. Incentive compatibility (IC): nobody gains by another's item.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from gibench.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """Client types theta, ascending, with their shares; cost a and value b of freshness; its limit 1 / delay."""

    types: tuple[float, ...]
    shares: tuple[float, ...]
    cost: float = 1.0
    value: float = 4.0
    delay: float = 0.0  # the age below which no update can be, in the unit of 1 / f

    def __post_init__(self) -> None:
        if (
            not self.types
            or self.types[0] <= 0
            or any(a >= b for a, b in zip(self.types, self.types[1:], strict=False))
        ):
            raise InputError(f"contract: types are {self.types}; allowed: positive numbers, strictly ascending")
        if len(self.shares) != len(self.types) or min(self.shares) <= 0 or not math.isclose(sum(self.shares), 1):
            raise InputError(f"contract: shares are {self.shares}; allowed: one positive share per type, of sum 1")
        if min(self.cost, self.value) <= 0 or self.delay < 0:
            raise InputError("contract: cost and value must be > 0 and delay >= 0")


@dataclass(frozen=True)
class Taste:
    """Prospect theory (Tversky, Kahneman 1992): v(u) = (u - reference)^power, losses times -loss. The default is
    expected utility (EUT); published estimates are loss 2.25, power 0.88."""

    loss: float = 1.0
    power: float = 1.0
    reference: float = 0.0

    def __post_init__(self) -> None:
        if self.loss < 0 or not 0 < self.power <= 1:
            raise InputError("contract: loss must be >= 0 and power in (0, 1]")

    def felt(self, gains: Floats) -> Floats:
        """v(u), elementwise."""
        away = gains - self.reference
        felt: Floats = np.where(away >= 0, 1.0, -self.loss) * np.abs(away) ** self.power
        return felt

    def slope(self, gains: Floats) -> Floats:
        """v'(u); at the reference, where it may be infinite, that of a point nearby."""
        away = gains - self.reference
        near = np.maximum(np.abs(away), 1e-9)
        slope: Floats = np.where(away >= 0, 1.0, self.loss) * self.power * near ** (self.power - 1)
        return slope


EUT = Taste()


@dataclass(frozen=True)
class Menu:
    """One item per type: freshness (k,) and reward (k,). Freshness 0 for reward 0 is staying away."""

    freshness: Floats
    rewards: Floats


def freshness(cycle: ArrayLike, delay: float) -> Floats:
    """f = 1 / A of updates that are sent once per `cycle` and travel for `delay`: mean age A = delay + cycle / 2."""
    fresh: Floats = 1 / (delay + np.asarray(cycle, float) / 2)
    return fresh


def screening(market: Market, taste: Taste = EUT) -> Menu:
    """The best menu for a provider who does not know who is of which type.

    Of all rewards that keep IR and IC for a non-decreasing f the least are R_1 = a f_1 / theta_1 and
    R_k = R_{k-1} + a (f_k - f_{k-1}) / theta_k; every taste prefers them, so that only f is searched.
    """
    prices = market.cost / np.asarray(market.types)
    rents = prices - np.append(prices[1:], 0)  # what every higher type gets for a lower item's freshness
    k = len(prices)
    return _best(market, taste, np.diag(prices) + np.tril(np.broadcast_to(rents, (k, k)), -1), ordered=True)


def complete_information(market: Market, taste: Taste = EUT) -> Menu:
    """The best menu for a provider who knows everyone's type: R_k = a f_k / theta_k, and IC need not hold."""
    return _best(market, taste, np.diag(market.cost / np.asarray(market.types)), ordered=False)


def uniform_price(market: Market, taste: Taste = EUT) -> Menu:
    """One price per unit of freshness and one amount, the same for all; types to whom it is a loss stay away.

    This project's reading: costs are linear, so that a price alone would leave the amount open.
    """
    types, limit = np.asarray(market.types), _limit(market)
    menus = []
    for theta in types:  # the lowest type that takes part
        amount = min(max(market.value * theta / market.cost - 1, 0), limit) * (types >= theta)
        menus.append(Menu(amount, amount * market.cost / theta))
    return max(menus, key=lambda menu: worth(market, menu, taste))


def worth(market: Market, menu: Menu, taste: Taste = EUT) -> float:
    """The provider's expected v(u) when every type takes its own item."""
    return float(np.asarray(market.shares) @ taste.felt(_gains(market, menu.freshness, menu.rewards)))


def violations(market: Market, menu: Menu) -> tuple[float, float]:
    """By how much at most IR is violated, and IC, over all types and all pairs of types; (0, 0) where both hold."""
    gains = menu.rewards - market.cost * menu.freshness / np.asarray(market.types)[:, None]  # (type, item)
    own = np.diag(gains)
    return max(0.0, float(-own.min())), max(0.0, float((gains - own[:, None]).max()))


def participation(market: Market, menu: Menu, tolerance: float = 1e-6) -> float:
    """Share of the clients who deliver anything: whose own item costs them no more than it brings."""
    return float(np.asarray(market.shares)[_taken(market, menu, tolerance)].sum())


def mean_age(market: Market, menu: Menu, tolerance: float = 1e-6) -> float:
    """Mean age 1 / f of the updates of those who take part; infinite where nobody does."""
    taken = _taken(market, menu, tolerance)
    shares = np.asarray(market.shares)[taken]
    return float(shares @ (1 / menu.freshness[taken]) / shares.sum()) if taken.any() else math.inf


def _taken(market: Market, menu: Menu, tolerance: float) -> NDArray[np.bool_]:
    gains = menu.rewards - market.cost * menu.freshness / np.asarray(market.types)
    taken: NDArray[np.bool_] = (menu.freshness > tolerance) & (gains >= -tolerance)
    return taken


def _limit(market: Market) -> float:
    return 1 / market.delay if market.delay else math.inf


def _gains(market: Market, fresh: Floats, rewards: Floats) -> Floats:
    gains: Floats = market.value * np.log1p(fresh) - rewards
    return gains


def _best(market: Market, taste: Taste, rewards: Floats, ordered: bool) -> Menu:
    """max over f of sum_k p_k v(b ln(1 + f_k) - (M f)_k), by SLSQP from several points.

    Losses are felt convexly and the slope jumps at the reference, so that one start may end in a local optimum.
    """
    shares, types = np.asarray(market.shares), np.asarray(market.types)
    k, limit = len(types), _limit(market)
    ladder = np.eye(k)[1:] - np.eye(k)[:-1]  # f_{k+1} - f_k >= 0

    def loss(f: Floats) -> tuple[float, Floats]:
        gains = _gains(market, f, rewards @ f)
        pull = shares * taste.slope(gains)
        return -float(shares @ taste.felt(gains)), rewards.T @ pull - pull * market.value / (1 + f)

    most = np.clip(market.value * types / market.cost - 1, 0, limit)  # what no optimum exceeds
    answers = []
    for start in (most, most * 0.1, most * types / types[-1], np.where(types < types[-1], 0, most)):
        found = minimize(
            loss,
            start,
            jac=True,
            method="SLSQP",
            bounds=[(0, top) for top in most],
            constraints=[{"type": "ineq", "fun": lambda f: ladder @ f, "jac": lambda f: ladder}] if ordered else (),
            options={"maxiter": 500, "ftol": 1e-13},
        )
        f = np.clip(found.x, 0, most)
        answers.append(np.maximum.accumulate(f) if ordered else f)  # rounding of the solver
    best = min(answers, key=lambda f: loss(f)[0])
    return Menu(best, rewards @ best)
