"""The engine of all optimisation attacks: many independent inversion problems solved together.

Each victim has its own target, label, random numbers, optimiser state and best iterate; the sum of the victims'
losses is differentiated once. Chunks bound the memory and, in exact arithmetic, change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gibench.attacks.labels import head, labels_of
from gibench.draws import Draws
from gibench.gradients import Loss, cross_entropy, mean_gradient
from gibench.types import Batch, Guess, Match, Update, View


@dataclass(frozen=True)
class Search:
    """How the images are searched for."""

    steps: int
    lr: float
    tv: float | Tensor  # weight of the mean absolute difference of neighbouring pixels, one for all or (v,)
    sign: bool = True  # Adam on the sign of the gradient (Geiping et al. 2020)
    schedule: str = "cosine"  # or "step": x 0.1 at 3/8, 5/8 and 7/8
    restarts: int = 1
    chunk: int = 64  # victims solved at once


@dataclass(frozen=True)
class _Problem:
    """A chunk of victims, ready to be scored."""

    net: nn.Module
    match: Match
    target: dict[str, Tensor]  # (v, *shape), entries that are not compared set to zero
    mask: dict[str, Tensor]
    norm: Tensor  # (v,) of the target
    labels: Tensor
    signal: Tensor | None  # (v, k), for linear matching

    def loss(self, x: Tensor, draws: Draws) -> Tensor:
        """Distance between simulated and observed message, (v,)."""
        return torch.stack([self._once(x, draws.at(k)) for k in range(self.match.draws)]).mean(0)

    def _once(self, x: Tensor, draws: Draws) -> Tensor:
        batch = Batch(self.match.input_map(x, draws.at("images")), self.labels)
        simulated = self.match.transform(
            _simulate(self.net, batch, self.match, self._logit_loss()), draws.at("message")
        )
        dot, square, apart = (torch.zeros_like(self.norm) for _ in range(3))
        for name, b in self.target.items():
            a = simulated[name]
            assert a is not None
            a = (a * self.mask[name] if name in self.mask else a).flatten(1)
            if self.match.distance == "cos":
                dot = dot + (a * b.flatten(1)).sum(1) / self.norm
                square = square + a.square().sum(1)
            else:
                apart = apart + ((a - b.flatten(1)) / self.norm[:, None]).square().sum(1)
        if self.match.distance == "cos":
            return 1 - dot / (square + 1e-30).sqrt()
        return apart

    def _logit_loss(self) -> Loss:
        if self.signal is None:
            return cross_entropy
        signal, exact = self.signal, (self.signal != 0).all(1)

        def loss(logits: Tensor, batch: Batch) -> Tensor:
            return torch.where(exact, (logits[:, 0] * signal).sum(1), cross_entropy(logits, batch))

        return loss


def invert(view: View, update: Update, match: Match, search: Search, draws: Draws) -> Guess:
    """Minimise distance + tv over the images of every victim; the restart with the least objective wins.

    `update` is the gradient to match, (v, *shape) per parameter. Returns clamped images after `match.post`.
    """
    labels = labels_of(view, update)
    tv = (
        torch.as_tensor(search.tv, dtype=torch.float64)
        .to(next(g for g in update.values() if g is not None))
        .expand(len(labels))
    )
    found = [
        _invert_chunk(
            view, _take(update, part), labels[part], match, replace(search, tv=tv[part]), draws.part(part), part
        )
        for part in _parts(len(labels), search.chunk)
    ]
    x, loss = torch.cat([x for x, _ in found]), torch.cat([loss for _, loss in found])
    return Guess(match.post(x).clamp(0, 1), labels, loss, search.steps * search.restarts)


def _invert_chunk(
    view: View, update: Update, labels: Tensor, match: Match, search: Search, draws: Draws, part: slice
) -> tuple[Tensor, Tensor]:
    mask = {} if match.mask is None else {k: m[part] for k, m in match.mask.items() if m is not None}
    target = {k: g * mask[k] if k in mask else g for k, g in update.items() if g is not None}
    norm = torch.stack([g.flatten(1).square().sum(1) for g in target.values()]).sum(0).sqrt()
    problem = _Problem(
        view.model, match, target, mask, norm.clamp(min=1e-30), labels, _signal(view, update) if match.linear else None
    )
    best_x, best_loss = None, None
    for restart in range(search.restarts):
        x, loss = _descend(problem, view.shape, search, draws.at("restart", restart))
        if best_x is None or best_loss is None:
            best_x, best_loss = x, loss
        else:
            better = loss < best_loss
            best_x, best_loss = (
                torch.where(better[:, None, None, None, None], x, best_x),
                torch.minimum(loss, best_loss),
            )
    assert best_x is not None
    assert best_loss is not None
    return best_x, best_loss


def _descend(problem: _Problem, shape: tuple[int, ...], search: Search, draws: Draws) -> tuple[Tensor, Tensor]:
    """Adam in the box [0, 1]; returns the best iterate where its objective was evaluated, and that objective."""
    x = (0.5 + 0.25 * draws.at("init").normal(*shape, like=problem.norm)).clamp(0, 1)
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    best_x, best = x, torch.full_like(problem.norm, torch.inf)
    for step in range(search.steps + 1):
        x = x.detach().requires_grad_()
        objective = problem.loss(x, draws.at("step", step)) + search.tv * total_variation(x)
        better = objective.detach() < best
        best = torch.where(better, objective.detach(), best)
        best_x = torch.where(better[:, None, None, None, None], x.detach(), best_x)
        if step == search.steps:
            break
        (g,) = torch.autograd.grad(objective.sum(), x)
        g = g.sign() if search.sign else g
        with torch.no_grad():
            first = 0.9 * first + 0.1 * g
            second = 0.999 * second + 0.001 * g.square()
            mean, power = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
            x = (x - _rate(search, step) * mean / (power.sqrt() + 1e-8)).clamp(0, 1)
    return best_x, best


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, both directions, any channel count; (v, b, c, h, w) -> (v,)."""
    down, right = x.diff(dim=-2).abs().flatten(1).mean(1), x.diff(dim=-1).abs().flatten(1).mean(1)
    return down + right


def _simulate(net: nn.Module, batch: Batch, match: Match, loss: Loss) -> Update:
    if match.example is None:
        return mean_gradient(net, batch, loss=loss, create_graph=True)
    v, b = batch.y.shape
    single = Batch(batch.x.flatten(0, 1).unsqueeze(1), batch.y.reshape(v * b, 1))
    each = match.example(mean_gradient(net, single, create_graph=True))
    return {name: None if g is None else g.unflatten(0, (v, b)).mean(1) for name, g in each.items()}


def _signal(view: View, update: Update) -> Tensor | None:
    """The observed gradient of the last bias, which for one image is the output error p - y itself.

    Paper: the original matches the gradient of the cross-entropy; matching that of <signal, logits> has no softmax
    in the loop, so that confident examples (error 1e-7) invert as well as others. A victim whose bias arrives with
    a zero (pruned away) is matched by cross-entropy.
    """
    bias = update.get(f"{head(view.model)}.bias")
    if view.shape[0] != 1 or bias is None:
        return None
    direction: Tensor = bias / bias.norm(dim=1, keepdim=True).clamp(min=1e-30)
    return direction


def _rate(search: Search, step: int) -> float:
    if search.schedule == "cosine":
        return search.lr * 0.5 * (1 + math.cos(math.pi * step / search.steps))
    return search.lr * 0.1 ** sum(step >= search.steps * k / 8 for k in (3, 5, 7))


def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _take(update: Update, part: slice) -> Update:
    return {name: None if g is None else g[part] for name, g in update.items()}
