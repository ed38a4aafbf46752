"""Cluster bootstrap of means: all images of a victim move together, because they were attacked together."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20250321


def interval(values: Floats, clusters: NDArray[np.intp], resamples: int = RESAMPLES) -> tuple[Floats, Floats]:
    """Percentile 95 % interval of the mean of every column of values (n, m), resampling clusters (n,) 0 .. k-1.

    Nulls are left out of a column's mean. One cluster says nothing about spread: its interval is null.
    Equal cluster numbers get equal draws in every call, so that differences of two calls are paired.
    """
    k = int(clusters.max()) + 1 if len(clusters) else 0
    empty = np.full(values.shape[1], np.nan)
    if k < 2:
        return empty, empty.copy()
    known = ~np.isnan(values)
    sums, counts = np.zeros((2, k, values.shape[1]))
    np.add.at(sums, clusters, np.where(known, values, 0.0))
    np.add.at(counts, clusters, known)
    weights = _multiplicities(k, resamples)
    totals, sizes = weights @ sums, weights @ counts
    means = np.divide(totals, sizes, out=np.full_like(totals, np.nan), where=sizes > 0)
    low, high = empty, empty.copy()
    for column in np.flatnonzero(known.any(axis=0)):
        drawn = means[:, column]
        tail = (1 - LEVEL) / 2
        low[column], high[column] = np.quantile(drawn[~np.isnan(drawn)], [tail, 1 - tail])
    return low, high


@lru_cache(maxsize=4)
def _multiplicities(k: int, resamples: int) -> Floats:
    """How often each of k clusters is drawn in each resample (resamples, k)."""
    draws = np.random.default_rng([SEED, k]).multinomial(k, np.full(k, 1 / k), size=resamples)
    return draws.astype(np.float64)
