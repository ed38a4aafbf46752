"""Small real scenes that many tests share: a net, clients with images, and what the server sees of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.learned.fit import seeded
from gibench.message import rounds_seen
from gibench.registry import build
from gibench.types import Batch, Images, Local, Update, View


def net_of(spec: str, channels: int, classes: int, side: int = 32, seed: int = 0) -> nn.Module:
    """A freshly initialised net in evaluation mode."""
    return seeded(Draws(("test net", seed)), lambda: build("models", spec).build(channels, side, classes)).eval()


def held(images: Images, v: int, b: int, dtype: torch.dtype = torch.float32) -> Batch:
    """The first v * b images as v clients with b each."""
    return Batch(images.x[: v * b].unflatten(0, (v, b)).to(dtype), images.y[: v * b].unflatten(0, (v, b)))


def seen(
    net: nn.Module,
    batch: Batch,
    classes: int,
    defense: Defense | None = None,
    *,
    labels: bool = True,
    aux: Images | None = None,
    local: Local | None = None,
    rounds: int = 1,
    planted: bool = False,
    cut: int | None = None,
) -> View:
    """What the server sees of `batch` when the clients use `defense` (none by default)."""
    defense = defense or build("defenses", "none")
    draws = Draws(("test message",), range(len(batch.y)))
    messages = rounds_seen(net, defense, batch, draws, rounds, local, cut=cut)
    return View(
        model=net,
        update=messages[0],
        kind="activations" if cut else "gradient" if local is None else "delta",
        shape=tuple(batch.x.shape[1:]),
        classes=classes,
        labels=batch.y if labels else None,
        aux=aux,
        defense=defense,
        local=local,
        rounds=tuple(messages[1:]),
        clients=defense.cohort or 1,
        cut=cut,
        planted=planted,
    )


def rows(update: Update, start: int, stop: int) -> Update:
    """The victims start..stop of an update."""
    return {name: None if g is None else g[start:stop] for name, g in update.items()}


def flat(update: Update) -> Tensor:
    """(v, all shared entries)."""
    return torch.cat([g.flatten(1) for g in update.values() if g is not None], 1)


def same(a: Update, b: Update) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(
        (a[k] is None and b[k] is None) or (a[k] is not None and b[k] is not None and torch.equal(a[k], b[k]))
        for k in a
    )
