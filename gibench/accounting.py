"""Privacy accounting of the Poisson-subsampled Gaussian mechanism: what noise spends, and what a budget asks for."""

from __future__ import annotations

import math
import warnings

from gibench.errors import InputError


def epsilon(sigma: float, rate: float, steps: int, delta: float, accountant: str = "rdp") -> float:
    """epsilon of `steps` releases at noise multiplier `sigma` and sampling rate `rate`; infinite without noise.

    By opacus (Renyi DP, or the privacy random variable of Gopi et al. 2021). At the tiny sigmas of this field
    (epsilon beyond 1e3) subsampling no longer amplifies numerically; then the composition of the plain Gaussian
    mechanism, rho-zCDP with rho = steps / (2 sigma^2) (Bun & Steinke 2016, Prop. 1.3), is the smaller valid bound.
    """
    if sigma == 0:
        return math.inf
    rho = steps / (2 * sigma**2)
    bound = rho + 2 * math.sqrt(rho * math.log(1 / delta))
    if bound > 1e6:
        return bound
    from opacus.accountants import PRVAccountant, RDPAccountant

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # opacus warns when the best order is the largest; the bound still holds
        book = PRVAccountant() if accountant == "prv" and bound < 100 else RDPAccountant()
        book.history = [(sigma, rate, steps)]
        return min(bound, float(book.get_epsilon(delta)))


def noise_multiplier(epsilon: float, rate: float, steps: int, delta: float) -> float:
    """The least sigma that two accountants find for (epsilon, delta); 0 for an infinite epsilon.

    rho-zCDP gives rho + 2 sqrt(rho log(1 / delta)) <= epsilon for rho = steps / (2 sigma^2) (Bun & Steinke 2016),
    about sigma = sqrt(steps / (2 epsilon)) where epsilon is huge; it stands alone where opacus has no answer.
    """
    if not epsilon > 0:
        raise InputError(f"a privacy budget of epsilon={epsilon}; allowed: > 0")
    if math.isinf(epsilon):
        return 0.0
    doubt = math.log(1 / delta)
    # sqrt(epsilon + doubt) - sqrt(doubt), without cancellation
    closed = math.sqrt(steps / 2) * (math.sqrt(epsilon + doubt) + math.sqrt(doubt)) / epsilon
    return min(closed, _by_opacus(epsilon, rate, steps, delta))


def _by_opacus(epsilon: float, rate: float, steps: int, delta: float) -> float:
    from opacus.accountants.utils import get_noise_multiplier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the best order is the smallest or the largest; the bound still holds
        try:
            # Paper: an absolute tolerance of .01, opacus' own, means nothing at 1e12 and too much at .1.
            sigma = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant="rdp",
                epsilon_tolerance=epsilon * 1e-6,
            )
        except (ValueError, OverflowError):
            return math.inf
    return float(sigma) if math.isfinite(sigma) and sigma > 0 else math.inf
