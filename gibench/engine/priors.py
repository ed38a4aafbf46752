"""What images look like, whatever the message says: penalties on an iterate, one number per victim."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gibench.bn import statistics_of

Prior = Callable[[Tensor], Tensor]
"""x (v, b, c, h, w) -> (v,)"""


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, both directions, any channel count."""
    down, right = x.diff(dim=-2).abs().flatten(1).mean(1), x.diff(dim=-1).abs().flatten(1).mean(1)
    return down + right


def energy(x: Tensor) -> Tensor:
    """Mean square of the pixels."""
    return x.square().flatten(1).mean(1)


def towards(project: Callable[[Tensor], Tensor]) -> Prior:
    """Mean squared distance to `project(x)`, held fixed: a denoiser's or an autoencoder's opinion of x.

    `project` maps (n, c, h, w) to the same shape. With a denoiser this is regularisation by denoising (Romano, Elad,
    Milanfar 2017, arXiv 1611.02862).
    """

    def penalty(x: Tensor) -> Tensor:
        with torch.no_grad():
            there = project(x.flatten(0, 1)).view_as(x)
        return (x - there).square().flatten(1).mean(1)

    return penalty


def batch_statistics(net: nn.Module, observed: Mapping[str, tuple[Tensor, Tensor]], first: float = 1.0) -> Prior:
    """Distance of mean and variance at every BatchNorm layer to the observed ones (Yin et al. 2021, equation 8).

    `first` weighs the first layer. Every layer's distance is the norm of the difference of its channels.
    """

    def penalty(x: Tensor) -> Tensor:
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for place, (name, (mean, variance)) in enumerate(statistics_of(net, x).items()):
            apart = _length(mean - observed[name][0]) + _length(variance - observed[name][1])
            total = total + (first if place == 0 else 1.0) * apart
        return total

    return penalty


def _length(difference: Tensor) -> Tensor:
    return (difference.square().sum(1) + 1e-20).sqrt() - 1e-10
