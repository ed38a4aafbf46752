"""Cocktail Party Attack (Kariyappa et al. 2023): rows of a linear layer's gradient are mixtures, unmixed as by ICA."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.first_linear import reason_against, rows_of
from gibench.engine.labels import labels_of
from gibench.engine.optimisers import Point, Search
from gibench.engine.search import as_gradient, descend
from gibench.engine.substitute import completed
from gibench.types import Guess, View

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class CocktailParty(Attack):
    """Sought are the b combinations of gradient rows whose differences of neighbouring pixels are least Gaussian.

    Paper: the contrast is the mean magnitude of whitened differences, which is negentropy and total variation in
    one; the bias gradient, which mixes ones as the weight gradient mixes images, gives each combination its sign and
    scale; with those, pixels outside [0, 1] are penalised. Any activation, no labels.
    """

    citation: ClassVar[str] = (
        "Kariyappa, Guo, Maeng, Xiong, Suh, Qureshi, Lee: Cocktail party attack: breaking aggregation-based privacy in "
        "federated learning using independent component analysis, ICML 2023, arXiv 2209.05578"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    steps: Annotated[int, Field(ge=1)] = 500
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    restarts: Annotated[int, Field(ge=1)] = 2
    box: Weight = 30.0  # weight of what lies outside [0, 1]
    apart: Weight = 0.2  # weight of the correlation between two images
    max_batch: Annotated[int, Field(ge=1)] = 16

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        if batch > self.max_batch:
            return f"a batch of {batch} is too large to unmix; max_batch is {self.max_batch}"
        reason = reason_against(net)
        width = next((m.out_features for m in net.modules() if isinstance(m, nn.Linear)), 0)
        return reason or (f"{width} rows hold fewer mixtures than {batch} images" if width < batch else "")

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        view = as_gradient(view)
        rows, b = rows_of(view), view.shape[0]
        silent = ~rows.weight.flatten(1).any(1)
        left, size, right = torch.linalg.svd(rows.weight, full_matrices=False)
        left, size, right = left[:, :, :b], size[:, :b].clamp(min=1e-30), right[:, :b]
        ones = (left.mT @ rows.bias.unsqueeze(2)) / size.unsqueeze(2)  # z = w right has w ones = 1
        steps = _differences(right, view.shape)
        white = _whitening(steps)
        steps, right, ones = white @ steps, white @ right, white @ ones

        def images(w: Tensor) -> Tensor:
            scale = w @ ones
            scale = torch.where(scale.abs() < 1e-3, torch.full_like(scale, 1e-3).copysign(scale), scale)
            pixels: Tensor = rows.pixels(w @ right / scale)
            return pixels

        def evaluate(point: Point, stream: Draws) -> Tensor:
            w = point["w"] / point["w"].norm(dim=2, keepdim=True)
            contrast = (w @ steps).abs().mean(2).sum(1)
            pixels = images(w)
            outside = ((-pixels).relu() + (pixels - 1).relu()).mean(2).sum(1)
            alike = (w @ w.mT).tril(-1).square().sum((1, 2))  # whitened: the correlation of the differences
            total: Tensor = contrast + self.box * outside + self.apart * alike
            return total

        search = Search(self.steps, self.lr, sign=False)
        best, least = rows.bias.new_empty(0), rows.bias.new_empty(0)
        for restart in range(self.restarts):
            own = draws.at("restart", restart)
            point, loss = descend(evaluate, {"w": own.at("start").normal(b, b, like=rows.bias)}, search, own)
            better = loss < least if restart else torch.ones_like(loss, dtype=torch.bool)
            best = torch.where(better[:, None, None], point["w"], best) if restart else point["w"]
            least = torch.where(better, loss, least) if restart else loss
        found = images(best).nan_to_num(0.5)
        x = completed([f[:0] if none else f for f, none in zip(found, silent.tolist(), strict=True)], view)
        return Guess(x, labels_of(view, view.update), least.nan_to_num(0).to(x), self.steps * self.restarts)


def _differences(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Of neighbouring pixels, (v, b, inputs) -> (v, b, differences)."""
    x = flat.unflatten(2, shape[1:])
    return torch.cat([x.diff(dim=-1).flatten(2), x.diff(dim=-2).flatten(2)], 2)


def _whitening(signals: Tensor) -> Tensor:
    """The map that makes signals (v, b, n) uncorrelated and of unit power, (v, b, b)."""
    values, vectors = torch.linalg.eigh(signals @ signals.mT / signals.shape[2])
    least = 1e-12 * values[:, -1:].clamp(min=1e-30)
    white: Tensor = vectors.mT / values.clamp(min=least).sqrt().unsqueeze(2)
    return white
