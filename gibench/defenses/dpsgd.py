"""DP-SGD (Abadi et al. 2016): every image's gradient is clipped, Gaussian noise is added to their sum."""

from __future__ import annotations

from math import inf
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.accounting import epsilon
from gibench.bounds import GALLERY, gaussian, rero
from gibench.defenses import Defense, Exposure
from gibench.draws import Draws
from gibench.gradients import alone, clip_each, mean_gradient
from gibench.types import Batch, Match, Memory, Params, Update, View


@dataclass(frozen=True)
class DPSGD(Defense):
    """(1/B) (sum_i g_i min(1, C/|g_i|) + N(0, sigma^2 C^2)), B the expected size of a Poisson-sampled batch."""

    citation: ClassVar[str] = (
        "Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang: Deep learning with differential privacy, CCS 2016, "
        "arXiv 1607.00133"
    )
    place = "gradient"
    knob = "sigma"
    sweep = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    neutral = "dpsgd(sigma=0, clip=1e6)"
    stochastic: ClassVar[bool] = True
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "poisson"
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None  # None: N^-1.1 for N images of all clients
    accountant: Literal["rdp", "prv"] = "rdp"

    @property
    def multiplier(self) -> float:
        """The noise's deviation over the clipping length."""
        return self.sigma

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        size = batch.size or batch.y.shape[1]
        single, owner = alone(batch)
        own = None if params is None else {name: p[owner] for name, p in params.items()}
        update: Update = {}
        for name, g in clip_each(mean_gradient(net, single, params=own), self.clip).items():
            assert g is not None
            total = g.new_zeros(len(batch.y), *g.shape[1:]).index_add(0, owner, g)
            noise = draws.at(name).normal(*g.shape[1:], like=total)
            update[name] = (total + self.multiplier * self.clip * noise) / size
        return update

    def match(self, view: View) -> Match:
        """Gaussian likelihood: squared distance to the simulated clipped gradient, fresh noise has mean zero."""
        if view.kind == "delta":  # the sum of several clipped steps: only its direction is simulated
            return Match(linear=False)
        return Match(distance="l2", linear=False, example=lambda each: clip_each(each, self.clip))

    def accounting(self, exposure: Exposure) -> dict[str, float | str]:
        """Per round one subsampled Gaussian; k local steps on the same images are one with sigma / sqrt(k).

        gdp_mu: one message about an image that is known to take part is mu-GDP (add or remove the image). rero_bound:
        with what probability any attack on one message can tell which of GALLERY equally likely images it is about,
        all other images known. rero_bound_training: the same from all messages of the training, Poisson-sampled.
        """
        delta, rate = self.delta_of(exposure), exposure.rate
        sigma = self.multiplier / exposure.local_steps**0.5
        spent = epsilon(sigma, rate, exposure.rounds, delta, self.accountant)
        mu = 1 / sigma if sigma else inf
        return {
            "epsilon": spent,
            "delta": delta,
            "sampling_rate": rate,
            "accountant": self.accountant,
            "gdp_mu": mu,
            "rero_bound": float(gaussian(1 / GALLERY, mu)),
            "rero_bound_training": rero(1 / GALLERY, sigma, rate, exposure.rounds),
        }

    def delta_of(self, exposure: Exposure) -> float:
        return self.delta or exposure.all_images**-1.1
