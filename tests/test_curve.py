"""The curve of utility against strength: monotone, never extrapolated, solved where it crosses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibench.curve import Curve, OutOfReach, Point, between


def curve(*means: float, levels: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0), spread: float = 0.0) -> Curve:
    levels = levels[: len(means)]
    seeds = [(m - spread, m, m + spread) for m in means]
    return Curve([Point(level, level, own) for level, own in zip(levels, seeds, strict=True)], "log")


def test_adjacent_violators_are_pooled_by_hand() -> None:
    assert curve(0.95, 0.90, 0.92, 0.50).fitted == pytest.approx([0.95, 0.91, 0.91, 0.50])


def test_points_of_one_level_count_by_their_seeds() -> None:
    twice = Curve([Point(1, 1, (0.9, 0.9, 0.9)), Point(2, 2, (0.5,)), Point(1, 1, (0.7,))], "log")
    assert [point.utilities for point in twice.points] == [(0.9, 0.9, 0.9, 0.7), (0.5,)]
    assert twice.fitted == pytest.approx([0.85, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_fit_never_rises_and_keeps_the_mean(means: list[float]) -> None:
    fitted = curve(*means, levels=tuple(float(k + 1) for k in range(8))).fitted
    assert all(a >= b - 1e-12 for a, b in pairwise(fitted))
    assert sum(fitted) == pytest.approx(sum(means))


def test_a_goal_between_two_points_is_solved_in_the_logarithm_of_the_knob() -> None:
    assert curve(1.0, 0.9, 0.8, 0.1).level(0.85) == pytest.approx(10**-0.5, rel=0.05)


def test_a_plateau_is_left_at_its_strong_end() -> None:
    assert curve(0.9, 0.9, 0.9, 0.5).level(0.9) == 1.0


def test_what_is_out_of_reach_says_so_and_is_never_the_nearest_point() -> None:
    low = curve(0.81, 0.7)
    assert low.level(0.9) == OutOfReach("unreachable (best 0.810)", costs_less=False)
    assert curve(0.95, 0.94).level(0.9) == OutOfReach("unreachable (still 0.940 at its strongest)", costs_less=True)


def test_seeds_that_differ_let_a_goal_be_met_that_close() -> None:
    assert isinstance(curve(0.81, 0.7).level(0.82), OutOfReach)
    assert curve(0.81, 0.7, spread=0.03).level(0.82) == 0.01
    assert curve(0.81, 0.7, spread=0.03).level(0.68) == 0.1


def test_weakest_first_whatever_the_sign_of_the_knob() -> None:
    falling = Curve([Point(0.1, -0.1, (0.5,)), Point(1.0, -1.0, (0.9,))], "log")
    assert [point.level for point in falling.points] == [1.0, 0.1]
    assert falling.level(0.7) == pytest.approx(10**-0.5, rel=0.05)


def test_levels_between_are_even_in_their_scale_and_short_to_write() -> None:
    assert between(0.01, 1.0, 0.5, "log") == 0.1
    assert between(0.0, 0.01, 0.25, "log") == 0.0025
    assert between(0.9, 0.999, 0.5, "complement") == 0.99
    assert between(0, 0.19, 0.5, "complement") == 0.1  # as a reader would write it
    assert between(0.123456, 0.2, 0.0, "log") == 0.12
