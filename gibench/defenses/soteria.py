"""Soteria (Sun et al. 2021): columns of a linear layer's gradient are cut where features tell most about the image."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.func import vjp, vmap

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.engine.labels import head, linears
from gibench.gradients import input_of, mean_gradient
from gibench.types import Batch, Match, Memory, Params, Update, View

STEP = 0.01  # of difference quotients, in pixel values; shorter ones enlarge rounding, which differs in company


@dataclass(frozen=True)
class Soteria(Defense):
    """score_j = sum_i |d r_ij / d x_i| / (|r_ij| + eps) for the layer's inputs r_i; the columns j of the p % smallest
    scores become zero, ties by index. The layer's bias and all other gradients stay as they are.
    """

    citation: ClassVar[str] = (
        "Sun, Li, Wang, Yang, Li, Chen: Soteria: provable defense against privacy leakage in federated learning from "
        "representation perspective, CVPR 2021, arXiv 2012.06043"
    )
    place = "model"
    knob = "p"
    sweep = (0.0, 1.0, 10.0, 20.0, 40.0, 60.0, 80.0)
    neutral = "soteria(p=0)"
    p: Annotated[float, Field(ge=0, le=100)] = 40.0
    layer: str = "last_fc"  # or the name of another linear layer
    eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    # Paper: exact derivatives (0 here) take a backward pass per feature, 800 times an undefended step on a small net;
    # 8 random directions find 9 of 10 columns that those would cut on `convnet`, and 7 of 10 on `lenet`.
    probes: Annotated[int, Field(ge=0)] = 8

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.probes > 0

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        update, key = mean_gradient(net, batch, params=params), f"{self._name(net)}.weight"
        g = update[key]
        assert g is not None
        if cut := round(self.p / 100 * g.shape[2]):
            least = self.scores(net, batch, draws, params).argsort(dim=1, stable=True)[:, :cut]
            update[key] = g * torch.ones_like(g[:, 0]).scatter(1, least, 0).unsqueeze(1)
        return update

    def scores(self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None) -> Tensor:
        """(v, features); padding counts for nothing."""
        v, b = batch.x.shape[:2]
        filled = batch.x.new_ones(v, b) if batch.weight is None else batch.weight
        own = {name: p.detach() for name, p in net.named_parameters()} if params is None else params
        shape = (self.probes, *batch.x.shape[1:])
        directions = draws.at("probes").normal(*shape, like=batch.x).transpose(0, 1)  # (probes, v, b, ...)

        def each(p: dict[str, Tensor], x: Tensor, directions: Tensor) -> Tensor:
            """Images (n, ...) -> (n, features)."""

            def features(x: Tensor) -> Tensor:
                return input_of(net, self._name(net), p, x)

            if self.probes:  # E <d r_j / d x, t>^2 = |d r_j / d x|^2 for normal t
                r = features(x)
                square = torch.stack([(features(x + STEP * t) - r) / STEP for t in directions]).square().mean(0)
            else:  # a backward pass for each feature, of all images at once
                r, back = vjp(features, x)[:2]
                ones = torch.eye(r.shape[1]).to(r)
                square = vmap(lambda e: back(e.expand_as(r))[0].flatten(1).square().sum(1), chunk_size=32)(ones).T
            out: Tensor = square.sqrt() / (r.abs() + self.eps)
            return out

        if params is None:
            found = each(own, batch.x.flatten(0, 1), directions.flatten(1, 2)).unflatten(0, (v, b))
        else:
            found = vmap(each, in_dims=(0, 0, 1))(own, batch.x, directions)
        total: Tensor = (found.detach() * filled.unsqueeze(2)).sum(1)
        return total

    def match(self, view: View) -> Match:
        """The columns that were cut are visible: compare the others. Leaving out the whole layer is a little weaker."""
        return Match(mask={name: None if g is None else g != 0 for name, g in view.update.items()})

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        known = linears(net)
        if known and self.layer in ("last_fc", *known):
            return ""
        return f"soteria cuts a linear layer; this model has {', '.join(known) or 'none'}, not '{self.layer}'"

    def _name(self, net: nn.Module) -> str:
        return head(net) if self.layer == "last_fc" else self.layer
