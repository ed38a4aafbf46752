"""CENSOR (Zhang et al. 2025): a random direction orthogonal to the gradient is sent, the best of several."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import cross_entropy, mean_gradient
from gibench.types import Batch, Match, Memory, Params, Update, View


@dataclass(frozen=True)
class Censor(Defense):
    """Layer by layer r - (<r, g> / |g|^2) g at the length of g; of `trials` such directions the client sends that with
    the least cross-entropy after theta - step r. There is no neutral end: no number of trials sends the gradient.
    """

    citation: ClassVar[str] = (
        "Zhang, Cheng, Shen, et al.: CENSOR: defense against gradient inversion via orthogonal subspace Bayesian "
        "sampling, NDSS 2025, arXiv 2501.15718"
    )
    place = "gradient"
    knob = "trials"
    sweep = (50, 20, 5, 1)  # the fewer, the less of the gradient's use is left
    stochastic: ClassVar[bool] = True
    trials: Annotated[int, Field(ge=1, le=1000)] = 20
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        plain = mean_gradient(net, batch, params=params)
        weights = {name: p.detach().unsqueeze(0) for name, p in net.named_parameters()} if params is None else params
        best, least = dict[str, Tensor](), batch.x.new_full((len(batch.y),), torch.inf).double()
        for trial in range(self.trials):
            sent = {name: _orthogonal(g, draws.at(trial, name)) for name, g in plain.items() if g is not None}
            if self.trials == 1:  # nothing to compare
                return dict(sent)
            loss = _loss_at(net, batch, {name: weights[name] - self.step * r for name, r in sent.items()})
            better = loss < least
            least = torch.where(better, loss, least)
            best = {
                name: torch.where(better.view(-1, *[1] * (r.dim() - 1)), r, best.get(name, r))
                for name, r in sent.items()
            }
        return dict(best)

    def match(self, view: View) -> Match:
        """A few numbers are left to match: each layer's length is the gradient's, and nothing lies along it.

        They say little: what can be learned about the image is learned by `lti` or known before (`prior_only`).
        """

        def transform(update: Update, draws: Draws) -> Update:
            return {name: None if g is None else _misfit(update[name], g) for name, g in view.update.items()}

        return Match(distance="l2", linear=False, transform=transform)


def _misfit(g: Tensor | None, u: Tensor) -> Tensor:
    """u, moved along itself by how much g fails to be as long as u and orthogonal to it."""
    assert g is not None
    simulated, observed = g.flatten(1), u.flatten(1)
    length = observed.norm(dim=1).clamp(min=1e-30)
    along = (simulated * observed).sum(1) / length
    longer = (simulated.square().sum(1) + 1e-30).sqrt() - length
    apart = (along.square() + longer.square() + 1e-30).sqrt()
    out: Tensor = u + (observed * (apart / length)[:, None]).view_as(u)
    return out


def _orthogonal(g: Tensor, draws: Draws) -> Tensor:
    """A random tensor with no part along g (v, *shape) and of its length. A single number has no other direction."""
    flat = g.flatten(1)
    r = draws.normal(flat.shape[1], like=g)
    square = flat.square().sum(1, keepdim=True)
    for _ in range(2):  # once more against rounding
        r = r - (r * flat).sum(1, keepdim=True) / square.clamp(min=1e-30) * flat
    r = r * square.sqrt() / r.norm(dim=1, keepdim=True).clamp(min=1e-30)
    out: Tensor = r.view_as(g)
    return out


def _loss_at(net: nn.Module, batch: Batch, params: dict[str, Tensor]) -> Tensor:
    """(v,) of every client's images at weights of its own; double: the trials differ in the tenth digit."""
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in net.named_buffers()}
    own = {name: p.double() for name, p in params.items()}
    with torch.no_grad():
        logits = vmap(lambda p, x: functional_call(net, (p, buffers), (x,)))(own, batch.x.double())
        return cross_entropy(logits, batch)
