"""MESAS (Krauss, Dmitrienko, CCS 2023, arXiv 2306.03600): six metrics of every update at once expose the poisoned.

Published (abstract): statistical tests, clustering and pruning in a loop over several metrics. Read from others' code:
the metrics, and tests of the distances to the median on either side of it against all distances. This project's
reading, since those tests alone reject nobody (attackers inflate the spread they are measured by): clients whose
distance to the median exceeds `robust_z` robust deviations go first, again and again; then the tests, and in metrics
that fail them whoever lies beyond three deviations, or in the smaller one of two clusters; all of it until nobody goes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.cluster import AgglomerativeClustering

from gibench.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

METRICS = ("COS", "EUCL", "COUNT", "VAR", "MIN", "MAX")
MAD = 1.4826  # times the median absolute deviation: the deviation of normal numbers
FEWEST = 4  # clients; fewer have no majority to be compared with


@dataclass(frozen=True)
class Mesas:
    """The rule: `alpha` is the level of every test, `robust_z` the robust deviations that are still honest."""

    alpha: float = 1e-4
    robust_z: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or self.robust_z <= 0:
            raise InputError("mesas: alpha must be in (0, 1) and robust_z > 0")

    def judge(self, updates: ArrayLike, weights: ArrayLike) -> Verdict:
        """Who is kept of n clients who sent `updates` (n, dim), changes of the global `weights` (dim,)."""
        values = measured(updates, weights)
        reasons = [""] * len(values)
        for odd in np.flatnonzero(~np.isfinite(values).all(1)):
            reasons[odd] = "not finite"
        while found := self._next(values, np.array([not reason for reason in reasons])):
            for client, reason in found.items():
                reasons[client] = reason
        return Verdict(np.array([not reason for reason in reasons]), tuple(reasons), values)

    def unlike(self, models: ArrayLike, honest: ArrayLike, reference: ArrayLike) -> tuple[str, ...]:
        """Of each broadcast model (n, dim) how it differs from `honest` ones (m, dim), "" where it does not.

        All are measured against one `reference` (dim,): fresh initialisations against another one, or the models of
        rounds that are trusted against where they began. Flags weights that a server planted.
        """
        start = np.asarray(reference, np.float64)
        normal = measured(np.asarray(honest, np.float64) - start, start)
        values = measured(np.asarray(models, np.float64) - start, start)
        far = _robust(np.where(np.isfinite(values), values, np.inf), normal)
        return tuple(_furthest(row) if row.max() > self.robust_z else "" for row in far)

    def _next(self, values: Floats, kept: Mask) -> dict[int, str]:
        """Who goes now and why; empty when the rest stays."""
        clients = np.flatnonzero(kept)
        if len(clients) < FEWEST:
            return {}
        seen = values[clients]
        far = _robust(seen, seen)
        if (far > self.robust_z).any():
            return {int(c): _furthest(row) for c, row in zip(clients, far, strict=True) if row.max() > self.robust_z}
        failed = [m for m in range(len(METRICS)) if self._fails(seen[:, m])]
        if not failed:
            return {}
        z = (seen[:, failed] - seen[:, failed].mean(0)) / seen[:, failed].std(0)
        names = ", ".join(METRICS[m] for m in failed)
        found = {int(c): f"beyond 3 deviations in {names}" for c in clients[(np.abs(z) > 3).any(1)]}
        return found | {int(c): f"in the smaller cluster by {names}" for c in clients[_minority(z)]}

    def _fails(self, values: Floats) -> bool:
        """Whether the distances to the median on either side of it differ from all of them; ties are on both sides."""
        median = np.median(values)
        distances = np.abs(values - median)
        if not distances.any():
            return False
        sides = (distances[values <= median], distances[values >= median])
        return any(_least_p(side, distances) <= self.alpha for side in sides if len(side) > 1)


class Verdict(NamedTuple):
    """kept (n,), why each of the others was rejected ("" for those who stay), and the metrics (n, 6)."""

    kept: Mask
    reasons: tuple[str, ...]
    values: Floats


def measured(updates: ArrayLike, weights: ArrayLike) -> Floats:
    """The metrics (n, 6) of updates d (n, dim) against global weights w (dim,), in the order of METRICS.

    COS 1 - cos(w + d, w); EUCL the norm of d; COUNT how many entries of d are positive; VAR their variance over all of
    d; MIN and MAX of the positive entries, 0 where there is none.
    """
    d, w = np.asarray(updates), np.asarray(weights, np.float64)
    if d.ndim != 2 or w.shape != d.shape[1:]:
        raise InputError(f"mesas: updates {d.shape} and weights {w.shape}; allowed: (clients, dim) and (dim,)")
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told apart by the caller
        rows = [_row(np.asarray(one, np.float64), w) for one in d]
    return np.array(rows).reshape(len(d), len(METRICS))


def _row(d: Floats, w: Floats) -> tuple[float, ...]:
    positive = d[d > 0]
    least, most = (float(positive.min()), float(positive.max())) if positive.size else (0.0, 0.0)
    return _turned(d, w), float(np.linalg.norm(d)), float(positive.size), float(d.var()), least, most


def _turned(d: Floats, w: Floats) -> float:
    """1 - cos(w + d, w), without cancellation where d is small beside w, as updates are; 0 where w or w + d is 0."""
    norm = float(np.linalg.norm(w))
    if not norm:
        return 0.0
    along = float(w @ d) / norm
    across = max(float(d @ d) - along**2, 0.0)  # |w + d|^2 off the direction of w
    length = float(np.hypot(norm + along, np.sqrt(across)))
    if norm + along > 0:
        return across / (length * (length + norm + along))
    return 1 - (norm + along) / length if length else 0.0


def _robust(values: Floats, normal: Floats) -> Floats:
    """Distances (n, 6) to the median of `normal` (m, 6), in its robust deviations.

    A metric in which most agree exactly has none: then a billionth of the median is one, and of COUNT one entry.
    """
    median = np.median(normal, axis=0)
    least = 1e-9 * np.abs(median) + np.finfo(float).tiny
    least[METRICS.index("COUNT")] = 1.0
    deviation = np.maximum(MAD * np.median(np.abs(normal - median), axis=0), least)
    with np.errstate(over="ignore"):
        far: Floats = np.abs(values - median) / deviation
    return far


def _furthest(far: Floats) -> str:
    m = int(far.argmax())
    return f"{METRICS[m]} is {far[m]:.3g} robust deviations from the median"


def _least_p(side: Floats, distances: Floats) -> float:
    """The smallest p of t-test, Levene's test and Kolmogorov-Smirnov's; a test that does not apply passes."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # clients who agree but for rounding: those tests pass
        found = (
            stats.ttest_ind(side, distances).pvalue,
            stats.levene(side, distances).pvalue,
            stats.ks_2samp(side, distances).pvalue,
        )
    return min(1.0 if np.isnan(p) else float(p) for p in found)


def _minority(z: Floats) -> Mask:
    """Members of the smaller of two clusters; of two equal ones neither can be told from the other, and both stay."""
    label = AgglomerativeClustering(n_clusters=2).fit_predict(z).astype(bool)
    if 2 * label.sum() == len(label):
        return np.zeros(len(label), bool)
    smaller: Mask = label if 2 * label.sum() < len(label) else ~label
    return smaller
