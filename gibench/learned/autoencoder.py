"""The autoencoder and the latent perturber of `latent_perturb`; no batch norm, which would mix samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """(n, c, h, w) in [0, 1] <-> latent (n, d, h/4, w/4); sides divisible by 4."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(channels, 16, 5, 2, padding=2),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, 2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, latent, 3, padding=1),
        )
        self.decode = nn.Sequential(
            nn.Conv2d(latent, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.PixelShuffle(2),
            nn.GELU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decode(self.encode(x))
        return out

    def logits(self, x: Tensor) -> Tensor:
        """What the last sigmoid of `forward` is applied to."""
        out: Tensor = self.decode[:-1](self.encode(x))
        return out


class Perturber(nn.Module):
    """Latent and noise (n, 2d, h, w) -> `out` latent-shaped maps (n, out * d, h, w)."""

    def __init__(self, latent: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2 * latent, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, out * latent, 3, padding=1),
        )

    def forward(self, z: Tensor, eps: Tensor) -> Tensor:
        r: Tensor = self.body(torch.cat([z, eps], 1))
        return r
