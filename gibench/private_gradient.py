"""The Gaussian mechanism on images' gradients: made, simulated by an attacker, and accounted for."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from torch import nn

from gibench.accounting import epsilon
from gibench.bounds import GALLERY, gaussian, rero
from gibench.draws import Draws
from gibench.gradients import alone, clip_each, mean_gradient
from gibench.types import Batch, Match, Params, Update, View

if TYPE_CHECKING:
    from gibench.defenses import Exposure


def private_mean(
    net: nn.Module, batch: Batch, draws: Draws, params: Params | None, clip: float, multiplier: float
) -> Update:
    """(1/B) (sum_i g_i min(1, C/|g_i|) + N(0, multiplier^2 C^2)), B the expected size of a batch, C = clip."""
    size = batch.size or batch.y.shape[1]
    single, owner = alone(batch)
    own = None if params is None else {name: p[owner] for name, p in params.items()}
    update: Update = {}
    for name, g in clip_each(mean_gradient(net, single, params=own), clip).items():
        assert g is not None
        total = g.new_zeros(len(batch.y), *g.shape[1:]).index_add(0, owner, g)
        noise = draws.at(name).normal(*g.shape[1:], like=total)
        update[name] = (total + multiplier * clip * noise) / size
    return update


def likelihood(view: View, clip: float) -> Match:
    """Gaussian likelihood: squared distance to the simulated clipped gradient, fresh noise has mean zero."""
    if view.kind == "delta":  # the sum of several clipped steps: only its direction is simulated
        return Match(linear=False)
    return Match(distance="l2", linear=False, example=lambda each: clip_each(each, clip))


def usual_delta(exposure: Exposure) -> float:
    """N^-1.1 for N images of all clients."""
    return float(exposure.all_images**-1.1)


def spent(exposure: Exposure, multiplier: float, delta: float, accountant: str) -> dict[str, float | str]:
    """Per round one subsampled Gaussian; k local steps on the same images are one with sigma / sqrt(k).

    gdp_mu: one message about an image that is known to take part is mu-GDP (add or remove the image). rero_bound:
    with what probability any attack on one message can tell which of GALLERY equally likely images it is about,
    all other images known. rero_bound_training: the same from all messages of the training, Poisson-sampled.
    """
    sigma = multiplier / exposure.local_steps**0.5
    mu = 1 / sigma if sigma else inf
    return {
        "epsilon": epsilon(sigma, exposure.rate, exposure.rounds, delta, accountant),
        "delta": delta,
        "sampling_rate": exposure.rate,
        "accountant": accountant,
        "gdp_mu": mu,
        "rero_bound": float(gaussian(1 / GALLERY, mu)),
        "rero_bound_training": rero(1 / GALLERY, sigma, exposure.rate, exposure.rounds),
    }
