"""Cluster bootstrap of means: all images of a victim move together, because they were attacked together."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20250321
TOGETHER = 128  # means whose resamples are in memory at the same time


def interval(values: Floats, clusters: NDArray[np.intp], resamples: int = RESAMPLES) -> tuple[Floats, Floats]:
    """Percentile 95 % interval of the mean of every column of values (n, m), resampling clusters (n,) 0 .. k-1.

    Nulls are left out of a column's mean. One cluster says nothing about spread: its interval is null.
    Equal cluster numbers get equal draws in every call, so that differences of two calls are paired.
    """
    k = int(clusters.max()) + 1 if len(clusters) else 0
    low, high = intervals(*totals(values, clusters, k), np.array([k]), resamples)
    return low[0], high[0]


def totals(values: Floats, clusters: NDArray[np.intp], k: int) -> tuple[Floats, Floats]:
    """Sums and numbers (k, m) of the values (n, m) of each of k clusters, nulls left out."""
    known = ~np.isnan(values)
    sums, counts = np.zeros((2, k, values.shape[1]))
    for column in range(values.shape[1]):
        filled = np.where(known[:, column], values[:, column], 0.0)
        sums[:, column] = np.bincount(clusters, filled, minlength=k)
        counts[:, column] = np.bincount(clusters, known[:, column], minlength=k)
    return sums, counts


def intervals(
    sums: Floats, counts: Floats, sizes: NDArray[np.intp], resamples: int = RESAMPLES
) -> tuple[Floats, Floats]:
    """The interval of many means at once: those of `sizes` (r,) clusters each, whose totals follow one another.

    sums, counts (clusters, m) as `totals` makes them; returned are low and high (r, m). Means of equally many clusters
    share their draws, and one matrix product.
    """
    low, high = np.full((2, len(sizes), sums.shape[1]), np.nan)
    begin = np.cumsum(sizes) - sizes
    for k in np.unique(sizes[sizes > 1]):
        alike = np.flatnonzero(sizes == k)
        clusters = begin[alike, None] + np.arange(k)
        sums_of, counts_of = (part[clusters].transpose(0, 2, 1).reshape(-1, k) for part in (sums, counts))
        found = _tails(sums_of, counts_of, resamples).reshape(2, len(alike), -1)
        low[alike], high[alike] = found
    return low, high


def _tails(sums: Floats, counts: Floats, resamples: int) -> Floats:
    """The two quantiles (2, r) of the resampled means of r rows of k clusters."""
    weights = _multiplicities(sums.shape[1], resamples)
    found = np.full((2, len(sums)), np.nan)
    even = (counts == counts[:, :1]).all(axis=1) & (counts[:, 0] > 0)  # every resample has the same number of images
    uneven = ~even & (counts > 0).any(axis=1)
    for which in (even, uneven):
        rows = np.flatnonzero(which)
        for part in np.split(rows, range(TOGETHER, len(rows), TOGETHER)):
            drawn = sums[part] @ weights
            if which is even:
                found[:, part] = _quantiles(drawn) / counts[part].sum(axis=1)
            else:
                images = counts[part] @ weights
                found[:, part] = _quantiles(np.divide(drawn, images, out=np.full_like(drawn, np.nan), where=images > 0))
    return found


def _quantiles(drawn: Floats) -> Floats:
    """Both ends (2, r) of the middle of the draws (r, n), between two draws in proportion; nulls are no draws."""
    tail, ends = (1 - LEVEL) / 2, np.empty((2, len(drawn)))
    drawn.sort(axis=1)  # nulls go to the end
    last = (~np.isnan(drawn)).sum(axis=1) - 1
    rows = np.arange(len(drawn))
    for end, level in enumerate((tail, 1 - tail)):
        whole, part = np.divmod(level * last, 1)
        left, right = drawn[rows, whole.astype(np.intp)], drawn[rows, np.minimum(whole + 1, last).astype(np.intp)]
        ends[end] = np.where(part < 0.5, left + (right - left) * part, right - (right - left) * (1 - part))
    return ends


@lru_cache(maxsize=2)
def _multiplicities(k: int, resamples: int) -> Floats:
    """How often each of k clusters is drawn in each resample (k, resamples)."""
    draws = np.random.default_rng([SEED, k]).multinomial(k, np.full(k, 1 / k), size=resamples)
    return np.ascontiguousarray(draws.T, dtype=np.float64)
