"""Federated training under a defense, once per client identity; its checkpoints serve every attack."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from gibench.datasets import Dataset, Parts
from gibench.defenses import Defense, Exposure
from gibench.draws import Draws
from gibench.grid import Client
from gibench.learned.fit import seeded
from gibench.message import make_message
from gibench.suite import Training
from gibench.types import Batch, Images, Local


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind: weights by checkpoint, the fitted defense, what an attacker can study of it."""

    checkpoints: Mapping[str, Mapping[str, Tensor]]
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


def local_of(training: Training) -> Local | None:
    """The local training of a FedAvg client; None for FedSGD."""
    if training.protocol == "fedsgd":
        return None
    return Local(training.local_epochs, training.local_lr, training.local_momentum)


def train(client: Client, parts: Parts) -> tuple[Trained, dict[str, object]]:
    """Fit the defense, train through its hooks, measure utility. Returns the artefacts and the client's row.

    The initial weights, the split over clients and their shuffles depend on the seed alone, so that defenses are
    compared on the same start and the same order of images.
    """
    draws = Draws((client.id,))
    clock = time.perf_counter()
    defense = client.defense.fit(parts.aux, draws.at("fit"))
    fitted = time.perf_counter()
    net = build_net(client, defense).to(parts.client.x.device)
    checkpoints = {"init": _weights(net)}
    settings = client.training
    shards = split_clients(parts.client.y, settings, Draws(("split", client.seed)))
    rounds = train_rounds(net, defense, parts.client, shards, settings, client.seed, draws, checkpoints)
    checkpoints["final"] = _weights(net)
    trained = time.perf_counter()
    studied = defense.study(parts.aux, draws.at("study"))
    exposure = Exposure(
        images=min(len(shard) for shard in shards),
        all_images=len(parts.client.y),
        batch=settings.batch,
        rounds=rounds,
        local_steps=settings.local_epochs if settings.protocol == "fedavg" else 1,
    )
    row: dict[str, object] = {
        **client.describe(),
        **_utility(net, defense, parts.test, draws.at("inference"), ""),
        **_utility(net, Defense(), parts.test, draws.at("raw"), "_raw"),
        **defense.accounting(exposure),
        "images": len(parts.client.y),
        "rounds": rounds,
        "upload_bytes": 4 * sum(p.numel() for p in net.parameters()),
        "fit_seconds": fitted - clock,
        "seconds": trained - fitted,
        "study_seconds": time.perf_counter() - trained,
        "status": "ok",
    }
    return Trained(checkpoints, defense, studied), row


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


def train_rounds(
    net: nn.Module,
    defense: Defense,
    images: Images,
    shards: list[Tensor],
    settings: Training,
    seed: int,
    draws: Draws,
    checkpoints: dict[str, dict[str, Tensor]],
) -> int:
    """Train in place; adds the checkpoint `early` after the first epoch. Returns the number of rounds."""
    optimizer = _server(net, settings)
    local = local_of(settings)
    per_epoch = max(1, len(images.y) // (len(shards) * settings.batch))
    pick = _poisson if defense.sampling == "poisson" else _shuffled
    for epoch in range(settings.epochs):
        for step, batch in enumerate(pick(images, shards, settings.batch, per_epoch, Draws(("order", seed, epoch)))):
            at = draws.at("train", epoch, step).of(range(len(shards)))
            messages = make_message(net, defense, batch, at, local)
            update = defense.received(messages, Draws((*at.path, "server")))
            for name, parameter in net.named_parameters():
                g = update[name]
                parameter.grad = g if local is None or g is None else -g
            optimizer.step()
            if not all(bool(p.isfinite().all()) for p in net.parameters()):
                raise FloatingPointError(f"training diverged in epoch {epoch + 1}: a weight is not finite")
            _track_statistics(net, defense, batch, at)
        if epoch == 0:
            checkpoints["early"] = _weights(net)
    return settings.epochs * per_epoch


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


def _server(net: nn.Module, settings: Training) -> torch.optim.Optimizer:
    kind = settings.optimizer or ("adam" if settings.protocol == "fedsgd" else "sgd")
    lr = settings.lr or (2e-3 if settings.protocol == "fedsgd" else 1.0)
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


def _utility(net: nn.Module, defense: Defense, test: Images, draws: Draws, suffix: str) -> dict[str, float]:
    """Utility on images as the defense shows them to the model in use, each with noise of its own."""
    logits = torch.cat(
        [
            net(
                defense.inference(
                    Batch(test.x[part].unsqueeze(1), test.y[part].unsqueeze(1)), draws.of(part)
                ).x.squeeze(1)
            )
            for part in (range(i, min(i + 1000, len(test.y))) for i in range(0, len(test.y), 1000))
        ]
    ).detach()
    if not bool(logits.isfinite().all()):
        raise FloatingPointError("training diverged: an output of the final model is not finite")
    truth, guess = test.y.cpu().numpy(), logits.argmax(1).cpu().numpy()
    losses = nn.functional.cross_entropy(logits.double(), test.y)
    scores = logits.double().softmax(1).cpu().numpy()
    found = {
        "utility": float((truth == guess).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth, guess)),
        "auc": _auc(truth, scores),
        "cross_entropy": float(losses),
    }
    return {name + suffix: value for name, value in found.items()}


def _auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Macro one-against-rest over the classes that occur."""
    return float(np.mean([roc_auc_score(truth == c, scores[:, c]) for c in np.unique(truth)]))


def _weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def restore(client: Client, trained: Trained, checkpoint: str, device: str) -> nn.Module:
    """The net as the server sends it at a checkpoint."""
    net = build_net(client, trained.defense)
    net.load_state_dict(dict(trained.checkpoints[checkpoint]))
    return net.to(device).requires_grad_(True)
