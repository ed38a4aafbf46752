"""Huge-epsilon DP (Ziller et al. 2024, arXiv 2312.04590): from a privacy budget to what any attack can still find.

Published (code): budgets from 1 to 1e12, noise multipliers by opacus' Renyi accountant, the bound gamma(kappa) on
reconstruction and the law of the PSNR of an attack without a prior (`gibench.bounds`). This project's reading: where
a budget is huge, opacus' smallest Renyi order, 1.1, asks for 5 % more noise than concentrated DP's closed form does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gibench.accounting import noise_multiplier
from gibench.bounds import psnr_of_mean, psnr_quantile, rero, rero_relaxed
from gibench.errors import InputError

GRID = (1.0, 8.0, 20.0, 1e3, 1e6, 1e9, 1e12, math.inf)


@dataclass(frozen=True)
class Plan:
    """A training: sampling rate per step, steps, delta."""

    rate: float
    steps: int
    delta: float

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and self.steps >= 1 and 0 < self.delta < 1):
            raise InputError("rero: rate must be in (0, 1], steps >= 1 and delta in (0, 1)")


@dataclass(frozen=True)
class Bound:
    """What is possible at noise multiplier sigma: of any attack that knows a prior, and of one that knows none.

    gamma: no attack succeeds more often if guessing succeeds with kappa; relaxed: for one who ignores the sign;
    psnr, low, high: of the mean error of one release, and what 5 and 95 % of all images stay under, in dB.
    """

    epsilon: float
    sigma: float
    gamma: float
    relaxed: float
    psnr: float
    low: float
    high: float


def bound(sigma: float, plan: Plan, kappa: float, radius: float, pixels: int, epsilon: float = math.nan) -> Bound:
    """The bounds at `sigma`; `radius` is the largest norm of an image of `pixels` numbers in [0, 1]."""
    psnr = low = high = math.inf
    if sigma:
        psnr = psnr_of_mean(sigma, radius)
        low, high = (float(psnr_quantile(level, sigma, radius, pixels)) for level in (0.05, 0.95))
    gamma, relaxed = (law(kappa, sigma, plan.rate, plan.steps) for law in (rero, rero_relaxed))
    return Bound(epsilon, sigma, gamma, relaxed, psnr, low, high)


def table(plan: Plan, kappa: float, radius: float, pixels: int, epsilons: Sequence[float] = GRID) -> tuple[Bound, ...]:
    """A bound per privacy budget."""
    return tuple(
        bound(noise_multiplier(e, plan.rate, plan.steps, plan.delta), plan, kappa, radius, pixels, e) for e in epsilons
    )
