"""Inverse networks: altered image -> raw image, in two families, since one family alone understates leakage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.learned.fit import minimise, seeded

HOLDOUT = 0.15  # share of the auxiliary images that ranks the families
Transform = Callable[[Tensor, Draws], Tensor]
"""Raw images (n, c, h, w) -> altered images, fresh randomness from the draws."""


class ConvInverter(nn.Module):
    """Residual convolutions at half and quarter resolution: corrects what it is given. Sides divisible by 4."""

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * channels, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.GELU(),
        )
        self.out = nn.Sequential(nn.Conv2d(2 * width, 4 * channels, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        out: Tensor = x + self.out(torch.cat([fine, self.coarse(fine)], 1))
        return out


class MLPInverter(nn.Module):
    """Sees the whole image at once; undoes what is not local."""

    def __init__(self, channels: int, side: int, width: int = 256) -> None:
        super().__init__()
        n = channels * side * side
        self.body = nn.Sequential(
            nn.Linear(n, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, n), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.flatten(1)).view_as(x)
        return out


def families(channels: int, side: int) -> dict[str, Callable[[], nn.Module]]:
    """The two architectures by name."""
    return {"conv": lambda: ConvInverter(channels), "mlp": lambda: MLPInverter(channels, side)}


def learn_inverters(x: Tensor, transform: Transform, draws: Draws, epochs: int = 30) -> dict[str, Tensor]:
    """Train a fresh network of each family to undo `transform`; weights and held-out errors in one flat mapping."""
    order = torch.randperm(len(x), generator=draws.at("holdout").generator())
    held, seen = order.split([int(HOLDOUT * len(x)), len(x) - int(HOLDOUT * len(x))])
    learned: dict[str, Tensor] = {}
    for name, make in families(*x.shape[1:3]).items():
        net = seeded(draws.at(name), make).to(x)

        def loss(chosen: Tensor, step: Draws, net: nn.Module = net) -> Tensor:
            raw = x[seen[chosen]]
            return F.mse_loss(net(transform(raw, step)), raw)

        minimise(net.parameters(), loss, len(seen), epochs=epochs, lr=2e-3, draws=draws.at(name, "fit"))
        with torch.no_grad():
            error = F.mse_loss(net(transform(x[held], draws.at("error"))).clamp(0, 1), x[held])
        learned[f"{name}/error"] = error.reshape(1)
        learned |= {f"{name}/{key}": value for key, value in net.state_dict().items()}
    return learned


def best_inverter(learned: Mapping[str, Tensor], channels: int, side: int) -> nn.Module:
    """The family with the smaller held-out error."""
    choices = families(channels, side)
    name = min(choices, key=lambda family: float(learned[f"{family}/error"]))
    net = seeded(Draws(("shape",)), choices[name])
    weights = {key.removeprefix(f"{name}/"): value for key, value in learned.items() if key.startswith(f"{name}/")}
    net.load_state_dict({key: value for key, value in weights.items() if key != "error"})
    return net.to(learned[f"{name}/error"].device).eval()
