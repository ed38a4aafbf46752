"""Weight noise (Wu et al. 2020): every use of the model, also in training, is at weights plus fresh noise."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.types import Batch, Extra, Match, Memory, Params, Update, View


@dataclass(frozen=True)
class WeightNoise(Defense):
    """The gradient is that at theta + N(0, sigma^2), and every inference has noise of its own."""

    citation: ClassVar[str] = (
        "Wu, Zhang, Ding, Nguyen, Yu, Pan, Wong: Evaluation of inference attack models for deep learning on medical "
        "data, 2020, arXiv 2011.00177"
    )
    place = "model"
    knob = "sigma"
    sweep = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
    neutral = "weight_noise(sigma=0)"
    stochastic: ClassVar[bool] = True
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.02

    def weights(self, net: nn.Module, draws: Draws, memory: Memory) -> Params | None:
        if not self.sigma:
            return None
        return {
            name: p.detach() + self.sigma * draws.at(name).normal(*p.shape, like=p)
            for name, p in net.named_parameters()
        }

    def match(self, view: View) -> Match:
        """The noise, in units of sigma, is searched for together with the images and held to its prior.

        Averaging over fresh noise (EOT) gains next to nothing over not knowing the defense.
        """

        def extra(draws: Draws) -> Extra:
            v = len(draws.members)
            return {name: torch.zeros(v, *p.shape) for name, p in view.model.named_parameters()}

        def gradient(net: nn.Module, batch: Batch, extra: Extra, draws: Draws) -> Update:
            params = (
                {name: p.detach() + self.sigma * extra[name] for name, p in net.named_parameters()} if extra else None
            )
            return mean_gradient(net, batch, params=params, create_graph=True)

        def penalty(extra: Extra) -> Tensor:
            return 0.01 * torch.cat([n.flatten(1) for n in extra.values()], 1).square().mean(1)

        return Match(extra=extra, gradient=gradient, penalty=penalty, linear=False) if self.sigma else Match()
