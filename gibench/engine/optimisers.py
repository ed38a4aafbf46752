"""Two ways downhill for many problems at once: Adam in a box, and L-BFGS with a line search of each problem's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gibench.draws import Draws

Point = dict[str, Tensor]
"""The unknowns by name, each (v, ...)."""
Evaluate = Callable[[Point, Draws], Tensor]
"""Objective of every problem at a point, (v,)."""
Penalty = Callable[[Point], Tensor]
"""What continuation adds to the objective at first, (v,)."""


Start = Literal["randn", "rand", "gray", "pattern"]


@dataclass(frozen=True)
class Search:
    """How the images are searched for."""

    steps: int
    lr: float = 0.1
    tv: float | Tensor = 0.0  # weight of total variation, one for all or (v,)
    optimizer: Literal["adam", "lbfgs"] = "adam"
    sign: bool = True  # Adam on the sign of the gradient (Geiping et al. 2020)
    schedule: str = "cosine"  # see optimisers.pace
    continuation: float = 0.0  # Adam: total variation starts 1 + this times as heavy, see optimisers.left
    restarts: int = 1
    start: Start = "randn"
    scales: tuple[int, ...] = (1,)  # side of the searched image is h / scale, coarse first; steps are shared out
    jitter: float = 0.0  # Langevin noise, in steps of the rate
    history: int = 20  # pairs that L-BFGS remembers
    chunk: int | None = None  # victims solved at once; None: what memory holds


def adam(
    evaluate: Evaluate, start: Point, search: Search, draws: Draws, penalty: Penalty | None = None
) -> tuple[Point, Tensor]:
    """Adam, on the sign of the gradient where asked; `x` stays in [0, 1].

    Returns the best point at which the objective was evaluated, and that objective. The `penalty` of continuation
    steers and is gone at the end, so that it has no say in which point is best.
    """
    point = start
    first = {name: torch.zeros_like(t) for name, t in point.items()}
    second = {name: torch.zeros_like(t) for name, t in point.items()}
    best, least = point, torch.empty(0)
    for step in range(search.steps + 1):
        point = {name: t.detach().requires_grad_() for name, t in point.items()}
        objective = evaluate(point, draws.at("step", step))
        if step == 0:
            least = torch.full_like(objective.detach(), torch.inf)
        better = objective.detach() < least
        least = torch.where(better, objective.detach(), least)
        best = {name: torch.where(_like(better, t), t.detach(), best[name]) for name, t in point.items()}
        if step == search.steps:
            break
        if penalty is not None:
            objective = objective + search.continuation * left(step, search.steps) * penalty(point)
        slopes = torch.autograd.grad(objective.sum(), list(point.values()))
        rate = search.lr * pace(search.schedule, step, search.steps)
        with torch.no_grad():
            for (name, t), g in zip(point.items(), slopes, strict=True):
                g = g.sign() if search.sign else g
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g.square()
                mean, power = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
                moved = t - rate * mean / (power.sqrt() + 1e-8)
                if search.jitter:
                    moved = moved + rate * search.jitter * draws.at("jitter", step, name).normal(*t.shape[1:], like=t)
                point[name] = moved.clamp(0, 1) if name == "x" else moved
    return best, least


def pace(schedule: str, step: int, steps: int) -> float:
    """Share of the rate at a step.

    cosine, exponential (e^-5 at the end), warmup (50 steps up, then cosine), step (x 0.1 at 3/8, 5/8, 7/8), flat.
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / steps))
    if schedule == "warmup":
        return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
    if schedule == "exponential":
        return math.exp(-5 * step / steps)
    if schedule == "step":
        return 0.1 ** sum(step >= steps * k / 8 for k in (3, 5, 7))
    return 1.0


def left(step: int, steps: int) -> float:
    """Share of continuation's penalty at a step: the cube of the share of steps that are left.

    Large structures first: a weight that is too heavy at the end spares many steps at the start (continuation, as
    in Hale, Yin, Zhang: Fixed-point continuation for l1-minimization, SIAM J. Optim. 19, 2008).
    """
    return (1 - step / steps) ** 3


def lbfgs(evaluate: Evaluate, start: Point, search: Search, draws: Draws) -> tuple[Point, Tensor]:
    """L-BFGS (Nocedal & Wright 2006, algorithm 7.4) with backtracking to Armijo's condition, each problem for itself.

    Randomness is drawn once, so that every problem has one fixed objective. A problem that can descend no further
    stays where it is. Unknowns are not bounded.
    """
    names, shapes = list(start), [t.shape for t in start.values()]
    sizes = [math.prod(shape[1:]) for shape in shapes]

    def point_of(w: Tensor) -> Point:
        pieces = zip(names, shapes, w.split(sizes, 1), strict=True)
        return {name: piece.reshape(shape) for name, shape, piece in pieces}

    def at(w: Tensor) -> tuple[Tensor, Tensor]:
        w = w.detach().requires_grad_()
        value = evaluate(point_of(w), draws)
        (slope,) = torch.autograd.grad(value.sum(), w)
        return value.detach(), slope

    w = torch.cat([t.detach().flatten(1) for t in start.values()], 1)
    value, slope = at(w)
    memory: list[tuple[Tensor, Tensor, Tensor]] = []  # steps, changes of slope, 1 / <step, change> or 0
    scale = 1 / slope.abs().sum(1, keepdim=True).clamp(min=1.0)
    fresh = torch.ones_like(value, dtype=torch.bool)  # its memory is empty
    alive = value.isfinite()
    for _ in range(search.steps):
        direction = _two_loop(slope, memory, scale)
        descent = (direction * slope).sum(1)
        uphill = ~(descent < 0)
        direction = torch.where(uphill[:, None], -scale * slope, direction)
        descent = torch.where(uphill, (direction * slope).sum(1), descent)
        found, new, new_value, new_slope = _backtrack(at, w, value, slope, direction, descent, alive)
        step, change = new - w, new_slope - slope
        curve = (step * change).sum(1)
        sound = found & (curve > 1e-10 * step.norm(dim=1) * change.norm(dim=1))
        memory = [*memory, (step, change, torch.where(sound, 1 / curve.clamp(min=1e-300), 0.0))][-search.history :]
        gained = (curve / change.square().sum(1).clamp(min=1e-300))[:, None]
        scale = torch.where(sound[:, None], gained, scale)
        stuck = alive & ~found
        alive = alive & ~(stuck & fresh) & (new_value > 0)
        if bool(stuck.any()):  # forget, and try once more along the plain gradient
            memory = [(s, y, torch.where(stuck, 0.0, r)) for s, y, r in memory]
            plain = 1 / slope.abs().sum(1, keepdim=True).clamp(min=1.0)
            scale = torch.where(stuck[:, None], plain, scale)
        fresh = stuck | (fresh & ~sound)
        w, value, slope = new, new_value, new_slope
        if not bool(alive.any()):
            break
    return point_of(w), value


def _two_loop(slope: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:
    q, shares = slope, []
    for step, change, inverse in reversed(memory):
        share = inverse * (step * q).sum(1)
        q = q - share[:, None] * change
        shares.append(share)
    r = scale * q
    for (step, change, inverse), share in zip(memory, reversed(shares), strict=True):
        r = r + (share - inverse * (change * r).sum(1))[:, None] * step
    return -r


def _backtrack(
    at: Callable[[Tensor], tuple[Tensor, Tensor]],
    w: Tensor,
    value: Tensor,
    slope: Tensor,
    direction: Tensor,
    descent: Tensor,
    alive: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve each problem's step until it descends enough; who found one, and where it leads."""
    found = torch.zeros_like(alive)
    length = torch.ones_like(value)
    new, new_value, new_slope = w, value, slope
    for _ in range(25):
        trial = w + length[:, None] * direction
        trial_value, trial_slope = at(trial)
        good = alive & ~found & (trial_value <= value + 1e-4 * length * descent)
        good = good & trial_slope.isfinite().all(1) & (trial_value < value)
        new, new_slope = torch.where(good[:, None], trial, new), torch.where(good[:, None], trial_slope, new_slope)
        new_value = torch.where(good, trial_value, new_value)
        found = found | good
        if bool((found | ~alive).all()):
            break
        length = torch.where(found, length, length / 2)
    return found, new, new_value, new_slope


def _like(flag: Tensor, t: Tensor) -> Tensor:
    return flag.view(-1, *[1] * (t.dim() - 1))
