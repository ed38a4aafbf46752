"""DP-SGD (Abadi et al. 2016): every image's gradient is clipped, Gaussian noise is added to their sum."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.defenses import Defense, Exposure
from gibench.draws import Draws
from gibench.private_gradient import likelihood, private_mean, spent, usual_delta
from gibench.types import Batch, Match, Memory, Params, Update, View


@dataclass(frozen=True)
class DPSGD(Defense):
    """Noise of `sigma` times the clipping length, on a Poisson-sampled batch; see `gibench.private_gradient`."""

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

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        return private_mean(net, batch, draws, params, self.clip, self.sigma)

    def match(self, view: View) -> Match:
        return likelihood(view, self.clip)

    def accounting(self, exposure: Exposure) -> dict[str, float | str]:
        return spent(exposure, self.sigma, self.delta or usual_delta(exposure), self.accountant)
