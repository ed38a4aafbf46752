"""Intervals against scipy, and against what clustering must do."""

import time

import numpy as np
import pytest
from scipy import stats

from gibench.leaderboard.bootstrap import RESAMPLES, SEED, interval, intervals, totals


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


def one_by_one(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The intervals of every column, each by itself and as it is defined."""
    k = int(clusters.max()) + 1
    weights = np.random.default_rng([SEED, k]).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    found = np.full((2, values.shape[1]), np.nan)
    for column, known in zip(range(values.shape[1]), ~np.isnan(values).T, strict=True):
        if k > 1 and known.any():
            sums, counts = (np.bincount(clusters[known], x, minlength=k) for x in (values[known, column], known[known]))
            images = weights @ counts
            found[:, column] = np.quantile((weights @ sums)[images > 0] / images[images > 0], [0.025, 0.975])
    return found


def test_many_intervals_at_once_are_those_of_each_alone() -> None:
    """Means of one, few and many clusters, even and uneven ones, with nulls, constants, and a cluster of nulls only."""
    rng = np.random.default_rng(8)
    parts = []
    for number, k in enumerate((7, 1, 300, 7, 2, 40, 7, 2)):
        clusters = np.repeat(np.arange(k), rng.integers(1, 4, size=k) if number % 2 else 2)
        values = rng.normal(20, 3, size=(len(clusters), 4))
        values[rng.random(len(clusters)) < 0.2, 1] = np.nan
        values[clusters == 0, 2] = np.nan
        values[:, 3] = np.nan if number == 3 else 0.25
        parts.append((values, clusters, k))
    sums, counts = (np.concatenate(found) for found in zip(*(totals(*part) for part in parts), strict=True))
    low, high = intervals(sums, counts, np.array([k for _, _, k in parts]))
    for row, (values, clusters, _) in enumerate(parts):
        expected = one_by_one(values, clusters)
        np.testing.assert_allclose([low[row], high[row]], expected, rtol=1e-12)
        np.testing.assert_allclose(interval(values, clusters), expected, rtol=1e-12)
