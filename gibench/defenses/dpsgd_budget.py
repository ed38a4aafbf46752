"""DP-SGD at a privacy budget: the noise is what the accountant asks for over the whole training."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.accounting import noise_multiplier
from gibench.defenses import Defense, Exposure
from gibench.draws import Draws
from gibench.private_gradient import likelihood, private_mean, spent, usual_delta
from gibench.types import Batch, Match, Memory, Params, Update, View


@dataclass(frozen=True)
class DPSGDBudget(Defense):
    """`dpsgd` with sigma solved for (epsilon, delta), rate and rounds of the training. An infinite epsilon only clips.

    Published: budgets from 1 to 1e12, of which up to about 1e9 are said to stop reconstruction at little cost. This
    project's reading: sigma by opacus' Renyi accountant, or by concentrated DP where its orders end.
    """

    citation: ClassVar[str] = (
        "Ziller, Mueller, Stieger, Feiner, Brandt, Braren, Rueckert, Kaissis: Reconciling privacy and accuracy in AI "
        "for medical imaging, Nature Machine Intelligence 2024, arXiv 2312.04590"
    )
    place = "gradient"
    knob = "epsilon"
    sweep = (1e12, 1e9, 1e6, 1e3, 20.0, 8.0, 1.0)
    neutral = "dpsgd_budget(epsilon=inf, clip=1e6)"
    stochastic: ClassVar[bool] = True
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "poisson"
    epsilon: Annotated[float, Field(gt=0)] = 1e9
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None  # None: N^-1.1 for N images of all clients

    @property
    def multiplier(self) -> float:
        """sigma; before a training is planned that of one round that every image takes part in."""
        solved = self.state.get("multiplier")
        return noise_multiplier(self.epsilon, 1.0, 1, self.delta or 1e-5) if solved is None else float(solved)

    def planned(self, exposure: Exposure) -> Self:
        """k local steps on the same images count as one with sigma / sqrt(k)."""
        delta = self.delta or usual_delta(exposure)
        sigma = noise_multiplier(self.epsilon, exposure.rate, exposure.rounds, delta) * exposure.local_steps**0.5
        return replace(self, state={**self.state, "multiplier": torch.tensor(sigma, dtype=torch.float64)})

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        return private_mean(net, batch, draws, params, self.clip, self.multiplier)

    def match(self, view: View) -> Match:
        return likelihood(view, self.clip)

    def accounting(self, exposure: Exposure) -> dict[str, float | str]:
        return spent(exposure, self.multiplier, self.delta or usual_delta(exposure), "rdp")
