"""A denoiser trained on auxiliary images at every noise level up to a largest one, blind to which."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.learned.fit import minimise, remembered, seeded
from gibench.learned.inverter import ConvInverter


@remembered
def learn_denoiser(x: Tensor, draws: Draws, sigma: float, epochs: int) -> nn.Module:
    """(n, c, h, w) -> the same: the expected image behind Gaussian noise of a deviation between 0 and `sigma`."""
    net = seeded(draws.at("denoiser"), lambda: ConvInverter(x.shape[1])).to(x)

    def loss(chosen: Tensor, step: Draws) -> Tensor:
        raw, generator = x[chosen], step.generator()
        level = sigma * torch.rand(len(raw), 1, 1, 1, generator=generator).to(raw)
        return F.mse_loss(net(raw + level * torch.randn(raw.shape, generator=generator).to(raw)), raw)

    minimise(net.parameters(), loss, len(x), epochs=epochs, lr=2e-3, draws=draws.at("denoiser", "fit"))
    return net.eval().requires_grad_(False)
