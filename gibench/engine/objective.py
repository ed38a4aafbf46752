"""Distance between the message that an iterate would cause and the one observed, through the defense's simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gibench.agreement import agreement, can_agree
from gibench.draws import Draws
from gibench.engine.labels import head
from gibench.engine.priors import Prior
from gibench.gradients import Loss, cross_entropy, mean_gradient
from gibench.types import Batch, Extra, Match, Update, View, same_update

Simulate = Callable[[nn.Module, Batch, Draws], Update]
"""The undefended message about a batch, differentiable in its images."""


NOTHING: Extra = {}


@dataclass(frozen=True)
class Plan:
    """What is matched for a chunk of victims, and what else counts."""

    match: Match
    labels: Tensor | None  # (v, b); None: searched for together with the images
    priors: tuple[tuple[float, Prior], ...] = ()
    simulate: Simulate | None = None  # None: the mean gradient


@dataclass(frozen=True)
class Objective:
    """One number per victim at images x (v, b, c, h, w) with labels y, (v, b) classes or (v, b, k) probabilities.

    `extra` holds the match's further unknowns; without them it shows its mean behaviour.
    """

    view: View
    plan: Plan

    def __call__(self, x: Tensor, y: Tensor, draws: Draws, extra: Extra = NOTHING) -> Tensor:
        """Distance plus priors, (v,)."""
        total = self.distance(x, y, draws, extra)
        for weight, prior in self.plan.priors:
            total = total + weight * prior(x)
        if extra and self.plan.match.penalty is not None:
            total = total + self.plan.match.penalty(extra)
        return total

    def distance(self, x: Tensor, y: Tensor, draws: Draws, extra: Extra = NOTHING) -> Tensor:
        """Mean over the match's draws of fresh randomness, (v,)."""
        if self._direct:
            batch = Batch(self.plan.match.input_map(x, draws.at(0).at("images")), y)
            dot, square = agreement(self.view.model, batch, self.target, self._loss)
            return 1 - dot / (square + 1e-30).sqrt()
        k = self.plan.match.draws
        return torch.stack([self._apart(self.simulated(x, y, draws.at(i), extra)) for i in range(k)]).mean(0)

    def simulated(self, x: Tensor, y: Tensor, draws: Draws, extra: Extra = NOTHING) -> Update:
        """The message as the attacker believes the client would make it."""
        match, net = self.plan.match, self.view.model
        batch = Batch(match.input_map(x, draws.at("images")), y)
        if self.plan.simulate is not None:
            update = self.plan.simulate(net, batch, draws.at("local"))
        elif match.gradient is not None:
            update = match.gradient(net, batch, extra, draws.at("gradient"))
        elif match.example is not None:
            update = _mean_of_each(net, batch, match.example)
        else:
            update = mean_gradient(net, batch, loss=self._loss, create_graph=True)
        return match.transform(update, draws.at("message"))

    def _apart(self, simulated: Update) -> Tensor:
        """cos: 1 - <a, b>/|a||b|; l2 and l1: |a - b|^2/|b|^2 and |a - b|/|b|; plus match.size |a|^2/|b|^2.

        The target is normalised first: for confident examples its norm can be 1e-12, and an epsilon in a
        denominator of that size would become the denominator.
        """
        kind = self.plan.match.distance
        dot, square, apart, size = (torch.zeros_like(self.norm) for _ in range(4))
        for name, b in self.target.items():
            a = simulated[name]
            assert a is not None
            whole = a.flatten(1) / self._column
            a = (a * self.mask[name] if name in self.mask else a).flatten(1)
            w = self._weight(name)
            if kind == "cos":
                dot = dot + w * (a * b).sum(1)
                square = square + w * a.square().sum(1)
            else:
                difference = a / self._column - b
                apart = apart + w * (difference.square() if kind == "l2" else difference.abs()).sum(1)
            if self.plan.match.size:
                size = size + whole.square().sum(1)
        if kind == "cos":
            apart = 1 - dot / (square + 1e-30).sqrt()
        return apart + self.plan.match.size * size if self.plan.match.size else apart

    @cached_property
    def _direct(self) -> bool:
        """Whether nothing comes between the gradient and its cosine, so that the faster closed form holds."""
        match = self.plan.match
        other = (match.example, match.gradient, self.plan.simulate)
        through = match.transform is not same_update or any(hook is not None for hook in other)
        picked = match.mask is not None or match.weight is not None or match.size > 0
        simple = match.distance == "cos" and match.draws == 1 and not through and not picked
        return simple and can_agree(self.view.model)

    @cached_property
    def mask(self) -> dict[str, Tensor]:
        mask = self.plan.match.mask
        return {} if mask is None else {name: m for name, m in mask.items() if m is not None}

    @cached_property
    def _shared(self) -> dict[str, Tensor]:
        """What is compared of the observed message, entries that are not set to zero."""
        return {
            name: (g * self.mask[name] if name in self.mask else g).flatten(1)
            for name, g in self.view.update.items()
            if g is not None and self._weight(name)
        }

    @cached_property
    def norm(self) -> Tensor:
        """(v,) of the compared entries, by the distance's own norm."""
        if self.plan.match.distance == "l1":
            total = torch.stack([self._weight(k) * g.abs().sum(1) for k, g in self._shared.items()]).sum(0)
        else:
            total = torch.stack([self._weight(k) * g.square().sum(1) for k, g in self._shared.items()]).sum(0).sqrt()
        return total.clamp(min=1e-30)

    @cached_property
    def _column(self) -> Tensor:
        return self.norm[:, None]

    @cached_property
    def target(self) -> dict[str, Tensor]:
        return {name: g / self._column for name, g in self._shared.items()}

    def _weight(self, name: str) -> float:
        weights = self.plan.match.weight
        return 1.0 if weights is None else weights.get(name, 1.0)

    @cached_property
    def _signal(self) -> Tensor | None:
        """The observed gradient of the last bias, which for one image is the output error p - y itself.

        Paper: the original matches the gradient of the cross-entropy; matching that of <signal, logits> has no
        softmax in the loop, so that confident examples (error 1e-7) invert as well as others. A victim whose bias
        arrives with a zero (pruned away) is matched by cross-entropy.
        """
        bias = self.view.update.get(f"{head(self.view.model)}.bias")
        if not self.plan.match.linear or self.view.shape[0] != 1 or bias is None:
            return None
        direction: Tensor = bias / bias.norm(dim=1, keepdim=True).clamp(min=1e-30)
        return direction

    @cached_property
    def _loss(self) -> Loss:
        signal = self._signal
        if signal is None:
            return cross_entropy
        exact = (signal != 0).all(1)

        def loss(logits: Tensor, batch: Batch) -> Tensor:
            return torch.where(exact, (logits[:, 0] * signal).sum(1), cross_entropy(logits, batch))

        return loss


def _mean_of_each(net: nn.Module, batch: Batch, example: Callable[[Update], Update]) -> Update:
    v, b = batch.y.shape[:2]
    single = Batch(batch.x.flatten(0, 1).unsqueeze(1), batch.y.flatten(0, 1).unsqueeze(1))
    each = example(mean_gradient(net, single, create_graph=True))
    return {name: None if g is None else g.unflatten(0, (v, b)).mean(1) for name, g in each.items()}
