"""Decoders: features of a net -> the image behind them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gibench.learned.vae import upwards


class MapDecoder(nn.Module):
    """Feature maps (n, k, h, w) -> (n, channels, side, side): convolutions at the maps' size, and a linear way past."""

    def __init__(self, k: int, small: int, channels: int, side: int, width: int = 64) -> None:
        super().__init__()
        self.side, times = side, -(-side // small)
        pixels = channels * times * times
        self.body = nn.Sequential(
            nn.Conv2d(k, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, pixels, 3, padding=1),
        )
        self.past = nn.Conv2d(k, pixels, 5, padding=2)
        self.grow = nn.PixelShuffle(times)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.grow(self.body(maps) + self.past(maps))
        return out[..., : self.side, : self.side]


def decoder_of(features: tuple[int, ...], channels: int, side: int) -> nn.Module:
    """A net from features of this shape, maps (k, h, w) or a vector (k,), to images; fresh weights."""
    if len(features) == 3:
        return MapDecoder(features[0], features[1], channels, side)
    return nn.Sequential(nn.Flatten(), upwards(torch.Size(features).numel(), -(-side // 4), 32, channels), Crop(side))


class Crop(nn.Module):
    """The upper left corner, in [0, 1]."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()[..., : self.side, : self.side]
