"""A net on shares (after Kaissis et al. 2021, arXiv 2012.06354): layers as products, activations as broken lines.

Neither party sees image, weights or any activation. The architecture and the activations' broken lines are public.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gibench.systems.two_party import Floats, TwoParty, Words

LIMIT = 8.0  # beyond this an activation is a straight line
GRID = np.linspace(-LIMIT, LIMIT, 4001)
SMOOTH = (nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)
BROKEN = (nn.ReLU, nn.LeakyReLU)


@dataclass(frozen=True)
class Line:
    """start + slope (x - knots[0]) + sum of bends[k] max(x - knots[k], 0), and its largest error on +-LIMIT."""

    knots: Floats
    start: float
    slope: float
    bends: Floats
    error: float

    def __call__(self, x: Floats) -> Floats:
        above: Floats = np.maximum(x[..., None] - self.knots, 0) @ self.bends
        values: Floats = self.start + self.slope * (x - self.knots[0]) + above
        return values


def broken_line(layer: nn.Module, pieces: int) -> Line:
    """An activation through `pieces` of its own points, dense where it bends; one point where it has a kink itself."""
    truth = _values(layer, GRID)
    if isinstance(layer, BROKEN):
        knots = np.zeros(1)
    else:
        density = np.sqrt(np.abs(np.gradient(np.gradient(truth, GRID), GRID))) + 1e-6
        share = np.cumsum(density) / density.sum()
        knots = np.interp((np.arange(pieces) + 0.5) / pieces, share, GRID)
    ends = np.array([knots[0] - LIMIT, *knots, knots[-1] + LIMIT])
    values = _values(layer, ends)
    slopes = np.diff(values) / np.diff(ends)
    line = Line(knots, float(values[1]), float(slopes[0]), np.diff(slopes), 0.0)
    return Line(line.knots, line.start, line.slope, line.bends, float(np.abs(line(GRID) - truth).max()))


def unknown_layer(net: nn.Module) -> str:
    """The first layer for which there is no protocol here; empty if there is none."""
    if not isinstance(net, nn.Sequential):
        return type(net).__name__
    for place, layer in enumerate(net):
        fits = isinstance(layer, (nn.Linear, nn.Flatten, *SMOOTH, *BROKEN)) or _is_centre(layer, place)
        conv = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.dilation == (1, 1)
        if not fits and not (conv and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)):
            return type(layer).__name__
    return ""


def encrypted(net: nn.Sequential, x: Tensor, session: TwoParty, pieces: int) -> tuple[Floats, float]:
    """Logits (n, k) of images (n, c, h, w) that one party holds, by a net that the other holds, and the largest error
    of an activation's broken line. The fixed normalisation is the image owner's own work."""
    layers = list(net)
    if layers and _is_centre(layers[0], 0):
        with torch.no_grad():
            x = layers.pop(0)(x)
    shares, worst = session.share(x.detach().double().cpu().numpy()), 0.0
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            shares = _weighted(layer, shares, session)
        elif isinstance(layer, nn.Flatten):
            shares = shares.reshape(2, shares.shape[1], -1)
        else:
            line = broken_line(layer, pieces)
            shares, worst = _bent(line, shares, session), max(worst, line.error)
    return session.reveal(shares), worst


def _weighted(layer: nn.Conv2d | nn.Linear, shares: Words, session: TwoParty) -> Words:
    weight = session.share(layer.weight.detach().double().cpu().numpy())
    if isinstance(layer, nn.Linear):
        out = session.product(shares, weight, lambda x, w: x @ w.T)
    else:
        stride, pad = int(layer.stride[0]), int(layer.padding[0])
        out = session.product(shares, weight, lambda x, w: _convolved(x, w, stride, pad))
    if layer.bias is not None:
        bias = session.share(layer.bias.detach().double().cpu().numpy(), scale=2)
        out = out + bias.reshape(2, 1, -1, *[1] * (out.ndim - 3))
    return session.cut(out)


def _bent(line: Line, shares: Words, session: TwoParty) -> Words:
    above = session.relu(session.plus(shares[..., None], session.encode(-line.knots)))
    straight = session.plus(shares, session.encode(-line.knots[0])) * session.encode(line.slope)
    return session.cut(session.plus(above @ session.encode(line.bends) + straight, session.encode(line.start, 2)))


def _convolved(x: Words, w: Words, stride: int, pad: int) -> Words:
    """(n, c, h, w) and (o, c, k, k) -> (n, o, h', w'), mod 2^64."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    n, _, rows, columns = windows.shape[:4]
    flat = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * rows * columns, -1)
    return (flat @ w.reshape(len(w), -1).T).reshape(n, rows, columns, len(w)).transpose(0, 3, 1, 2)


def _values(layer: nn.Module, x: Floats) -> Floats:
    with torch.no_grad():
        values: Floats = layer(torch.from_numpy(x)).numpy()
    return values


def _is_centre(layer: nn.Module, place: int) -> bool:
    """The models' fixed normalisation, which has no weights."""
    return place == 0 and type(layer).__name__ == "Centre" and not list(layer.parameters())
