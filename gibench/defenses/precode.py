"""PRECODE (Scheliga et al. 2022): a variational bottleneck before a linear layer makes every gradient a random one."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.engine.first_linear import sole_input
from gibench.engine.labels import linears
from gibench.gradients import mean_gradient
from gibench.noise import Noisy, put_before
from gibench.types import Batch, Extra, Match, Update, View


@dataclass(frozen=True)
class Precode(Defense):
    """(mu, s) = encode(h), z = mu + softplus(s) eps, h' = decode(z); the loss gains beta KL / ln 2 per image.

    `where` counts linear layers. There is no neutral end: at beta = 0 the layers and their noise remain.
    Paper: utility is measured without noise, at z = mu.
    """

    citation: ClassVar[str] = (
        "Scheliga, Maeder, Seeland: PRECODE - a generic model extension to prevent deep gradient leakage, WACV 2022, "
        "arXiv 2108.04725"
    )
    place = "model"
    knob = "beta"
    sweep = (0.0, 1e-4, 1e-3, 1e-2, 0.1)
    stochastic: ClassVar[bool] = True
    k: Annotated[int, Field(ge=1, le=4096)] = 256
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    where: Literal["first", "middle", "last"] = "last"

    def network(self, net: nn.Module) -> nn.Module:
        names = linears(net)
        at = {"first": 0, "middle": len(names) // 2, "last": -1}[self.where]
        return put_before(net, names[at], lambda width: Bottleneck(width, self.k, self.beta)) if names else net

    def match(self, view: View) -> Match:
        """eps is a further unknown, and the gradients from the bottleneck on are left out (arXiv 2208.04767).

        One image's message gives eps away: a linear layer's gradient is delta times its input, so that encode and
        decode tell h and z. Either step alone is far weaker.
        """
        name, layer = bottleneck(view.model)
        names = list(view.update)
        later = names[names.index(f"{name}.encode.weight") :]

        def extra(draws: Draws) -> Extra:
            like = view.update[f"{name}.decode.bias"]
            assert like is not None
            if view.shape[0] > 1:
                return {"eps": draws.normal(view.shape[0], self.k, like=like)}
            with torch.no_grad():
                mean, deviation = layer.code(sole_input(view.update, f"{name}.encode"))
                return {"eps": ((sole_input(view.update, f"{name}.decode") - mean) / deviation).unsqueeze(1)}

        def gradient(net: nn.Module, batch: Batch, extra: Extra, draws: Draws) -> Update:
            noise = {name: extra["eps"]} if extra else {}
            sent = Batch(batch.x, batch.y, batch.weight, batch.size, noise)
            return mean_gradient(net, sent, create_graph=True)

        return Match(extra=extra, gradient=gradient, linear=False, weight=dict.fromkeys(later, 0.0))

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        return "" if linears(net) else "precode goes before a linear layer; this model has none"


class Bottleneck(Noisy):
    def __init__(self, width: int, k: int, beta: float) -> None:
        super().__init__(k)
        self.beta = beta
        self.encode, self.decode = nn.Linear(width, 2 * k), nn.Linear(k, width)

    def code(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of z."""
        mean, raw = self.encode(h).chunk(2, -1)
        return mean, F.softplus(raw)

    def forward(self, h: Tensor) -> Tensor:
        mean, deviation = self.code(h)
        divergence = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).sum(-1)
        self.cost = self.beta / math.log(2) * divergence
        out: Tensor = self.decode(mean if self.noise is None else mean + deviation * self.noise)
        return out


def bottleneck(net: nn.Module) -> tuple[str, Bottleneck]:
    """The layer that `network` put in, and its name."""
    return next((name, m) for name, m in net.named_modules() if isinstance(m, Bottleneck))
