"""Attribute inference (Wu et al. 2020, arXiv 2011.00177): what a federated client's numbers tell of a sensitive field.

Published (abstract): attribute inference against split and federated learning of medical data, label perturbation and
weight noise as defenses. This project's reading: the attacker knows every other field of a record, and the attribute
takes few values, so that nothing need be trained but the prior: Bayes' rule over the values does the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from gibench.errors import InputError

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def randomised(values: ArrayLike, p: float, k: int, rng: np.random.Generator) -> Whole:
    """Randomised response: each of the values 0..k-1 stays with probability 1 - p, else becomes one of the others."""
    if not 0 <= p <= 1 or k < 2:
        raise InputError(f"attributes: p is {p}, {k} values; allowed: p in [0, 1] and two values or more")
    true = np.asarray(values, np.int64)
    step = rng.integers(1, k, true.shape)
    found: Whole = np.where(rng.random(true.shape) < p, (true + step) % k, true)
    return found


def channel(p: float, k: int) -> Floats:
    """log P(reported | true), (true, reported), of `randomised`."""
    with np.errstate(divide="ignore"):
        return np.log(np.where(np.eye(k, dtype=bool), 1 - p, p / (k - 1)))


def of_hidden(hidden: ArrayLike, means: ArrayLike, variance: ArrayLike) -> Floats:
    """log P(hidden | each value), (n, k): rectified units (n, units) whose inputs are normal and independent.

    That is a first layer of weights with noise of one deviation each: means (n, k, units) are its outputs at every
    value of the attribute, variance (n, k) is sigma^2 times the squared length of the input with its 1 for the bias.
    """
    h, mean = np.asarray(hidden, np.float64)[:, None], np.asarray(means, np.float64)
    deviation = np.sqrt(np.maximum(np.asarray(variance, np.float64), 1e-12))[..., None]  # exact weights: nearly none
    z = (h - mean) / deviation
    each = np.where(h > 0, norm.logpdf(z) - np.log(deviation), norm.logcdf(-mean / deviation))
    found: Floats = each.sum(-1)
    return found


def of_update(weight: ArrayLike, bias: ArrayLike, values: ArrayLike, column: int) -> Floats:
    """log P(update | each value), (n, k), of gradients of a first layer: weight (n, units, d), bias (n, units).

    One record is behind each: every row of the weight's is that record times the bias's (Phong et al. 2017), whatever
    the weights and the label. The attribute's field is read off and told exactly from `values` (k,). A gradient of
    nought tells nothing.
    """
    w, b, levels = (np.asarray(one, np.float64) for one in (weight, bias, values))
    row = np.abs(b).argmax(1)
    at = np.arange(len(b))
    size = b[at, row]
    read = w[at, row, column] / np.where(size == 0, 1, size)
    nearest = np.abs(read[:, None] - levels).argmin(1)
    found = np.where(np.arange(len(levels)) == nearest[:, None], 0.0, -np.inf)
    found[size == 0] = 0.0
    return found


def inferred(log_prior: ArrayLike, seen: ArrayLike, p: float) -> Whole:
    """argmax_a P(a | other fields) sum_r P(reported r | a) P(seen | r), (n,); with p = 1 - 1/k that is the prior's."""
    prior, likelihood = np.asarray(log_prior, np.float64), np.asarray(seen, np.float64)
    k = prior.shape[1]
    peak = likelihood.max(1, keepdims=True)
    told = np.log(np.maximum(np.exp(likelihood - peak) @ np.exp(channel(p, k)).T, 1e-300))
    found: Whole = (prior + told).argmax(1)
    return found
