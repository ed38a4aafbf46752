"""The search for images: starts, restarts, scales and chunks around one optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.engine.chunks import chunk_size, in_chunks, part_of
from gibench.engine.objective import Objective, Plan
from gibench.engine.optimisers import Evaluate, Penalty, Point, Search, Start, adam, lbfgs
from gibench.engine.priors import total_variation
from gibench.types import Guess, Update, View


def invert(view: View, plan: Callable[[View], Plan], search: Search, draws: Draws) -> Guess:
    """Minimise each victim's objective + tv; the restart with the least objective wins, whatever the truth is.

    `plan` is asked for every chunk of victims. Returns clamped images after the match's `post`.
    """
    weights = torch.as_tensor(search.tv, dtype=torch.float64).expand(len(draws.members))

    def solve(part: View, own: Draws, where: slice) -> Guess:
        return _solve(part, plan(part), replace(search, tv=weights[where].to(_floats(part.update))), own)

    def step() -> Tensor:
        one = slice(0, 1)
        alone, few = part_of(view, one), draws.part(one)
        objective = Objective(alone, plan(alone))
        point = _start(objective, search, few)
        x = _images(objective, point).requires_grad_()
        return objective(x, _labels(objective, point), few, _extra(point))

    size = search.chunk or chunk_size(step, len(draws.members))
    return in_chunks(view, draws, solve, size)


def _solve(view: View, plan: Plan, search: Search, draws: Draws) -> Guess:
    objective = Objective(view, plan)
    best, least = _descend(objective, search, draws.at("restart", 0))
    for restart in range(1, search.restarts):
        other, loss = _descend(objective, search, draws.at("restart", restart))
        better = loss < least
        least = torch.where(better, loss, least)
        best = {k: torch.where(better.view(-1, *[1] * (t.dim() - 1)), t, best[k]) for k, t in other.items()}
    labels = best["labels"].argmax(-1) if plan.labels is None else plan.labels
    return Guess(plan.match.post(best["x"].clamp(0, 1)).clamp(0, 1), labels, least, search.steps * search.restarts)


def _descend(objective: Objective, search: Search, draws: Draws) -> tuple[Point, Tensor]:
    side = objective.view.shape[2]
    point = _start(objective, search, draws)
    least = torch.empty(0)
    for scale in search.scales:
        if "x" in point:
            point["x"] = resized(point["x"], max(side // scale, 1))

        def evaluate(point: Point, stream: Draws) -> Tensor:
            x = _images(objective, point)
            apart = objective(x, _labels(objective, point), stream, _extra(point))
            return apart + search.tv * total_variation(x)

        def rough(point: Point) -> Tensor:
            return search.tv * total_variation(_images(objective, point))

        own = replace(search, steps=max(search.steps // len(search.scales), 1))
        point, least = descend(evaluate, point, own, draws.at("scale", scale), rough if search.continuation else None)
    return {**point, "x": _images(objective, point)}, least


def descend(
    evaluate: Evaluate, start: Point, search: Search, draws: Draws, penalty: Penalty | None = None
) -> tuple[Point, Tensor]:
    """The search's optimiser from a given start: the best point and its objective (v,)."""
    if search.optimizer == "lbfgs":
        return lbfgs(evaluate, start, search, draws)
    return adam(evaluate, start, search, draws, penalty)


def first_images(shape: tuple[int, ...], start: Start, draws: Draws, like: Tensor) -> Tensor:
    """(members, *shape) in [0, 1]: normal or uniform noise, grey, or one random 16 x 16 patch tiled (cpl)."""
    if start == "gray":
        return torch.full((len(draws.members), *shape), 0.5).to(like)
    if start == "rand":
        return draws.at("init").uniform(*shape, like=like)
    if start == "pattern":
        b, c, h, w = shape
        patch = draws.at("init").uniform(b, c, 16, 16, like=like)
        return patch.repeat(1, 1, 1, -(-h // 16), -(-w // 16))[..., :h, :w]
    return (0.5 + 0.25 * draws.at("init").normal(*shape, like=like)).clamp(0, 1)


def resized(x: Tensor, side: int) -> Tensor:
    """(v, b, c, h, w) -> (v, b, c, side, side) by bicubic interpolation; unchanged where it fits."""
    if x.shape[-1] == side:
        return x
    v, b, c = x.shape[:3]
    return F.interpolate(x.flatten(0, 1), size=(side, side), mode="bicubic").view(v, b, c, side, side)


def as_gradient(view: View) -> View:
    """A weight change points against the gradient; its length does not matter to the cosine."""
    if view.kind != "delta":
        return view
    return replace(view, update=_negative(view.update), rounds=tuple(_negative(r) for r in view.rounds))


def _negative(update: Update) -> Update:
    return {name: None if g is None else -g for name, g in update.items()}


def _start(objective: Objective, search: Search, draws: Draws) -> Point:
    view, like = objective.view, _floats(objective.view.update)
    x, known = first_images(view.shape, search.start, draws, like), objective.plan.match.range
    point = {"x": x} if known is None else {"code": known.encode(x)}
    if objective.plan.labels is None:
        point["labels"] = draws.at("labels").normal(view.shape[0], view.classes, like=like)
    if objective.plan.match.extra is not None:
        point |= {name: t.to(like) for name, t in objective.plan.match.extra(draws.at("extra")).items()}
    return point


def _extra(point: Point) -> Point:
    """The unknowns beside images and labels."""
    return {name: t for name, t in point.items() if name not in ("x", "code", "labels")}


def _images(objective: Objective, point: Point) -> Tensor:
    """The images at a point, at full size."""
    known = objective.plan.match.range
    return resized(point["x"], objective.view.shape[2]) if known is None else known.decode(point["code"])


def _labels(objective: Objective, point: Point) -> Tensor:
    """The plan's classes, or the searched ones as probabilities."""
    return point["labels"].softmax(-1) if objective.plan.labels is None else objective.plan.labels


def _floats(update: Update) -> Tensor:
    return next(g for g in update.values() if g is not None)
