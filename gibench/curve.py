"""Utility against the strength of a defense: a monotone curve through noisy points, and where it takes a value.

Pool-adjacent-violators (isotonic regression, Barlow et al. 1972): a stronger defense never serves better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Literal

LEAST = 0.005
"""Utilities that differ by no more than this count as equal, or by no more than the spread of the seeds."""

Scale = Literal["log", "complement"]


@dataclass(frozen=True)
class Point:
    """What a defense at one level of its knob was worth, seed by seed."""

    level: float
    strength: float  # the level, its sign such that more is stronger
    utilities: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.utilities)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; nought for a single one."""
        return stdev(self.utilities) if len(self.utilities) > 1 else 0.0

    @property
    def tolerance(self) -> float:
        return max(LEAST, self.spread)


@dataclass(frozen=True)
class OutOfReach:
    """Why no level has a utility, and whether even the strongest has more: such a defense costs less than asked."""

    reason: str
    costs_less: bool


class Curve:
    """Points in the order of strength with the fitted utility of each; points of one level are put together."""

    def __init__(self, points: Sequence[Point], scale: Scale) -> None:
        together: dict[float, Point] = {}
        for point in points:
            known = together.get(point.strength)
            seeds = (*known.utilities, *point.utilities) if known else point.utilities
            together[point.strength] = Point(point.level, point.strength, seeds)
        self.points = [together[strength] for strength in sorted(together)]
        self.scale: Scale = scale

    @cached_property
    def fitted(self) -> list[float]:
        """Never rising along `points`."""
        from sklearn.isotonic import IsotonicRegression  # over a second, which only suites with targets pay

        means = [point.mean for point in self.points]
        seeds = [len(point.utilities) for point in self.points]
        places = range(len(self.points))
        fit = IsotonicRegression(increasing=False).fit(places, means, sample_weight=seeds)
        return [float(height) for height in fit.predict(places)]

    def level(self, goal: float, halved: bool = False) -> float | OutOfReach:
        """The greatest strength that still has the utility `goal`, as a level of the knob.

        Nothing is extrapolated: a goal over the weakest point or under the strongest one, each by more than its
        tolerance, is out of reach. halved: half way between the two points around it, not where their line crosses;
        where utility bends, lines from the same far point come closer by a little at a time (as in false position).
        """
        first, last = self.points[0], self.points[-1]
        if goal > self.fitted[0] + first.tolerance:
            return OutOfReach(f"unreachable (best {self.fitted[0]:.3f})", costs_less=False)
        goal = min(goal, self.fitted[0])
        place = max(i for i, height in enumerate(self.fitted) if height >= goal)
        if place < len(self.points) - 1:
            above, below = self.fitted[place], self.fitted[place + 1]
            low, high = self.points[place].level, self.points[place + 1].level
            return between(low, high, 0.5 if halved else (above - goal) / (above - below), self.scale)
        if self.fitted[-1] > goal + last.tolerance:
            return OutOfReach(f"unreachable (still {self.fitted[-1]:.3f} at its strongest)", costs_less=True)
        return last.level


def between(low: float, high: float, share: float, scale: Scale) -> float:
    """The level `share` of the way from one to the other, even in the scale, with two significant digits."""
    if scale == "complement":
        return round(1 - between(1 - low, 1 - high, share, "log"), 12)  # 0.1, not 0.09999999999999998
    if low > 0 and high > 0:
        return _two_digits(low ** (1 - share) * high**share)
    return _two_digits(low + share * (high - low))


def _two_digits(level: float) -> float:
    return float(f"{level:.1e}")
