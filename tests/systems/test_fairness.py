"""Parity and its trends on tables that can be worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gibench.errors import InputError
from gibench.systems.fairness import leakage, parity, parity_trend, pearson, size_trend, subgroups


def test_a_toy_table_of_two_groups() -> None:
    """100 images with accuracy .9 and 300 with .8."""
    right = np.r_[np.arange(100) < 90, np.arange(300) < 240]
    truth = np.arange(400) % 2
    scores = np.eye(2)[np.where(right, truth, 1 - truth)]
    women, men = subgroups(scores, truth, ["f"] * 100 + ["m"] * 300)
    assert (women.name, women.size, women.accuracy) == ("f", 100, 0.9)
    assert (men.name, men.size, men.accuracy) == ("m", 300, 0.8)
    assert parity([women.accuracy, men.accuracy], [women.size, men.size]) == pytest.approx([0.1, -0.1])


def test_others_are_weighted_by_their_sizes() -> None:
    assert parity([0.9, 0.8, 0.5], [10, 30, 10]) == pytest.approx([0.9 - 0.725, 0.8 - 0.7, 0.5 - 0.825])
    assert parity([0.7, 0.7, 0.7], [1, 5, 9]) == pytest.approx([0, 0, 0])
    assert math.isnan(parity([0.7], [4])[0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=2, max_size=6), st.floats(-1, 1))
def test_parity_sees_differences_only_and_sums_to_zero_by_size(rows: list[tuple[float, int]], shift: float) -> None:
    values, sizes = (np.array(column, float) for column in zip(*rows, strict=True))
    spd = parity(values, sizes)
    assert spd == pytest.approx(parity(values + shift, sizes), abs=1e-9)
    # SPD(g) = n / (n - n_g) * (value(g) - overall mean)
    assert (spd * sizes * (sizes.sum() - sizes)).sum() == pytest.approx(0, abs=1e-6 * sizes.sum() ** 2)


def test_auc_and_accuracy_per_class() -> None:
    truth = np.array([0, 0, 1, 1, 0, 1])
    first = np.array([0.9, 0.4, 0.6, 0.1, 0.8, 0.3])
    a, b = subgroups(np.c_[first, 1 - first], truth, ["a"] * 4 + ["b"] * 2)
    assert (a.class_sizes, a.class_accuracy) == ((2, 2), (0.5, 0.5))
    assert a.class_auc == pytest.approx((0.75, 0.75))  # of four pairs .4 against .6 is in the wrong order
    assert a.auc == pytest.approx(0.75)
    assert (b.auc, b.accuracy) == (1, 1)


def test_what_is_undefined_is_nan() -> None:
    scores = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]])
    one, two = subgroups(scores, [0, 1, 0], ["x", "x", "y"])
    assert math.isnan(one.class_auc[2])
    assert math.isnan(one.class_accuracy[2])
    assert (one.auc, one.accuracy) == (1, 1)  # over the classes that occur
    assert math.isnan(two.auc)


def test_r_is_that_of_a_line_and_of_no_line() -> None:
    assert pearson([1, 2, 3, 4], [2, 4, 6, 8]) == pytest.approx(1)
    assert pearson([1, 2, 3, 4], [1, -1, -1, 1]) == pytest.approx(0)
    assert pearson([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert math.isnan(pearson([1, 2], [3, 4]))
    assert math.isnan(pearson([1, 2, 3], [0.1 + 0.2, 0.3, 0.3]))


def test_trends_follow_a_planted_discrimination() -> None:
    epsilons, sizes = [0.3, 1, 3, 8, math.inf], [100, 300]
    gap = np.array([0.3, 1, 3, 8, 0]) / 100
    unfair = np.c_[0.8 + gap, np.full(5, 0.8)]
    assert parity_trend(epsilons, unfair, sizes) == pytest.approx([1, -1])
    assert np.isnan(parity_trend(epsilons, np.full((5, 2), 0.8), sizes)).all()
    assert size_trend([0.9, 0.9, 0.9], [0.7, 0.8, 0.85], [100, 200, 250]) == pytest.approx(-1)


def test_leakage_is_compared_as_accuracy_is() -> None:
    young, old = leakage([30, 20, 10, 12], ["young", "young", "old", "old"])[::-1]
    assert (young.name, young.size, young.mean, young.parity) == ("young", 2, 25, 14)
    assert (old.mean, old.parity) == (11, -14)


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="attack failed"):
        leakage([1, math.nan], ["a", "b"])
    with pytest.raises(InputError, match="one per image"):
        leakage([1, 2], ["a"])
    with pytest.raises(InputError, match=r"outside 0\.\.1"):
        subgroups(np.zeros((2, 2)), [0, 2], ["a", "b"])
    with pytest.raises(InputError, match="allowed"):
        subgroups(np.zeros(2), [0, 1], ["a", "b"])
    with pytest.raises(InputError, match="positive size"):
        parity([0.5, 0.5], [1, 0])
    with pytest.raises(InputError, match="do not pair"):
        pearson([1, 2, 3], [1, 2])
