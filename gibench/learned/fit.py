"""Seeded construction and minibatch training of small networks, without touching the global generator."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from gibench.draws import Draws

M = TypeVar("M", bound=nn.Module)
P = ParamSpec("P")
KEPT = 6  # networks that a process remembers


def seeded(draws: Draws, make: Callable[[], M]) -> M:
    """Build a module whose initial weights depend on `draws` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draws.seed())
        return make()


def remembered(learn: Callable[P, M]) -> Callable[P, M]:
    """Learn the same network once: `learn(x, draws, *settings)` is a pure function of what it is given."""
    known: dict[str, M] = {}

    @wraps(learn)
    def recall(*args: P.args, **kwargs: P.kwargs) -> M:
        name = hashlib.blake2b(digest_size=16)
        for value in (*args, *sorted(kwargs.items())):
            if isinstance(value, Tensor):
                name.update(f"{value.device}{value.dtype}{tuple(value.shape)}".encode())
                name.update(value.detach().cpu().contiguous().numpy().tobytes())
            else:
                name.update(repr((value.path, value.members) if isinstance(value, Draws) else value).encode())
        key = name.hexdigest()
        if key not in known:
            known[key] = learn(*args, **kwargs).requires_grad_(False)
            while len(known) > KEPT:
                known.pop(next(iter(known)))
        return known[key]

    return recall


def minibatches(n: int, size: int, draws: Draws) -> Iterator[Tensor]:
    """One shuffled pass over range(n) in pieces of at most `size`."""
    return iter(torch.randperm(n, generator=draws.generator()).split(size))


def minimise(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor, Draws], Tensor],
    n: int,
    *,
    epochs: int,
    lr: float,
    draws: Draws,
    size: int = 64,
) -> None:
    """Adam with a cosine schedule over `epochs` shuffled passes; `loss(chosen, draws)` of the chosen indices."""
    optimizer = torch.optim.Adam(list(parameters), lr=lr)
    total = epochs * -(-n // size)
    step = 0
    for epoch in range(epochs):
        for chosen in minibatches(n, size, draws.at("order", epoch)):
            for group in optimizer.param_groups:
                group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.zero_grad()
            loss(chosen, draws.at("step", step)).backward()
            optimizer.step()
            step += 1
