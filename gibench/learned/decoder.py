"""Decoders: what a net's first layers make of an image -> the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.learned.vae import upwards

PATCHES = 200_000  # examples that the linear part is solved on, at most
TAPS = 512  # inputs of one of its outputs, about at most
PENALTY = 1e-5  # of its ridge, relative to the mean square of an input


class Upwards(nn.Module):
    """Vectors (n, k) -> (n, channels, side, side) in [0, 1]: a linear layer and convolutions at rising size."""

    def __init__(self, k: int, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.body = upwards(k, -(-side // 4), 32, channels)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.body(features).sigmoid()
        return out[..., : self.side, : self.side]


class Decoder(nn.Module):
    """Activations (n, k, h, w) or (n, k) -> (n, channels, side, side), near [0, 1].

    A linear map, of an image's whole vector or of each place's neighbourhood, which least squares solve, plus a small
    net that begins at zero and learns what is left. Either alone is far weaker: behind lenet's first layer, of chest
    X-rays, 36 and 25 dB alone and 43 dB together.
    """

    linear: Tensor

    def __init__(self, features: tuple[int, ...], channels: int, side: int, width: int = 64) -> None:
        super().__init__()
        k, small = features[0], features[-1] if len(features) == 3 else 1
        self.maps, self.side, self.times = len(features) == 3, side, -(-side // small)
        pixels = channels * self.times**2
        self.taps = next((n for n in (5, 3) if k * n * n <= TAPS), 1) if self.maps else 1
        self.register_buffer("linear", torch.zeros(k * self.taps**2 + 1, pixels))
        n, width = (3, width) if self.maps else (1, 4 * width)
        sizes = ((k, width), (width, width), (width, pixels))
        first, second, last = (nn.Conv2d(a, b, n, padding=n // 2) for a, b in sizes)
        self.body = nn.Sequential(first, nn.GELU(), second, nn.GELU(), last)
        for start in last.parameters():
            nn.init.zeros_(start)

    def solve(self, seen: Tensor, x: Tensor) -> None:
        """Set the linear part: `seen` (m, n, *features), m times the activations of images x (n, channels, h, w)."""
        pad = self.times * seen.shape[-1] - self.side if self.maps else 0
        size = self.linear.shape[0]
        gram, right = (torch.zeros(size, n, dtype=torch.float64, device=x.device) for n in (size, self.linear.shape[1]))
        places = seen[0, 0, 0].numel() if self.maps else 1
        used = max(1, min(len(x), PATCHES // (places * len(seen))))
        target = F.pixel_unshuffle(F.pad(x[:used], (0, pad, 0, pad)), self.times).flatten(2).transpose(1, 2)
        for once in seen:
            inputs = self._inputs(once[:used]).double()
            gram += torch.einsum("npi,npj->ij", inputs, inputs)
            right += torch.einsum("npi,npo->io", inputs, target.double())
        ridge = PENALTY * gram.diagonal().mean() * torch.eye(size).to(gram)
        self.linear = torch.linalg.solve(gram + ridge, right).to(x)

    def forward(self, seen: Tensor) -> Tensor:
        square = seen if self.maps else seen.flatten(1)[..., None, None]
        plain = (self._inputs(seen) @ self.linear).transpose(1, 2).unflatten(2, square.shape[2:])
        return F.pixel_shuffle(plain + self.body(square), self.times)[..., : self.side, : self.side]

    def _inputs(self, seen: Tensor) -> Tensor:
        """(n, places, taps and a one)."""
        flat = F.unfold(seen, self.taps, padding=self.taps // 2).transpose(1, 2) if self.maps else seen.unsqueeze(1)
        return torch.cat([flat, torch.ones_like(flat[..., :1])], 2)
