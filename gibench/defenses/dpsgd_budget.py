"""DP-SGD at a privacy budget: the noise is what the accountant asks for over the whole training."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import pydantic
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.accounting import noise_multiplier
from gibench.defenses import Exposure
from gibench.defenses.dpsgd import DPSGD


@dataclass(frozen=True)
class DPSGDBudget(DPSGD):
    """`dpsgd` with sigma solved for (epsilon, delta), rate and rounds of the training. An infinite epsilon only clips.

    Published: budgets from 1 to 1e12, of which up to about 1e9 are said to stop reconstruction at little cost. This
    project's reading: sigma by opacus' Renyi accountant, or by concentrated DP where its orders end.
    """

    citation: ClassVar[str] = (
        "Ziller, Mueller, Stieger, Feiner, Brandt, Braren, Rueckert, Kaissis: Reconciling privacy and accuracy in AI "
        "for medical imaging, Nature Machine Intelligence 2024, arXiv 2312.04590"
    )
    knob = "epsilon"
    sweep = (1e12, 1e9, 1e6, 1e3, 20.0, 8.0, 1.0)
    neutral = "dpsgd_budget(epsilon=inf, clip=1e6)"
    sigma: float = pydantic.Field(default=0.0, init=False, repr=False)  # follows from the budget
    accountant: Literal["rdp", "prv"] = pydantic.Field(default="rdp", init=False, repr=False)
    epsilon: Annotated[float, Field(gt=0)] = 1e9

    @property
    def multiplier(self) -> float:
        """Before a training is planned: one round that every image takes part in."""
        solved = self.state.get("multiplier")
        return noise_multiplier(self.epsilon, 1.0, 1, self.delta or 1e-5) if solved is None else float(solved)

    def planned(self, exposure: Exposure) -> Self:
        """k local steps on the same images count as one with sigma / sqrt(k)."""
        sigma = noise_multiplier(self.epsilon, exposure.rate, exposure.rounds, self.delta_of(exposure))
        solved = torch.tensor(sigma * exposure.local_steps**0.5, dtype=torch.float64)
        return replace(self, state={**self.state, "multiplier": solved})
