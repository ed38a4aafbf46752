"""The one place where a message is made: training, victims and the attacker's simulations all come through here."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from gibench.draws import Draws
from gibench.types import Batch, Local, Update


class Hooks(Protocol):
    """The part of a defense that makes messages."""

    def images(self, batch: Batch, draws: Draws) -> Batch: ...
    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: dict[str, Tensor] | None = None
    ) -> Update: ...
    def message(self, update: Update, draws: Draws) -> Update: ...


def make_message(net: nn.Module, defense: Hooks, batch: Batch, draws: Draws, local: Local | None = None) -> Update:
    """What v clients send about their batches: the gradient (FedSGD), or after local training the weight change.

    Local training takes `local.epochs` full-batch steps of SGD, the defense's data and gradient hooks in each of
    them; the message hook acts once, on what leaves.
    """
    if local is None:
        sent = defense.images(batch, draws.at("images"))
        update = defense.gradient(net, sent, draws.at("gradient"))
    else:
        update = _train_locally(net, defense, batch, draws, local)
    return defense.message({k: None if g is None else g.detach() for k, g in update.items()}, draws.at("message"))


def transmitted(defense: Hooks, batch: Batch, draws: Draws, local: Local | None = None) -> Batch:
    """What the model saw instead of `batch` in a message made with the same draws (in its first local step)."""
    return defense.images(batch, draws.at("images") if local is None else draws.at("images", 0))


def _train_locally(net: nn.Module, defense: Hooks, batch: Batch, draws: Draws, local: Local) -> Update:
    v = len(batch.y)
    start = {name: p.detach() for name, p in net.named_parameters()}
    params = {name: p.expand(v, *p.shape) for name, p in start.items()}
    velocity = {name: torch.zeros_like(p) for name, p in params.items()}
    for epoch in range(local.epochs):
        sent = defense.images(batch, draws.at("images", epoch))
        step = defense.gradient(net, sent, draws.at("gradient", epoch), params)
        for name, g in step.items():
            if g is not None:
                velocity[name] = local.momentum * velocity[name] + g
                params[name] = params[name] - local.lr * velocity[name]
    return {name: params[name] - start[name] for name in start}


def mean_message(messages: list[Update]) -> Update:
    """The average of several messages about the same batch; None stays None."""
    first, n = messages[0], len(messages)
    return {name: None if first[name] is None else sum(m[name] for m in messages) / n for name in first}  # type: ignore[misc]
