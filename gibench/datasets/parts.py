"""How the published splits become the five parts: by a stored rule that hangs on the dataset's name alone.

Train is halved into client and aux, val into val and tune, each by class. Where nothing is published for val, a tenth
of train, by class, is set aside for it first. Test stays whole, in one permuted order, so that victims are a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.types import Images

NAMES = ("client", "aux", "val", "tune", "test")


def published_split(name: str, train: Tensor, val: Tensor | None, test: Tensor) -> dict[str, Tensor]:
    """Where each part lies in train, val and test laid end to end, from their labels (n,)."""
    draws = Draws(("split", name))
    train_at, after = torch.arange(len(train)), len(train)
    if val is None:
        kept, aside = stratified(train, (0.9, 0.1), draws.at("aside"))
        train_at, val_at, train, val = kept, aside, train[kept], train[aside]
    else:
        val_at, after = torch.arange(len(val)) + after, after + len(val)
    client, aux = stratified(train, (0.5, 0.5), draws.at("train"))
    chooses, tunes = stratified(val, (0.5, 0.5), draws.at("val"))
    order = shuffled(len(test), draws.at("test"))
    places = (train_at[client], train_at[aux], val_at[chooses], val_at[tunes], order + after)
    return dict(zip(NAMES, places, strict=True))


def stratified(y: Tensor, shares: Sequence[float], draws: Draws) -> list[Tensor]:
    """Disjoint index sets that cover y (n,), one per share: every class is cut in these shares, every set shuffled."""
    sets: list[list[Tensor]] = [[] for _ in shares]
    for label in sorted(set(y.tolist())):
        members = (y == label).nonzero().flatten()
        members = members[shuffled(len(members), draws.at("class", label))]
        ends = [round(len(members) * sum(shares[: i + 1])) for i in range(len(shares))]
        for chosen, start, end in zip(sets, [0, *ends], ends, strict=False):
            chosen.append(members[start:end])
    whole = [torch.cat(chosen) for chosen in sets]
    return [chosen[shuffled(len(chosen), draws.at("order", i))] for i, chosen in enumerate(whole)]


def shuffled(n: int, draws: Draws) -> Tensor:
    """One fixed permutation of range(n)."""
    return draws.permutation(n)[0]


def cut(x: Tensor, y: Tensor, places: dict[str, Tensor]) -> Parts:
    """The parts of x (n, c, h, w), bytes or float in [0, 1], with labels y (n,)."""

    def images(at: Tensor) -> Images:
        chosen = x[at].contiguous()
        return Images(chosen if chosen.is_floating_point() else chosen.float().div_(255), y[at].long())

    return Parts(**{part: images(at) for part, at in places.items()})
