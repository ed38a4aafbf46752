"""The one place where a message is made: training, victims and the attacker's simulations all come through here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gibench.draws import Draws
from gibench.noise import draw_noise, given
from gibench.split import split
from gibench.types import ACTIVATIONS, Batch, Local, Memory, Params, Update


class Hooks(Protocol):
    """The part of a defense that makes messages."""

    @property
    def cohort(self) -> int | None: ...
    def frozen(self, names: Iterable[str]) -> frozenset[str]: ...
    def images(self, batch: Batch, draws: Draws) -> Batch: ...
    def weights(self, net: nn.Module, draws: Draws, memory: Memory) -> Params | None: ...
    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update: ...
    def keep(self, update: Update, local: Local | None, memory: Memory) -> None: ...
    def message(self, update: Update, draws: Draws, memory: Memory) -> Update: ...
    def observed(self, messages: Update, draws: Draws) -> Update: ...


def make_message(
    net: nn.Module,
    defense: Hooks,
    batch: Batch,
    draws: Draws,
    local: Local | None = None,
    memory: Memory | None = None,
    cut: int | None = None,
) -> Update:
    """What v clients send about their batches: the gradient (FedSGD), or after local training the weight change.

    With a `cut` what a client and its server of split learning get together, which the server alone does not see.

    Local training takes `local.epochs` full-batch steps of SGD, the defense's data and gradient hooks in each of
    them; the message hook acts once, on what leaves. `memory` is what these clients kept from earlier rounds; it is
    brought up to date.
    """
    memory = {} if memory is None else memory
    params = used_weights(net, defense, draws.at("weights"), memory, cut)
    if local is None:
        update = _step(net, defense, batch, draws, (), params, memory)
    else:
        update = _train_locally(net, defense, batch, draws, local, params, memory)
    update = {name: None if g is None else g.detach() for name, g in update.items()}
    defense.keep(update, local, memory)
    return defense.message(update, draws.at("message"), memory)


def make_activations(
    net: nn.Module, defense: Hooks, batch: Batch, draws: Draws, cut: int, memory: Memory | None = None
) -> Update:
    """What v clients of split learning send about their batches: the smashed data {ACTIVATIONS: (v, b, *features)}.

    The defense's data and model hooks act as on a gradient, with the same draws; labels stay with the client.
    """
    params = used_weights(net, defense, draws.at("weights"), {} if memory is None else memory, cut)
    sent = defense.images(batch, draws.at("images"))
    client = split(net, cut).client
    noise = draw_noise(client, sent.x.shape[1], draws.at("layers"), sent.x)
    with torch.no_grad():
        return {ACTIVATIONS: activations(client, replace(sent, noise=noise), params)}


def activations(client: nn.Module, batch: Batch, params: Params | None = None) -> Tensor:
    """What a client's part makes of a batch, (v, b, *features), differentiable in its images; `params` (v, *shape)
    may name more weights than the part has."""
    if params is None:
        with given(client, {name: t.flatten(0, 1) for name, t in batch.noise.items()}):
            out: Tensor = client(batch.x.flatten(0, 1))
            return out.view(*batch.x.shape[:2], *out.shape[1:])
    own, buffers = {name: params[name] for name, _ in client.named_parameters()}, dict(client.named_buffers())

    def one(p: Params, x: Tensor, noise: dict[str, Tensor]) -> Tensor:
        with given(client, noise):
            out: Tensor = functional_call(client, (p, buffers), (x,))
            return out

    return vmap(one)(own, batch.x, dict(batch.noise))


def used_weights(net: nn.Module, defense: Hooks, draws: Draws, memory: Memory, cut: int | None = None) -> Params | None:
    """The weights that each member of `draws` computes at, {name: (v, *shape)}; None: the net's. Behind a `cut` they
    are the server's, on which no client's defense acts."""
    params = defense.weights(net, draws, memory)
    if params is None or cut is None:
        return params
    own = {name for name, _ in split(net, cut).client.named_parameters()}
    servers = own_weights(net, len(draws.members))
    return {name: p if name in own else servers[name] for name, p in params.items()}


def server_sees(
    net: nn.Module,
    defense: Hooks,
    batch: Batch,
    draws: Draws,
    local: Local | None = None,
    memory: Memory | None = None,
    cut: int | None = None,
) -> Update:
    """What reaches the server about v victims: each one's message, or where messages are only seen summed, the mean
    message of each victim's cohort of n clients, who share the victim's b images evenly. None where it sees nothing.
    With a `cut` the message is the activations there.

    `memory` is that of the v * n clients.
    """
    if cut is not None:
        return make_activations(net, defense, batch, draws, cut, memory)
    if defense.cohort is None:
        return make_message(net, defense, batch, draws, local, memory)
    single, own = _of_clients(batch, defense.cohort, draws)
    messages = make_message(net, defense, single, own, local, memory)
    cohorts = [slice(i, i + defense.cohort) for i in range(0, len(single.y), defense.cohort)]
    seen = [
        defense.observed({k: None if g is None else g[one] for k, g in messages.items()}, own.at("server").part(one))
        for one in cohorts
    ]
    return {name: None if seen[0][name] is None else torch.stack([s[name] for s in seen]) for name in messages}  # type: ignore[misc]


def rounds_seen(
    net: nn.Module,
    defense: Hooks,
    batch: Batch,
    draws: Draws,
    rounds: int,
    local: Local | None = None,
    memory: Memory | None = None,
    cut: int | None = None,
) -> list[Update]:
    """What the server sees in consecutive rounds about the same batch, which clients that remember tell apart."""
    memory = {} if memory is None else memory
    return [server_sees(net, defense, batch, draws.at(r), local, memory, cut) for r in range(rounds)]


def transmitted(defense: Hooks, batch: Batch, draws: Draws, local: Local | None = None) -> Batch:
    """What the model saw instead of `batch` when the server saw it with the same draws (in its first local step)."""
    where = ("images",) if local is None else ("images", 0)
    if defense.cohort is None:
        return defense.images(batch, draws.at(*where))
    single, own = _of_clients(batch, defense.cohort, draws)
    sent = defense.images(single, own.at(*where))
    v = len(batch.y)
    return replace(batch, x=sent.x.reshape(batch.x.shape), y=sent.y.reshape(v, -1, *sent.y.shape[2:]))


def _of_clients(batch: Batch, n: int, draws: Draws) -> tuple[Batch, Draws]:
    """The batches and streams of the clients that make up the victims' cohorts."""
    v, b = batch.x.shape[:2]
    if b % n:
        raise ValueError(f"{b} images cannot be shared out evenly to a cohort of {n} clients")
    x, y = (t.reshape(v * n, b // n, *t.shape[2:]) for t in (batch.x, batch.y))
    return Batch(x, y), draws.of([m * n + k for m in draws.members for k in range(n)])


def _step(
    net: nn.Module,
    defense: Hooks,
    batch: Batch,
    draws: Draws,
    at: tuple[int, ...],
    params: Params | None,
    memory: Memory,
) -> Update:
    sent = defense.images(batch, draws.at("images", *at))
    noise = draw_noise(net, sent.x.shape[1], draws.at("layers", *at), sent.x)
    update = defense.gradient(net, replace(sent, noise=noise), draws.at("gradient", *at), params, memory)
    frozen = defense.frozen(update)
    return {name: None if name in frozen else g for name, g in update.items()}


def _train_locally(
    net: nn.Module,
    defense: Hooks,
    batch: Batch,
    draws: Draws,
    local: Local,
    params: Params | None,
    memory: Memory,
) -> Update:
    if params is None:
        params = own_weights(net, len(batch.y))
    start = params
    velocity = {name: torch.zeros_like(p) for name, p in params.items()}
    for epoch in range(local.epochs):
        for name, g in _step(net, defense, batch, draws, (epoch,), params, memory).items():
            if g is not None:
                velocity[name] = local.momentum * velocity[name] + g
                params = {**params, name: params[name] - local.lr * velocity[name]}
    frozen = defense.frozen(start)
    return {name: None if name in frozen else params[name] - start[name] for name in start}


def own_weights(net: nn.Module, v: int) -> Params:
    """The net's weights for each of v clients, (v, *shape) without copies."""
    return {name: p.detach().expand(v, *p.shape) for name, p in net.named_parameters()}


def mean_message(messages: list[Update]) -> Update:
    """The average of several messages about the same batch; None stays None."""
    first, n = messages[0], len(messages)
    return {name: None if first[name] is None else sum(m[name] for m in messages) / n for name in first}  # type: ignore[misc]
