"""Outpost (Wang et al. 2023): early steps are pruned, and entries of much Fisher information get noise."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import alone, mean_gradient
from gibench.sparse import largest
from gibench.types import Batch, Match, Memory, Params, Update, View

Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True)
class Outpost(Defense):
    """With probability 1 / (1 + beta t) in a client's step t: the `prune` % smallest entries of each layer become
    zero, then N(0, (base min(var(theta_l), 1))^2) is added where mean_i g_i^2 is among the layer's `phi` % largest.
    """

    citation: ClassVar[str] = (
        "Wang, Hugh, Li: More than enough is too much: adaptive defenses against gradient leakage in production "
        "federated learning, INFOCOM 2023"
    )
    place = "gradient"
    knob = "base"
    sweep = (0.0, 0.1, 0.8, 3.0, 10.0, 30.0)
    neutral = "outpost(prune=0, base=0)"
    stochastic: ClassVar[bool] = True
    phi: Percent = 40.0
    base: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.8
    prune: Percent = 80.0
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.125

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        memory = {} if memory is None else memory
        steps = memory.get("steps", batch.x.new_zeros(len(batch.y)))
        memory["steps"] = steps + 1
        coins = draws.at("coin").uniform(like=batch.x)
        acting = (coins < 1 / (1 + self.beta * steps)).nonzero().squeeze(1)
        single, owner = alone(batch)
        own = None if params is None else {name: p[owner] for name, p in params.items()}
        weights = {name: p.unsqueeze(0) for name, p in net.named_parameters()} if params is None else params
        images = torch.bincount(owner, minlength=len(batch.y))

        def mean(each: Tensor) -> Tensor:  # over each client's images, (v, n)
            if bool((images == 1).all()):
                return each
            total = each.new_zeros(len(batch.y), each.shape[1]).index_add(0, owner, each)
            return total / images.clamp(min=1)[:, None]

        update: Update = {}
        for name, each in mean_gradient(net, single, params=own).items():
            assert each is not None
            g = mean(each.flatten(1))
            if len(acting):  # what others would send, were it their turn, takes longer than their gradients
                fisher = mean(each.flatten(1).square())[acting]
                weight = weights[name].detach().flatten(1)
                spread = weight.var(1, correction=0, keepdim=True).clamp(max=1).expand(len(g), 1)[acting]
                theirs = draws.at(name).of([draws.members[k] for k in acting.tolist()])
                noise = self.base * spread * theirs.normal(g.shape[1], like=g)
                kept = g[acting] * _largest(g[acting].abs(), 100 - self.prune)
                g = g.index_copy(0, acting, kept + noise * _largest(fisher, self.phi))
            update[name] = g.view(-1, *each.shape[1:])
        return update

    def upload_bytes(self, update: Update) -> float:
        """Entries that are not zero with their places, where that is shorter."""
        shared = [g.flatten(1) for g in update.values() if g is not None]
        sizes = [(8 * g.count_nonzero(1)).clamp(max=4 * g.shape[1]) for g in shared]
        return float(torch.stack(sizes).sum(0).double().mean())

    def match(self, view: View) -> Match:
        """Where the message is not zero, the simulated gradient is pruned too, its choice of entries held fixed
        (straight-through), and a layer counts by the inverse of its noise's deviation. A victim whose message has fewer
        zeros than pruning leaves was not changed.
        """
        spread = {name: float(p.detach().var(correction=0).clamp(max=1)) for name, p in view.model.named_parameters()}
        least = max(0.01 * max(spread.values()), 1e-12)  # layers of equal weights get no noise
        weight = {name: least / max(s, least) for name, s in spread.items()} if self.base else None
        seen = {name: None if g is None else g != 0 for name, g in view.update.items()}
        nonzero = torch.cat([m.flatten(1) for m in seen.values() if m is not None], 1).double().mean(1)
        acted = nonzero <= (100 - self.prune + self.phi) / 100 + 0.01

        def transform(update: Update, draws: Draws) -> Update:
            size = {name: g.detach().flatten(1).abs() for name, g in update.items() if g is not None}
            kept = {name: _largest(s, 100 - self.prune) | ~acted[:, None] for name, s in size.items()}
            return {name: None if g is None else g * kept[name].view_as(g) for name, g in update.items()}

        return Match(mask=seen, weight=weight, transform=transform)


def _largest(size: Tensor, percent: float) -> Tensor:
    """True at each row's round(percent / 100 n) largest entries, ties by index."""
    return largest(size, round(percent / 100 * size.shape[1]))
