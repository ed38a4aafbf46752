"""Messages that carry some entries only: which are the largest, what the client owes, what several rounds tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gibench.types import Memory, Update


def largest(size: Tensor, count: int) -> Tensor:
    """Where the `count` greatest entries of each row stand, (v, n) booleans; ties by index."""
    if count == 0:
        return torch.zeros_like(size, dtype=torch.bool)
    least = _least(size.detach(), count)
    stay = size >= least
    if bool((stay.sum(1) == count).all()):  # no ties to break, as nearly always
        return stay
    above, tied = size > least, size == least
    room = count - above.sum(1, keepdim=True)
    return above | (tied & (tied.cumsum(1) <= room))


def _least(size: Tensor, count: int) -> Tensor:
    """The smallest of each row's `count` greatest entries, (v, 1)."""
    place = size.shape[1] - count
    if size.device.type != "cpu":
        return size.kthvalue(place + 1, dim=1, keepdim=True).values
    return torch.from_numpy(np.partition(size.numpy(), place, axis=1)[:, place : place + 1])  # eight times as fast


def with_owed(update: Update, memory: Memory) -> Update:
    """Error feedback: the gradient and what earlier messages withheld of theirs."""
    return {name: g if g is None or name not in memory else g + memory[name] for name, g in update.items()}


def owed(whole: Update, sent: Update) -> Memory:
    """What is withheld of `whole`."""
    return {name: g - s for name, g in whole.items() if g is not None and (s := sent[name]) is not None}


def support(update: Update) -> Update:
    """Where the message carries something: anybody sees it."""
    return {name: None if g is None else g != 0 for name, g in update.items()}


def sparse_bytes(update: Update) -> float:
    """Mean size of a message: 4 bytes for each value and 4 for its place, or all values where that is less."""
    shared = torch.cat([g.flatten(1) for g in update.values() if g is not None], 1)
    return float((8 * shared.count_nonzero(1)).clamp(max=4 * shared.shape[1]).double().mean())


def mean_where_sent(messages: list[Update]) -> Update:
    """Of one gradient's messages, each entry's mean over those that carry it."""
    return _entrywise(messages, lambda seen: seen.sum(0) / (seen != 0).sum(0).clamp(min=1))


def released(messages: list[Update]) -> Update:
    """The same under error feedback: between two appearances an entry piles up its gradient once per round.

    What was owed before the first round is in an entry's first appearance only; if there is no other, it is taken
    to be nothing.
    """
    return _entrywise(messages, _per_round)


def _per_round(seen: Tensor) -> Tensor:
    sent = seen != 0
    rounds = torch.arange(1, len(seen) + 1, device=seen.device).view(-1, *[1] * (seen.dim() - 1))
    first = torch.where(sent, rounds, len(seen) + 1).amin(0)
    last = torch.where(sent, rounds, 0).amax(0)
    opening = torch.where(sent & (rounds == first), seen, 0).sum(0)
    return torch.where(last > first, (seen.sum(0) - opening) / (last - first).clamp(min=1), opening / first)


def _entrywise(messages: list[Update], merge: Callable[[Tensor], Tensor]) -> Update:
    merged: Update = {}
    for name in messages[0]:
        seen = [g for message in messages if (g := message[name]) is not None]
        merged[name] = merge(torch.stack(seen)) if seen else None
    return merged
