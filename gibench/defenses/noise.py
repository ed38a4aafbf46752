"""Additive noise (Zhu et al. 2019): every entry of the message gets Gaussian or Laplace noise of its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.types import Match, Memory, Update, View


@dataclass(frozen=True)
class Noise(Defense):
    """Deviation `sigma` under both laws; `relative`: sigma times the root mean square of the layer's gradient.

    Nothing is clipped, so that no epsilon can be claimed: `dpsgd` is the private one.
    """

    citation: ClassVar[str] = "Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv 1906.08935"
    place = "gradient"
    knob = "sigma"
    sweep = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    neutral = "noise(sigma=0)"
    stochastic: ClassVar[bool] = True
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    law: Literal["gauss", "laplace"] = "gauss"
    relative: bool = False

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        return {
            name: None
            if g is None
            else g + (self.sigma * _rms(g) if self.relative else self.sigma) * self._drawn(g, draws.at(name))
            for name, g in update.items()
        }

    def match(self, view: View) -> Match:
        """Layers count by the inverse of their noise: that is the Gaussian likelihood, its length left open.

        Cosine is least squares over every length of the gradient. Measured on trained nets: squared and absolute
        distances, the likelihoods with the length fixed, lose 10 dB to it, for Laplace noise too.
        """
        if not self.sigma:
            return Match()
        even = {name: None if g is None else (1 / _rms(g)).nan_to_num(posinf=0) for name, g in view.update.items()}
        return Match(linear=False, mask=even if self.relative else None)

    def _drawn(self, g: Tensor, draws: Draws) -> Tensor:
        """Of deviation 1."""
        if self.law == "gauss":
            return draws.normal(*g.shape[1:], like=g)
        exponential = -torch.log1p(-draws.uniform(2, *g.shape[1:], like=g))
        return (exponential[:, 0] - exponential[:, 1]) / 2**0.5


def _rms(g: Tensor) -> Tensor:
    """(v, 1, ...)."""
    rms = g.flatten(1).square().mean(1).sqrt()
    return rms.view(-1, *[1] * (g.dim() - 1))
