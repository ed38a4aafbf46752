"""A variational autoencoder (Kingma and Welling 2014) of small images: what auxiliary data knows, in few numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.learned.fit import minimise, remembered, seeded


class VAE(nn.Module):
    """(n, c, h, w) in [0, 1] <-> z (n, latent), about standard normal; any side."""

    def __init__(self, channels: int, side: int, latent: int, width: int = 32) -> None:
        super().__init__()
        self.side = side
        small = -(-side // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width // 2, 5, 2, padding=2),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 5, 2, padding=2),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(width * small * small, 2 * latent),
        )
        self.decoder = upwards(latent, small, width, channels)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of z."""
        mean, spread = self.encoder((x - 0.5) / 0.25).chunk(2, 1)
        return mean, spread.clamp(-10, 4)

    def decode(self, z: Tensor) -> Tensor:
        out: Tensor = self.decoder(z).sigmoid()
        return out[..., : self.side, : self.side]

    def forward(self, x: Tensor) -> Tensor:
        """The nearest image that it knows: the projection on its range."""
        return self.decode(self.encode(x)[0])


def upwards(latent: int, small: int, width: int, channels: int) -> nn.Sequential:
    """z -> (n, channels, 4 small, 4 small), in four blocks whose outputs a search may also change."""
    half = width // 2
    return nn.Sequential(
        nn.Sequential(nn.Linear(latent, width * small * small), nn.Unflatten(1, (width, small, small))),
        nn.Sequential(nn.GELU(), nn.Conv2d(width, 2 * width, 3, padding=1), nn.PixelShuffle(2)),
        nn.Sequential(nn.GELU(), nn.Conv2d(half, half, 3, padding=1)),
        nn.Sequential(nn.GELU(), nn.Conv2d(half, 4 * channels, 3, padding=1), nn.PixelShuffle(2)),
    )


@remembered
def learn_vae(x: Tensor, draws: Draws, latent: int, epochs: int, beta: float = 0.3) -> VAE:
    """Least squares at a deviation of 0.1 per pixel plus beta times the divergence of z from N(0, I), in nats."""
    channels, side = x.shape[1:3]
    vae = seeded(draws.at("vae"), lambda: VAE(channels, side, latent)).to(x)

    def loss(chosen: Tensor, step: Draws) -> Tensor:
        raw = x[chosen]
        mean, spread = vae.encode(raw)
        noise = torch.randn(mean.shape, generator=step.generator()).to(mean)
        out = vae.decode(mean + noise * (spread / 2).exp())
        nats = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1).mean()
        return F.mse_loss(out, raw) * raw[0].numel() / (2 * 0.1**2) + beta * nats

    minimise(vae.parameters(), loss, len(x), epochs=epochs, lr=2e-3, draws=draws.at("vae", "fit"))
    return vae.eval().requires_grad_(False)
