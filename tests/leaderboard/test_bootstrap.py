"""Intervals against scipy, and against what clustering must do."""

import time

import numpy as np
import pytest
from scipy import stats

from gibench.leaderboard.bootstrap import interval


def test_agrees_with_scipy_for_single_image_clusters() -> None:
    values = np.random.default_rng(1).gamma(2.0, 3.0, size=(40, 2))
    low, high = interval(values, np.arange(40))
    for column in range(2):
        theirs = stats.bootstrap((values[:, column],), np.mean, n_resamples=10_000, method="percentile", rng=2)
        width = theirs.confidence_interval.high - theirs.confidence_interval.low
        assert abs(low[column] - theirs.confidence_interval.low) < 0.05 * width
        assert abs(high[column] - theirs.confidence_interval.high) < 0.05 * width


def test_agrees_with_a_plain_loop_for_uneven_clusters_and_nulls() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(12), rng.integers(1, 6, size=12))
    values = rng.normal(size=(len(clusters), 1)) + clusters[:, None]
    values[::7] = np.nan
    members = [values[clusters == k, 0] for k in range(12)]
    means = [np.nanmean(np.concatenate([members[k] for k in rng.integers(0, 12, size=12)])) for _ in range(5000)]
    low, high = interval(values, clusters)
    expected = np.quantile(means, [0.025, 0.975])
    assert np.abs(np.array([low[0], high[0]]) - expected).max() < 0.05 * (expected[1] - expected[0])


def test_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        low, high = interval(rng.normal(size=(50, 1)), np.arange(50))
        covered += low[0] <= 0 <= high[0]
    assert 0.90 <= covered / 300 <= 0.98


def test_clustering_widens_the_interval_of_images_that_fail_together() -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(20), 8)
    values = (rng.normal(size=20)[clusters] + 0.1 * rng.normal(size=160))[:, None]
    together, alone = interval(values, clusters), interval(values, np.arange(160))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_is_repeatable_and_paired() -> None:
    values = np.random.default_rng(6).normal(size=(30, 1))
    first, again = interval(values, np.arange(30)), interval(values, np.arange(30))
    shifted = interval(values + 1, np.arange(30))
    assert np.array_equal(first, again)
    assert np.allclose(np.array(shifted) - np.array(first), 1)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_one_cluster_says_nothing(n: int) -> None:
    assert np.isnan(interval(np.ones((n, 2)), np.zeros(n, dtype=np.intp))).all()


def test_a_column_of_nulls_stays_null() -> None:
    low, high = interval(np.array([[np.nan, 1.0], [np.nan, 2.0]]), np.arange(2))
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == (1.0, 2.0)


def test_a_thousand_groups_take_seconds() -> None:
    values, clusters = np.random.default_rng(7).normal(size=(64, 4)), np.arange(64)
    begun = time.perf_counter()
    for _ in range(50):
        interval(values, clusters)
    assert time.perf_counter() - begun < 5
