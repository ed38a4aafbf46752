"""GradDefense (Wang et al. 2022): half of ten equally sensitive slices of the gradient get noise."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.types import Batch, Images, Match, Memory, Params, Update, View, victims


@dataclass(frozen=True)
class GradDefense(Defense):
    """A layer's sensitivity is mean_i |d (1^T grad_l) / d x_i| on public images, `root` per class. The flat gradient
    is cut into `slices` of equal total sensitivity, each layer's spread evenly; `noisy` of them, fresh in every step,
    get N(0, scale^2). Paper: the server does not denoise; sensitivities are renewed after `every` steps.
    """

    citation: ClassVar[str] = (
        "Wang, Guo, Xie, Qi: Protect privacy from gradient leakage attack in federated learning, INFOCOM 2022"
    )
    place = "gradient"
    knob = "scale"
    sweep = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
    neutral = "graddefense(scale=0)"
    stochastic: ClassVar[bool] = True
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    slices: Annotated[int, Field(ge=1)] = 10
    noisy: Annotated[int, Field(ge=0)] = 5  # of them; more than all are all
    root: Annotated[int, Field(ge=1)] = 5
    every: Annotated[int, Field(ge=1)] = 100

    def fit(self, aux: Images, draws: Draws) -> Self:
        """The root set: the first auxiliary images of every class."""
        index = torch.cat([(aux.y == c).nonzero()[: self.root, 0] for c in aux.y.unique()])
        return replace(self, state={"x": aux.x[index], "y": aux.y[index]})

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        memory = {} if memory is None else memory
        v, plain = len(batch.y), mean_gradient(net, batch, params=params)
        if not self.scale:
            return plain
        steps = memory.get("steps", batch.x.new_zeros(v))
        if int(steps[0]) % self.every == 0:
            memory["sensitivity"] = self.sensitivity(net).expand(v, -1)
        memory["steps"] = steps + 1
        where = self.cut(plain, memory["sensitivity"])
        chosen = draws.at("slices").permutation(self.slices)[:, : self.noisy].to(batch.x.device)
        noisy = torch.zeros(v, self.slices, dtype=torch.bool, device=batch.x.device).scatter(1, chosen, True)
        update: Update = {}
        for name, g in plain.items():
            assert g is not None
            noise = self.scale * draws.at(name).normal(g[0].numel(), like=g)
            update[name] = g + (noise * noisy.gather(1, where[name])).view_as(g)
        return update

    def sensitivity(self, net: nn.Module) -> Tensor:
        """(parameters,) on the root set."""
        x = self.state["x"].unsqueeze(1).requires_grad_()
        each = mean_gradient(net, Batch(x, self.state["y"].unsqueeze(1)), create_graph=True)
        sums = [g.sum() for g in each.values() if g is not None]
        moved = [torch.autograd.grad(s, x, retain_graph=True, allow_unused=True)[0] for s in sums]
        return torch.stack([x.new_zeros(()) if d is None else d.flatten(1).norm(dim=1).mean() for d in moved]).detach()

    def cut(self, update: Update, sensitivity: Tensor) -> dict[str, Tensor]:
        """The slice of every entry, {name: (v, entries)}."""
        ends = sensitivity.double().cumsum(1)
        total, where = ends[:, -1:].clamp(min=1e-300), dict[str, Tensor]()
        for i, (name, g) in enumerate(update.items()):
            assert g is not None
            middle = (torch.arange(g[0].numel(), device=g.device) + 0.5) / g[0].numel()
            mass = ends[:, i : i + 1] + (middle - 1) * sensitivity[:, i : i + 1]
            where[name] = (self.slices * mass / total).long().clamp(0, self.slices - 1)
        return where

    def merged(self, messages: list[Update]) -> Update:
        """An entry that two messages agree on is free of noise; elsewhere the first speaks."""
        return {
            name: None if g is None else _agreed(torch.stack([h for m in messages if (h := m[name]) is not None]))
            for name, g in messages[0].items()
        }

    def match(self, view: View) -> Match:
        """A slice counts by its deviation: sqrt(tiny / (tiny + P scale^2)), P how likely it is noisy.

        The server knows the root set as clients do, hence the slices, and how much of a gradient each should hold.
        Without it absolute differences, which forgive large errors.
        """
        if not self.state or not self.scale:
            return Match(distance="l1" if self.scale else "cos", linear=False)
        where = self.cut(view.update, self.sensitivity(view.model).expand(victims(view.update), -1))
        x, y = (self.state[part].unsqueeze(1) for part in "xy")
        root = mean_gradient(view.model, Batch(x, y))
        entries = self._by_slice(where, {k: torch.ones_like(g) for k, g in view.update.items() if g is not None})
        at_root = {k: w[:1].expand(len(y), -1) for k, w in where.items()}
        seen = self._by_slice(where, view.update) / entries.clamp(min=1)
        known = self._by_slice(at_root, root) / entries[:1].clamp(min=1)
        noise = self.scale**2 * self._noisy(seen, known, entries[0])
        tiny = 1e-3 * known.mul(entries[:1]).sum(1).median() / entries[0].sum() + 1e-30  # what no search fits better
        factor = (tiny / (tiny + noise)).sqrt()
        return Match(
            linear=False,
            mask={k: None if g is None else factor.gather(1, where[k]).view_as(g) for k, g in view.update.items()},
        )

    def _noisy(self, seen: Tensor, known: Tensor, entries: Tensor) -> Tensor:
        """(v, slices): how likely each is to be noisy, from the mean squares of messages, `known` (n, slices) without
        noise. Logarithms are taken as normal, about those of the root set moved together by what a message is stronger
        or weaker; that level is sought, then the `noisy` most suspicious slices.
        """
        observed, usual = (t.clamp(min=1e-30).log() for t in (seen, known))
        level = usual.mean(1, keepdim=True)
        spread = ((usual - level).var(0) + 0.1).sqrt()  # few images show too little of it
        strayed = torch.linspace(-4, 4, 81).to(seen)[:, None]
        clean = usual.mean(0) + strayed * (level.std() + 0.5)
        noisy = (clean.exp() + self.scale**2).log()
        own = clean.exp() / noisy.exp()
        wide = (own.square() * spread.square() + 2 / entries.clamp(min=1) + 0.01).sqrt()

        def likely(mean: Tensor, deviation: Tensor) -> Tensor:  # (v, levels, slices)
            return -0.5 * ((observed[:, None] - mean) / deviation).square() - deviation.log()

        without = likely(clean, spread)
        doubt = (likely(noisy, wide) - without).sort(dim=2, descending=True)
        count = min(self.noisy, self.slices)
        best = (without.sum(2) + doubt.values[..., :count].sum(2) - 0.5 * strayed[:, 0].square()).argmax(1)
        ranked, order = (t[torch.arange(len(best)), best] for t in (doubt.values, doubt.indices))
        ends = F.pad(F.pad(ranked, (1, 0), value=torch.inf), (0, 1), value=-torch.inf)
        bar = ends[:, count : count + 2].mean(1, keepdim=True)
        if count < self.slices:  # several messages leave fewer noisy
            bar = bar.clamp(min=0)
        return torch.zeros_like(seen).scatter(1, order, (ranked - bar).sigmoid())

    def _by_slice(self, where: dict[str, Tensor], update: Update) -> Tensor:
        """Sum of squares, (v, slices)."""
        square = torch.cat([g.flatten(1) for g in update.values() if g is not None], 1).square()
        at = torch.cat([where[name] for name, g in update.items() if g is not None], 1)
        return square.new_zeros(len(at), self.slices).scatter_add(1, at, square)


def _agreed(each: Tensor) -> Tensor:
    """(messages, ...) -> (...): a number that occurs twice, else the first."""
    out, ordered = each[0], each.sort(dim=0).values
    for one, other in pairwise(ordered):
        out = torch.where(one == other, one, out)
    return out
