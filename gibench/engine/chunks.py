"""Victims in chunks: a chunk's view holds what belongs to its victims and nothing of the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gibench.draws import Draws
from gibench.types import Guess, Update, View

LARGEST = {"cpu": 64, "cuda": 1024}  # a processor gains nothing beyond: its caches are full


def in_chunks(view: View, draws: Draws, solve: Callable[[View, Draws, slice], Guess], size: int) -> Guess:
    """`solve` on every chunk of at most `size` victims, put together again."""
    v = len(draws.members)
    parts = [slice(start, min(start + size, v)) for start in range(0, v, size)]
    return joined([solve(part_of(view, part), draws.part(part), part) for part in parts])


def joined(guesses: list[Guess]) -> Guess:
    """Guesses about different victims as one."""
    return Guess(
        torch.cat([g.x for g in guesses]),
        torch.cat([g.labels for g in guesses]),
        torch.cat([g.loss for g in guesses]),
        max(g.steps for g in guesses),
        tuple(reason for g in guesses for reason in (g.reasons or ("",) * len(g.x))),
    )


def part_of(view: View, part: slice | Tensor) -> View:
    """The same view of some of the victims."""
    return _each(view, lambda t: t[part])


def repeated(view: View, k: int) -> View:
    """The same victims k times over: (k * v) problems, the first v are the first repetition."""
    return _each(view, lambda t: t.repeat(k, *[1] * (t.dim() - 1)))


def joined_views(first: View, second: View) -> View:
    """The victims of both; everything else is the second's."""

    def of(a: Update, b: Update) -> Update:
        pairs = {name: (a[name], g) for name, g in b.items()}
        return {name: None if g is None or h is None else torch.cat([g, h]) for name, (g, h) in pairs.items()}

    labels = None if second.labels is None or first.labels is None else torch.cat([first.labels, second.labels])
    bn = None
    if first.bn is not None and second.bn is not None:
        bn = {k: (torch.cat([first.bn[k][0], m]), torch.cat([first.bn[k][1], s])) for k, (m, s) in second.bn.items()}
    rounds = tuple(of(a, b) for a, b in zip(first.rounds, second.rounds, strict=True))
    return replace(second, update=of(first.update, second.update), labels=labels, bn=bn, rounds=rounds)


def _each(view: View, change: Callable[[Tensor], Tensor]) -> View:
    def of(update: Update) -> Update:
        return {name: None if g is None else change(g) for name, g in update.items()}

    return replace(
        view,
        update=of(view.update),
        labels=None if view.labels is None else change(view.labels),
        rounds=tuple(of(update) for update in view.rounds),
        bn=None if view.bn is None else {name: (change(m), change(s)) for name, (m, s) in view.bn.items()},
    )


def chunk_size(step: Callable[[], Tensor], v: int) -> int:
    """How many victims fit into this device's memory at once, a power of two.

    `step` evaluates the objective of a single victim. Everything that it computes is counted, and once more for the
    backward pass.
    """
    with _Allocations() as counted:
        device = step().device
    most = min(LARGEST.get(device.type, 64), _free(device) // max(2 * counted.bytes, 1))
    return min(1 << max(int(most).bit_length() - 1, 0), max(v, 1))


class _Allocations(TorchDispatchMode):
    """Adds up the bytes of every tensor that an operation makes, views left out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(t, Tensor) and t._base is None:
                self.bytes += t.nbytes
        return out


def _free(device: torch.device) -> int:
    """Bytes that one worker may take: of the whole memory, so that the answer does not change from run to run."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // 2
    pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else 1 << 20
    return pages * os.sysconf("SC_PAGE_SIZE") // (2 * (os.cpu_count() or 1))
