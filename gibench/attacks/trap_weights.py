"""Trap weights (Boenisch et al. 2023): planted rows that few images activate, so that some image is alone in a row."""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.attacks.analytic_fc import AnalyticFC
from gibench.draws import Draws
from gibench.engine.first_linear import first_linear, normalisation, reason_against
from gibench.types import Images


@dataclass(frozen=True)
class TrapWeights(AnalyticFC):
    """In a trap row half of the weights are negative; the other half are their magnitudes, a little smaller, shuffled.

    What comes back is read like `analytic_fc` does. Rows beyond `rows` stay as they were.
    """

    citation: ClassVar[str] = (
        "Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov, Papernot: When the curious abandon honesty: federated "
        "learning is not private, EuroS&P 2023, arXiv 2112.02918"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "active_server"})
    rows: Annotated[int, Field(ge=1)] | None = None  # None: twice the batch
    scale: Annotated[float, Field(gt=0, le=1)] = 0.95  # of the positive half
    s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5  # deviation of the weights
    # Bias on images in [0, 1]. None: with auxiliary images, each row's own, which one image of a batch is expected to
    # pass; otherwise 0. Paper: tuned by hand for every dataset.
    mu: Annotated[float, Field(allow_inf_nan=False)] | None = None

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        return reason_against(net, relu=True)

    def plant(self, net: nn.Module, shape: tuple[int, ...], aux: Images | None, draws: Draws) -> nn.Module:
        net = copy.deepcopy(net)
        layer = first_linear(net)[1]
        offset, scale = normalisation(net, shape)
        count, d = min(self.rows or 2 * shape[0], layer.out_features), layer.in_features
        traps = draws.of(range(count))
        order = traps.at("halves").permutation(d)  # of each row: which pixels pull down, then which push up
        magnitude = self.s * traps.at("weights").normal(d // 2).double().abs()
        shuffled = magnitude.gather(1, traps.at("shuffle").permutation(d // 2))
        rows = torch.zeros(count, d, dtype=torch.float64)
        rows.scatter_(1, order[:, : d // 2], -magnitude)
        rows.scatter_(1, order[:, d // 2 : d // 2 * 2], self.scale * shuffled)
        rows = rows.to(offset)
        bias = rows.new_full((count,), self.mu or 0.0)
        if self.mu is None and aux is not None:
            bias = -(rows @ aux.x.flatten(1).to(rows).T).quantile(1 - 1 / shape[0], dim=1)
        rows = rows / scale  # the layer sees offset + scale * pixels, the trap is set for pixels
        with torch.no_grad():
            layer.weight[:count] = rows.to(layer.weight)
            layer.bias[:count] = (bias - rows @ offset).to(layer.bias)
        return net
