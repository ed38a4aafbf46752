"""Federated training under a defense, once per client identity; its checkpoints serve every attack."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from gibench.datasets import Dataset, Parts
from gibench.defenses import Defense, Exposure, Source
from gibench.draws import Draws
from gibench.grid import Client
from gibench.learned.fit import seeded
from gibench.message import make_activations, make_message
from gibench.suite import Training
from gibench.types import Batch, Images, Local, Memory
from gibench.utility import utility_of


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind: weights and the clients' memories by checkpoint, the fitted defense, what an
    attacker can study of it."""

    checkpoints: Mapping[str, Mapping[str, Tensor]]
    memories: Mapping[str, Memory]
    defense: Defense
    studied: Mapping[str, Tensor]


def load_parts(dataset: Dataset, client_images: int | None, aux_images: int | None, device: str) -> Parts:
    """The dataset's parts on the device, capped as the suite says; a cap takes a prefix of the stored order."""
    parts = dataset.load()

    def cut(images: Images, cap: int | None = None) -> Images:
        return Images(images.x[:cap].to(device), images.y[:cap].to(device))

    return Parts(
        cut(parts.client, client_images), cut(parts.aux, aux_images), cut(parts.val), cut(parts.tune), cut(parts.test)
    )


def build_net(client: Client, defense: Defense) -> nn.Module:
    """The architecture as the defense changes it, with the initial weights of this client's seed."""
    dataset = client.dataset
    draws = Draws(("net", client.seed))
    net = seeded(draws, lambda: client.model.build(dataset.channels, dataset.side, dataset.classes))
    return seeded(draws.at("defense"), lambda: defense.network(net)).eval()


def train(client: Client, parts: Parts, judged: bool = False) -> tuple[Trained, dict[str, object]]:
    """Fit the defense, train through its hooks, measure utility. Returns the artefacts and the client's row.

    What only has to be judged is not studied: no attacker will meet it.

    The initial weights, the split over clients and their shuffles depend on the seed alone, so that defenses are
    compared on the same start and the same order of images.
    """
    draws = Draws((client.id,))
    settings, local = client.training, client.local
    shards = split_clients(parts.client.y, settings, Draws(("split", client.seed)))
    exposure = Exposure(
        images=min(len(shard) for shard in shards),
        all_images=len(parts.client.y),
        batch=settings.batch,
        rounds=settings.epochs * _rounds_per_epoch(parts.client, shards, settings),
        local_steps=1 if local is None else local.epochs,
    )
    clock = time.perf_counter()
    sources: Mapping[Source, Images] = {"aux": parts.aux, "client": parts.client, "federated": parts.client}
    defense = client.defense.learn(sources, draws.at("fit")).planned(exposure)
    net = build_net(client, defense).to(parts.client.x.device)
    net.load_state_dict(defense.start(net, parts.aux, draws.at("start")), strict=False)
    fitted = time.perf_counter()
    kept = Checkpoints()
    kept.add("init", net, {})
    train_rounds(net, defense, parts.client, shards, settings, client.seed, draws, kept)
    memory = kept.memories["final"]
    trained = time.perf_counter()
    studied = {} if judged else defense.study(parts.aux, draws.at("study"))
    row: dict[str, object] = {
        **client.describe(),
        **utility_of(net, defense, parts.test, draws.at("inference"), "", memory, client.cut),
        **utility_of(net, Defense(), parts.test, draws.at("raw"), "_raw", {}),
        **utility_of(net, defense, parts.val, draws.at("validation"), "_val", memory, client.cut),
        **defense.accounting(exposure),
        "images": len(parts.client.y),
        "rounds": exposure.rounds,
        **_cost(net, client, defense, parts.client, draws.at("cost")),
        "classes": client.dataset.classes,
        "strength": defense.strength,
        "fit_seconds": fitted - clock,
        "seconds": trained - fitted,
        "study_seconds": time.perf_counter() - trained,
        "status": "ok",
    }
    return Trained(kept.weights, kept.memories, defense, studied), row


def split_clients(labels: Tensor, settings: Training, draws: Draws) -> list[Tensor]:
    """Image indices of every client: an even random split, or label proportions from Dirichlet(alpha) per class."""
    n = min(settings.clients, len(labels))
    if settings.alpha is None:
        return list(torch.randperm(len(labels), generator=draws.generator()).tensor_split(n))
    generator = np.random.default_rng(draws.seed())
    shards: list[list[int]] = [[] for _ in range(n)]
    for label in labels.unique().tolist():
        own = generator.permutation((labels.cpu() == label).nonzero().squeeze(1).numpy())
        cuts = (np.cumsum(generator.dirichlet([settings.alpha] * n))[:-1] * len(own)).round().astype(int)
        for shard, piece in zip(shards, np.split(own, cuts), strict=True):
            shard.extend(piece.tolist())
    return [torch.tensor(sorted(shard)) for shard in shards if shard]


@dataclass(frozen=True)
class Checkpoints:
    """Copies of the net's weights and of the clients' memories, by name."""

    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)

    def add(self, name: str, net: nn.Module, memory: Memory) -> None:
        self.weights[name] = {key: value.detach().clone() for key, value in net.state_dict().items()}
        self.memories[name] = {key: value.detach().clone() for key, value in memory.items()}


def train_rounds(
    net: nn.Module,
    defense: Defense,
    images: Images,
    shards: list[Tensor],
    settings: Training,
    seed: int,
    draws: Draws,
    kept: Checkpoints,
) -> None:
    """Train in place; keeps the checkpoints `early`, after the first epoch, and `final`."""
    local = defense.local(settings.local())
    optimizer = _server(net, settings, local)
    memory: Memory = {}
    per_epoch = _rounds_per_epoch(images, shards, settings)
    pick = _poisson if defense.sampling == "poisson" else _shuffled
    for epoch in range(settings.epochs):
        for step, batch in enumerate(pick(images, shards, settings.batch, per_epoch, Draws(("order", seed, epoch)))):
            at = draws.at("train", epoch, step).of(range(len(shards)))
            messages = make_message(net, defense, batch, at, local, memory, settings.cut_at())
            update = defense.received(messages, at.at("server"))
            for name, parameter in net.named_parameters():
                g = update[name]
                parameter.grad = g if local is None or g is None else -g
            optimizer.step()
            if not all(bool(p.isfinite().all()) for p in net.parameters()):
                raise FloatingPointError(f"training diverged in epoch {epoch + 1}: a weight is not finite")
            _track_statistics(net, defense, batch, at)
        if epoch == 0:
            kept.add("early", net, memory)
    kept.add("final", net, memory)


def _rounds_per_epoch(images: Images, shards: list[Tensor], settings: Training) -> int:
    return max(1, len(images.y) // (len(shards) * settings.batch))


def _shuffled(images: Images, shards: list[Tensor], b: int, rounds: int, draws: Draws) -> list[Batch]:
    """Every client walks through its own shuffled images, starting over where it has fewer than others."""
    orders = [
        shard[torch.randperm(len(shard), generator=own.generator())]
        for shard, own in zip(shards, (draws.of((k,)) for k in range(len(shards))), strict=True)
    ]
    places = torch.arange(rounds * b).view(rounds, b)
    chosen = torch.stack([order[places % len(order)] for order in orders], 1)  # (rounds, clients, b)
    chosen = chosen.to(images.y.device)
    return [Batch(images.x[picked], images.y[picked]) for picked in chosen]


def _poisson(images: Images, shards: list[Tensor], b: int, rounds: int, draws: Draws) -> list[Batch]:
    """Every client includes each of its images with probability b / n; padded to the largest, with weight 0."""
    batches = []
    for step in range(rounds):
        at = draws.at("poisson", step).of(range(len(shards)))
        coins = at.uniform(max(len(shard) for shard in shards))
        taken = [
            shard[coin[: len(shard)] < min(1.0, b / len(shard))] for shard, coin in zip(shards, coins, strict=True)
        ]
        width = max(1, *(len(own) for own in taken))
        chosen, weight = torch.zeros(len(shards), width, dtype=torch.long), torch.zeros(len(shards), width)
        for k, own in enumerate(taken):
            chosen[k, : len(own)], weight[k, : len(own)] = own, 1
        chosen = chosen.to(images.y.device)
        batches.append(Batch(images.x[chosen], images.y[chosen], weight.to(images.x), b))
    return batches


def _server(net: nn.Module, settings: Training, local: Local | None) -> torch.optim.Optimizer:
    """The suite's own optimiser. Where only a defense trains locally, that is for gradients: weights are averaged."""
    if local is not None and settings.protocol == "fedsgd":
        return torch.optim.SGD(net.parameters(), lr=1.0)
    kind = settings.optimizer or ("adam" if local is None else "sgd")
    lr = settings.lr or (2e-3 if local is None else 1.0)
    if kind == "adam":
        return torch.optim.Adam(net.parameters(), lr=lr)
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=settings.momentum)


def _track_statistics(net: nn.Module, defense: Defense, batch: Batch, draws: Draws) -> None:
    """Batch normalisation: gradients use the running statistics, which follow the clients' mean after every round."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.train()
    with torch.no_grad():
        net(defense.images(batch, draws.at("statistics")).x.flatten(0, 1))
    net.eval()


def _cost(net: nn.Module, client: Client, defense: Defense, images: Images, draws: Draws) -> dict[str, float]:
    """Bytes that one client uploads per round, and the time of making messages relative to no defense's.

    Under split learning the bytes are those of the activations, the time that of a step through both parts. Both ways
    make the same messages of 32 clients in turns; the ratio is that of the medians of five.
    """
    index = torch.arange(32 * client.training.batch, device=images.y.device).view(32, -1) % len(images.y)
    batch = Batch(images.x[index], images.y[index])
    plain, memory = build_net(client, Defense()).to(images.x), dict[str, Tensor]()
    seconds: dict[str, list[float]] = {"plain": [], "defended": []}
    for turn in range(6):  # the first is a warm-up
        own = draws.at(turn).of(range(32))
        clock = time.perf_counter()
        make_message(plain, Defense(), batch, own, client.training.local())
        seconds["plain"].append(time.perf_counter() - clock)
        clock = time.perf_counter()
        update = make_message(net, defense, batch, own, client.local, memory, client.cut)
        seconds["defended"].append(time.perf_counter() - clock)
    if client.cut is not None:
        update = make_activations(net, defense, batch, draws.of(range(32)), client.cut, memory)
    bare, defended = (float(np.median(times[1:])) for times in seconds.values())
    return {"upload_bytes": defense.upload_bytes(update), "step_ratio": defended / bare}


def restore(client: Client, trained: Trained, checkpoint: str, device: str) -> nn.Module:
    """The net as the server sends it at a checkpoint."""
    net = build_net(client, trained.defense)
    net.load_state_dict(dict(trained.checkpoints[checkpoint]))
    return net.to(device).requires_grad_(True)
