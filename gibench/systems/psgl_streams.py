"""PSGL (Khowaja et al. 2022, arXiv 2201.04569): what each of the server's three views is worth, and all of them fused.

Published: streams fused by 3x3 convolutions and the weights (.5, .3, .2). This project's reading: each stream alone and
the fusion are trained from scratch with the same small classifier behind them, on the same altered images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.learned.fit import minimise, seeded
from gibench.systems.psgl import WEIGHTS, Fusion, streams

NAMES = ("sent", "recovered", "rest")


class Sent(NamedTuple):
    """What clients sent, `gibench.systems.psgl.packed` (n, 4c + 1, h / 2, w / 2), and its labels (n,)."""

    x: Tensor
    y: Tensor


def stream_accuracies(
    train: Sent, test: Sent, draws: Draws, threshold: float = 0.1, epochs: int = 20, width: int = 32
) -> dict[str, float]:
    """Accuracy on `test` of each stream alone and of `fused`, by its name."""
    seen, new = (streams(part.x, threshold) for part in (train, test))
    classes, channels = int(train.y.max()) + 1, (train.x.shape[1] - 1) // 4
    found = {}
    for name, own, held in zip(NAMES, seen, new, strict=True):
        front = _Alone(own.shape[1], width, draws.at(name, "front"))
        found[name] = _accuracy(front, [own], [held], train.y, test.y, classes, draws.at(name), epochs)
    fusion = seeded(draws.at("fused", "front"), lambda: Fusion(channels, width, WEIGHTS))
    return found | {"fused": _accuracy(fusion, seen, new, train.y, test.y, classes, draws.at("fused"), epochs)}


class _Alone(nn.Module):
    """The fusion of a single stream."""

    def __init__(self, channels: int, width: int, draws: Draws) -> None:
        super().__init__()
        self.conv = seeded(draws, lambda: nn.Conv2d(channels, width, 3, padding=1))

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.conv(parts[0])
        return out


def _accuracy(
    front: nn.Module,
    seen: Sequence[Tensor],
    new: Sequence[Tensor],
    y: Tensor,
    truth: Tensor,
    classes: int,
    draws: Draws,
    epochs: int,
) -> float:
    """Of `front` with a classifier behind it, trained on the streams `seen`, on those that are `new`."""
    width = front.to(seen[0])([part[:1] for part in seen]).shape[1]
    behind = seeded(draws.at("behind"), lambda: _behind(width, classes, seen[0].shape[-1]))
    net = nn.ModuleList([front, behind]).to(seen[0])

    def logits(parts: Sequence[Tensor]) -> Tensor:
        out: Tensor = behind(front(parts))
        return out

    def loss(chosen: Tensor, _: Draws) -> Tensor:
        return F.cross_entropy(logits([part[chosen] for part in seen]), y[chosen])

    minimise(net.parameters(), loss, len(y), epochs=epochs, lr=2e-3, draws=draws.at("fit"))
    with torch.no_grad():
        return float((logits(new).argmax(1) == truth).double().mean())


def _behind(width: int, classes: int, side: int) -> nn.Module:
    """Two convolutions at half the streams' side and a linear layer."""
    small = -(-side // 2)
    convs = (nn.Conv2d(width, width, 3, 2, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU())
    return nn.Sequential(nn.GELU(), *convs, nn.Flatten(), nn.Linear(width * small * small, classes))
