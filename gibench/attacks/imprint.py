"""Robbing the Fed (Fowl et al. 2022): a planted layer sorts images into bins of brightness; one alone is exact."""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.first_linear import rows_of
from gibench.engine.labels import labels_of
from gibench.engine.search import as_gradient
from gibench.engine.substitute import completed
from gibench.types import Guess, Images, View


@dataclass(frozen=True)
class Imprint(Attack):
    """Linear(d, bins), ReLU, Linear(bins, d) in front of the model: row k is active for images brighter than cut k.

    Neighbouring rows differ by what lies between their cuts. The cuts are quantiles of auxiliary images, or without
    them of a normal distribution. Needs no labels. The loss is the share of the batch that was not found.
    """

    citation: ClassVar[str] = (
        "Fowl, Geiping, Czaja, Goldblum, Goldstein: Robbing the Fed: directly obtaining private data in federated "
        "learning with modified models, ICLR 2022, arXiv 2110.13057"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "active_server"})
    bins: Annotated[int, Field(ge=2)] = 128
    direction: Literal["mean", "random"] = "mean"  # what is measured of an image

    def plant(self, net: nn.Module, shape: tuple[int, ...], aux: Images | None, draws: Draws) -> nn.Module:
        like = next(net.parameters())
        d = shape[1] * shape[2] * shape[3]
        h = torch.full((d,), 1 / d, dtype=torch.float64)
        if self.direction == "random":
            h = draws.at("direction").normal(d)[0].double() / d**0.5
        cuts = _cuts(h, self.bins, aux)
        # All columns are equal, so that every active row receives the same signal of an image; its random signs
        # keep the model behind from cancelling it.
        signs = draws.at("signs").normal(d, 1)[0].sign() / self.bins
        read, write = nn.utils.skip_init(nn.Linear, d, self.bins), nn.utils.skip_init(nn.Linear, self.bins, d)
        with torch.no_grad():
            read.weight.copy_(h.expand(self.bins, d))
            read.bias.copy_(-cuts)
            write.weight.copy_(signs.expand(d, self.bins))
            write.bias.fill_(0.5)
        block = [nn.Flatten(), read, nn.ReLU(), write, nn.Unflatten(1, shape[1:])]
        return nn.Sequential(*[layer.to(like) for layer in block], copy.deepcopy(net)).train(net.training)

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        view = as_gradient(view)
        rows, b = rows_of(view), view.shape[0]
        last = rows.bias.new_zeros(len(rows.bias), 1)
        weight = torch.cat([rows.weight, last.unsqueeze(2).expand(-1, -1, rows.weight.shape[2])], 1)
        between, signal = -weight.diff(dim=1), -torch.cat([rows.bias, last], 1).diff(dim=1)
        tol = 1e-10 if next(iter(view.model.parameters())).dtype == torch.float64 else 1e-5
        found = []
        for w, s in zip(between, signal, strict=True):
            filled = (s.abs() > tol * s.abs().max()).nonzero().flatten()
            filled = filled[s[filled].abs().argsort(descending=True)][:b]
            found.append(rows.pixels(w[filled] / s[filled].unsqueeze(1)))
        x = completed(found, view)
        lost = torch.tensor([1 - len(images) / b for images in found]).to(x)
        return Guess(x, labels_of(view, view.update), lost, 0)


def _cuts(h: Tensor, bins: int, aux: Images | None) -> Tensor:
    """Ascending, as many images between any two neighbours; below the first there is nothing, (bins,)."""
    share = torch.arange(1, bins, dtype=torch.float64) / bins
    lowest = h.clamp(max=0).sum().reshape(1) - 1e-3  # of any image in [0, 1]
    if aux is not None:
        cuts = (aux.x.flatten(1).double().cpu() @ h).quantile(share)
    else:
        # Grey levels like a standard normal, times 0.25, around 0.5; one mean and one scale for all pixels together.
        cuts = h.sum() / 2 + 0.25 * h.sum().abs().clamp(min=float(h.norm())) * torch.special.ndtri(share)
    return torch.cat([lowest, cuts])
