"""Privacy accounting of the Poisson-subsampled Gaussian mechanism."""

from __future__ import annotations

import math
import warnings


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
