"""How well can any attack do against the Gaussian mechanism? Reconstruction robustness, and the law of the PSNR.

Reconstruction robustness (ReRo, Balle, Cherubin, Hayes 2022, arXiv 2201.04845): an image is drawn from a known prior,
the attacker sees the release and knows everything else. Whatever the attack, it succeeds with probability at most
gamma(kappa), where kappa is the success of the best guess without the release. gamma is the power, at level kappa, of
the best test between the release with the image and one without it (Hayes, Mahloujifar, Balle 2023, arXiv 2302.07225,
Theorem 2 and Corollary 3). Every candidate's clipped gradient lies within the clip C of nothing at all, so that the
sensitivity is C (add or remove one image) and not the 2C of replacing one, and C cancels against noise of deviation
sigma C. The law of the PSNR and the relaxed attacker are those of Ziller et al. (arXiv 2312.04590).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, chndtr, gammaincc, gammainccinv, logsumexp, ndtr, ndtri

Floats = NDArray[np.float64]

GALLERY = 1000  # candidates of the prior; also the images among which a reconstruction must find its own

COARSE, FINE = 1 << 14, 1 << 18  # grid points that find the window, and that fill it
CERTAIN = 28.0  # nats: what is rarer than e^-28 is left out
REACH = 9.0  # deviations: and so is what is further out


def gaussian(kappa: float | Floats, mu: float | Floats) -> Floats:
    """gamma(kappa) of a release that is mu-GDP: one Gaussian has mu = 1 / sigma, n of them about one image
    sqrt(n) / sigma. Arrays broadcast; mu = inf (no noise) bounds nothing."""
    bound: Floats = ndtr(ndtri(kappa) + mu)
    return bound


def rero(kappa: float, sigma: float, rate: float = 1.0, steps: int = 1) -> float:
    """gamma(kappa) of `steps` releases at noise multiplier `sigma`, each with the image by probability `rate`.

    Exact at rate 1. Otherwise the loss distributions of all steps are composed on a grid: at most 1e-5 above the
    truth, and below it by rounding alone.
    """
    # Paper: Ziller et al. expand the log-likelihood ratio (Edgeworth, 5th order), which needs many steps and errs
    # either way (-5e-4 at 1 / sigma = 2, rate .01, 1000 steps); the grid does for any number and at any sigma.
    if sigma == 0:
        return 1.0
    if rate == 1:
        return float(gaussian(kappa, math.sqrt(steps) / sigma))
    return _composed(kappa, _Step(1 / sigma, rate), steps)


def rero_relaxed(kappa: float, sigma: float, rate: float = 1.0, steps: int = 1) -> float:
    """The same for Ziller et al.'s relaxed attacker, who does not know the sign of the gradient that is looked for.

    Chi-square with one degree of freedom against a noncentral one, nc = 1 / sigma^2, in every step. It says what
    weaker attacks may reach and bounds no attack that knows the candidates.
    """
    if sigma == 0:
        return 1.0
    if rate == 1 and steps == 1:
        return 1 - float(chndtr(chdtri(1, kappa), 1, sigma**-2))
    return _composed(kappa, _Step(1 / sigma, rate, relaxed=True), steps)


def psnr_at_most(eta: float | Floats, sigma: float, radius: float, pixels: int) -> Floats:
    """P(PSNR <= eta dB) of the attack without a prior that reads x + N(0, (sigma radius)^2), x in [0, 1], not clamped.

    radius: the largest Euclidean norm of an image, to which its noise is proportional; pixels: numbers per image. The
    mean squared error has a Gamma law of shape pixels / 2 and mean (sigma radius)^2.
    """
    bound: Floats = gammaincc(pixels / 2, pixels / 2 * 10 ** (-np.asarray(eta) / 10) / (sigma * radius) ** 2)
    return bound


def psnr_quantile(level: float | Floats, sigma: float, radius: float, pixels: int) -> Floats:
    """The PSNR in dB that this attack stays under with probability `level`."""
    mse = gammainccinv(pixels / 2, level) * 2 / pixels * (sigma * radius) ** 2
    quantile: Floats = -10 * np.log10(mse)
    return quantile


def psnr_of_mean(sigma: float, radius: float) -> float:
    """The PSNR in dB of this attack's mean squared error."""
    return -20 * math.log10(sigma * radius)


@dataclass(frozen=True)
class _Step:
    """One subsampled release in one dimension: N(0, 1) without the image, with it a mixture with N(mu, 1).

    relaxed: the attacker sees the absolute value only. The log-likelihood ratio is increasing in what is seen.
    """

    mu: float
    rate: float
    relaxed: bool = False

    def ends(self) -> tuple[float, float]:
        """The smallest and the largest log-likelihood ratio within reach."""
        away = REACH * self.mu
        tilts = np.array([0.0 if self.relaxed else -away, away + self.mu**2]) - self.mu**2 / 2
        with np.errstate(divide="ignore"):
            low, high = np.logaddexp(np.log1p(-self.rate), np.log(self.rate) + tilts)
        return float(low), float(high)

    def between(self, ratios: Floats) -> tuple[Floats, Floats]:
        """Probabilities of the k intervals between log-likelihood ratios (k + 1,), without and with the image."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            tilt = np.log(np.maximum(np.expm1(ratios) / self.rate + 1, 0))  # of an included image alone
            if self.relaxed:
                cosh = np.maximum(tilt + self.mu**2 / 2, 0)  # log cosh(mu x) = cosh
                x = (cosh + np.log1p(np.sqrt(-np.expm1(-2 * cosh)))) / self.mu
                absent, included = 2 * _mass(x), _mass(x - self.mu) + _mass(x + self.mu)
            else:
                x = tilt / self.mu + self.mu / 2
                absent, included = _mass(x), _mass(x - self.mu)
        return absent, (1 - self.rate) * absent + self.rate * included


def _mass(x: Floats) -> Floats:
    """Normal probability between neighbours, precise in both tails."""
    upper = ndtr(-x)
    between: Floats = np.where(x[:-1] > 0, upper[:-1] - upper[1:], np.diff(ndtr(x)))
    return between


def _composed(kappa: float, step: _Step, steps: int) -> float:
    """Power at level kappa of the likelihood-ratio test of `steps` independent releases."""
    lowest, highest = step.ends()
    beyond = -math.log(kappa) + math.log(steps) + CERTAIN  # an image is as good as known, or as good as absent
    lowest, highest = max(lowest, -beyond), min(highest, beyond)
    width = (highest - lowest) / COARSE
    ratios, absent, present = _grid(step, width, lowest, highest)
    with np.errstate(divide="ignore"):
        log_absent, log_present = np.log(absent), np.log(present)
    affinity = steps * float(logsumexp((log_absent + log_present) / 2))
    if 2 * affinity < math.log(kappa) - CERTAIN:  # then 1 - gamma < exp(2 affinity) / kappa
        return 1.0
    slopes = np.geomspace(1e-3, 1e3, 200)[:, None]  # Chernoff: where the sum ends, down and up
    below = (steps * logsumexp(log_absent - slopes * ratios, axis=1) + CERTAIN) / slopes[:, 0]
    above = (steps * logsumexp(log_present + slopes * ratios, axis=1) + CERTAIN) / slopes[:, 0]
    low, high = float(below.min()), float(above.min())
    spare = min(steps, FINE // 8)  # places by which rounding may move a sum at most, or with any probability at all
    width = (low + high) / (FINE - 2 - 2 * spare)
    low, high = low + spare * width, high + spare * width
    ratios, absent, present = _grid(step, width, max(lowest, -low), min(highest, high))
    places = np.rint(ratios / width).astype(np.int64)
    first = -math.floor(low / width)
    level, power = (_power(mass, places, steps, first) for mass in (absent, present))
    missed = np.concatenate([[0.0], np.cumsum(power)])[:-1]  # with the image, strictly below each place
    levels = np.cumsum(level[::-1])  # without it, from the top down to and including each place
    gamma = np.interp(kappa, np.concatenate([[0.0], levels]), 1 - np.concatenate([[power.sum()], missed[::-1]]))
    return float(np.clip(gamma, kappa, 1))


def _grid(step: _Step, width: float, lowest: float, highest: float) -> tuple[Floats, Floats, Floats]:
    """Log-likelihood ratios at multiples of `width`, and how likely each is without and with the image.

    What lies between two of them is shared out so that both probabilities keep their sums (Doroshenko et al. 2022,
    arXiv 2207.04380): a pair that is never easier to confuse than the true one. What lies above is left out of both.
    """
    start = math.floor(lowest / width)
    ratios: Floats = width * np.arange(start, max(start + 1, math.ceil(highest / width)) + 1.0)
    absent, present = step.between(ratios)
    upper = np.clip((present * np.exp(-ratios[:-1]) - absent) / math.expm1(width), 0, absent)
    without = np.append(absent - upper, 0.0) + np.insert(upper, 0, 0.0)
    without[0] += max(0.0, 1 - float(step.between(np.array([ratios[0], np.inf]))[0][0]))
    return ratios, without, without * np.exp(ratios)


def _power(mass: Floats, places: NDArray[np.int64], steps: int, first: int) -> Floats:
    """The distribution of a sum of `steps` independent places, from place `first` on."""
    circle = np.zeros(FINE)
    np.add.at(circle, places % FINE, mass)
    composed = np.fft.irfft(np.fft.rfft(circle) ** steps, FINE)
    return np.maximum(np.roll(composed, -first), 0)
