"""Dropout (Srivastava et al. 2014; as a defense Scheliga et al. 2023): features are left out at random in training."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.engine.labels import linears
from gibench.gradients import mean_gradient
from gibench.noise import Noisy, put_before
from gibench.types import Batch, Extra, Match, Update, View


@dataclass(frozen=True)
class Dropout(Defense):
    """Before each of the last `layers` linear layers a feature stays with probability 1 - p, then divided by 1 - p."""

    citation: ClassVar[str] = (
        "Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout, JMLR 15, 2014; Scheliga, Maeder, Seeland: "
        "Dropout is NOT all you need to prevent gradient leakage, AAAI 2023, arXiv 2208.06163"
    )
    place = "model"
    knob = "p"
    sweep = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    neutral = "dropout(p=0)"
    stochastic: ClassVar[bool] = True
    p: Annotated[float, Field(ge=0, lt=1)] = 0.5
    layers: Annotated[int, Field(ge=1)] = 1

    def network(self, net: nn.Module) -> nn.Module:
        for name in linears(net)[-self.layers :]:
            net = put_before(net, name, lambda width: Mask(width, self.p))
        return net

    def match(self, view: View) -> Match:
        """Masks are further unknowns (Scheliga et al. 2023), held to a share p of zeros. One image's mask is visible:
        the columns of the next layer's gradient that are zero."""
        masks = {name: m for name, m in view.model.named_modules() if isinstance(m, Mask)}
        odds = math.log((1 - self.p + 1e-3) / (self.p + 1e-3))

        def extra(draws: Draws) -> Extra:
            return {name: odds + draws.at(name).normal(view.shape[0], *m.size) for name, m in masks.items()}

        def gradient(net: nn.Module, batch: Batch, extra: Extra, draws: Draws) -> Update:
            kept = {name: free.sigmoid() for name, free in extra.items()}
            if view.shape[0] == 1:
                kept = {name: _visible(view.update, name) for name in masks}
            noise = {name: m / (1 - self.p) for name, m in kept.items()}
            return mean_gradient(net, Batch(batch.x, batch.y, batch.weight, batch.size, noise), create_graph=True)

        def penalty(extra: Extra) -> Tensor:
            return torch.stack([((1 - free.sigmoid()).mean((1, 2)) - self.p).square() for free in extra.values()]).sum(
                0
            )

        several = view.shape[0] > 1
        return Match(
            extra=extra if several else None, penalty=penalty if several else None, gradient=gradient, linear=False
        )

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        known = len(linears(net))
        return "" if known >= self.layers else f"dropout before {self.layers} linear layers; this model has {known}"


class Mask(Noisy):
    """`noise` is 1 / (1 - p) where a feature stays and 0 where it is left out; without it all stay as they are."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__(width)
        self.p = p

    def draw(self, b: int, draws: Draws, like: Tensor) -> Tensor:
        return (draws.uniform(b, *self.size, like=like) >= self.p).to(like) / (1 - self.p)

    def forward(self, h: Tensor) -> Tensor:
        return h if self.noise is None else h * self.noise


def _visible(update: Update, mask: str) -> Tensor:
    """(v, 1, features): 1 where the column of the layer behind the mask is not zero."""
    g = update[f"{mask.rpartition('.')[0]}.1.weight"]
    assert g is not None
    return (g != 0).any(1, keepdim=True).to(g)
