"""GradDefense (Wang et al. 2022): half of ten equally sensitive slices of the gradient get noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

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

    def match(self, view: View) -> Match:
        """Trimmed: the `noisy` slices whose mean square error is largest count as matched, in every step anew.

        Without the root set the slices are unknown; then absolute differences, which forgive large errors.
        """
        if not self.state or not self.scale:
            return Match(distance="l1" if self.scale else "cos", linear=False)
        u = {k: g for k, g in view.update.items() if g is not None}
        where = self.cut(view.update, self.sensitivity(view.model).expand(victims(view.update), -1))
        entries = self._by_slice(where, {k: torch.ones_like(g) for k, g in u.items()}).clamp(min=1)

        def transform(update: Update, draws: Draws) -> Update:
            error = self._by_slice(where, {k: (u[k] - g).detach() for k, g in update.items() if g is not None})
            worst = (error / entries).argsort(dim=1, descending=True)[:, : self.noisy]
            trimmed = torch.zeros_like(error, dtype=torch.bool).scatter(1, worst, True)
            at = {k: trimmed.gather(1, where[k]).view_as(g) for k, g in u.items()}
            return {k: None if g is None else torch.where(at[k], u[k], g) for k, g in update.items()}

        return Match(linear=False, transform=transform)

    def _by_slice(self, where: dict[str, Tensor], update: dict[str, Tensor]) -> Tensor:
        """Sum of squares, (v, slices)."""
        square, at = (torch.cat([t[name].flatten(1) for name in update], 1) for t in (update, where))
        return square.new_zeros(len(at), self.slices).scatter_add(1, at, square.square())
