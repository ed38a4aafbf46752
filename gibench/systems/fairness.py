"""Private, fair and accurate (Tayebi Arasteh et al. 2024, arXiv 2302.01622): who pays for privacy, and who leaks?

Published (abstract and code): accuracy and AUC per subgroup, statistical parity difference (SPD), and Pearson's r of
the privacy budget with SPD and of the loss of performance with a group's size. This project's reading: SPD compares a
group with the size-weighted mean of the others, and leakage, any score per image, is compared in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from gibench.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Subgroup:
    """How a classifier serves one group of `size` images; `nan` where a value is undefined.

    auc is the mean over the classes that have one; the tuples are per class: images, accuracy (the share of the class
    that is recognised), AUC against the rest.
    """

    name: str
    size: int
    accuracy: float
    auc: float
    class_sizes: tuple[int, ...]
    class_accuracy: tuple[float, ...]
    class_auc: tuple[float, ...]


@dataclass(frozen=True)
class Leak:
    """A score per image, such as PSNR or success of an attack, in one group: its mean, and that less the others'."""

    name: str
    size: int
    mean: float
    parity: float


def subgroups(scores: ArrayLike, labels: ArrayLike, groups: Sequence[str]) -> tuple[Subgroup, ...]:
    """Every group's performance, in name order: scores (n, k) by class, labels (n,) in 0..k-1, groups (n,)."""
    found, truth = np.asarray(scores, np.float64), np.asarray(labels)
    if found.ndim != 2 or truth.shape != found.shape[:1] or not np.isfinite(found).all():
        raise InputError(f"fairness: scores {found.shape}, labels {truth.shape}; allowed: finite (n, k) and (n,)")
    if truth.size and not (np.isin(truth, np.arange(found.shape[1]))).all():
        raise InputError(f"fairness: a label is outside 0..{found.shape[1] - 1}")
    return tuple(_served(name, found[members], truth[members]) for name, members in _members(groups, len(truth)))


def parity(values: ArrayLike, sizes: ArrayLike) -> Floats:
    """SPD(g) = value(g) - sum_{h != g} n_h value(h) / sum_{h != g} n_h, (g,); nan for a group that is alone."""
    v, n = np.asarray(values, np.float64), np.asarray(sizes, np.float64)
    if v.shape != n.shape or v.ndim != 1 or (n <= 0).any():
        raise InputError(f"fairness: values {v.shape} and sizes {n.shape}; allowed: one positive size per value")
    others = ~np.eye(len(v), dtype=bool)
    weight = others @ n
    with np.errstate(invalid="ignore"):
        spd: Floats = v - np.where(others, n * v, 0).sum(1) / weight
    return spd


def parity_trend(epsilons: ArrayLike, accuracies: ArrayLike, sizes: ArrayLike) -> Floats:
    """Pearson's r of epsilon (e,) with every group's SPD, from accuracies (e, g) and sizes (g,): (g,).

    Near 0 more privacy discriminates no more. Trainings without privacy (epsilon infinite) are left out.
    """
    budget, table = np.asarray(epsilons, np.float64), np.asarray(accuracies, np.float64)
    spd = np.array([parity(row, sizes) for row in table])
    private = np.isfinite(budget)
    return np.array([pearson(budget[private], one) for one in spd[private].T])


def size_trend(plain: ArrayLike, private: ArrayLike, sizes: ArrayLike) -> float:
    """Pearson's r of what privacy costs a group, plain less private performance (g,), with its size (g,)."""
    return pearson(np.asarray(plain, np.float64) - np.asarray(private, np.float64), sizes)


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's r; nan of fewer than three points, which always lie on a line, and where either is constant."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"fairness: {x.shape} and {y.shape} do not pair; allowed: two rows of one length")
    if len(x) < 3 or np.ptp(x) <= 1e-12 * np.abs(x).max() or np.ptp(y) <= 1e-12 * np.abs(y).max():
        return math.nan
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def leakage(scores: ArrayLike, groups: Sequence[str]) -> tuple[Leak, ...]:
    """Every group's mean of a score per image (n,), in name order. A failed attack has no score: leave it out."""
    found = np.asarray(scores, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise InputError("fairness: a score per image must be finite, one row; leave out images whose attack failed")
    members = _members(groups, len(found))
    sizes = [len(index) for _, index in members]
    means = [float(found[index].mean()) for _, index in members]
    rows = zip(members, sizes, means, parity(means, sizes), strict=True)
    return tuple(Leak(name, size, mean, float(spd)) for (name, _), size, mean, spd in rows)


def _members(groups: Sequence[str], n: int) -> list[tuple[str, NDArray[np.int64]]]:
    if len(groups) != n:
        raise InputError(f"fairness: {len(groups)} group names for {n} images; allowed: one per image")
    names = np.array([str(group) for group in groups])
    return [(str(name), np.flatnonzero(names == name)) for name in np.unique(names)]


def _served(name: str, scores: Floats, truth: NDArray[np.int64]) -> Subgroup:
    right = scores.argmax(1) == truth
    classes = [truth == c for c in range(scores.shape[1])]
    aucs = [_auc(one, scores[:, c]) for c, one in enumerate(classes)]
    return Subgroup(
        name,
        len(truth),
        float(right.mean()),
        float(np.nanmean(aucs)) if not np.isnan(aucs).all() else math.nan,
        tuple(int(one.sum()) for one in classes),
        tuple(float(right[one].mean()) if one.any() else math.nan for one in classes),
        tuple(aucs),
    )


def _auc(one: NDArray[np.bool_], scores: Floats) -> float:
    return float(roc_auc_score(one, scores)) if one.any() and not one.all() else math.nan
