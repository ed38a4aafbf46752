"""A small DCGAN (Radford et al. 2016) of auxiliary images, trained by the hinge loss with a spectral-norm judge."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gibench.draws import Draws
from gibench.learned.fit import minibatches, remembered, seeded
from gibench.learned.vae import upwards

RATES = 1e-3, 2e-3  # generator, judge


class Generator(nn.Module):
    """z (n, latent), standard normal -> (n, c, h, w) in [0, 1]; `blocks` are the stages that a search may enter."""

    def __init__(self, channels: int, side: int, latent: int, width: int = 32) -> None:
        super().__init__()
        self.latent, self.side = latent, side
        self.blocks = upwards(latent, -(-side // 4), width, channels)

    def forward(self, z: Tensor, first: int = 0) -> Tensor:
        """From z, or from what goes into block `first`."""
        out: Tensor = self.blocks[first:](z).sigmoid()
        return out[..., : self.side, : self.side]


@remembered
def learn_generator(x: Tensor, draws: Draws, latent: int, epochs: int) -> Generator:
    """Adversarial training on x (n, c, h, w); returns the running mean of the generator's weights."""
    channels, side = x.shape[1:3]
    generator = seeded(draws.at("generator"), lambda: Generator(channels, side, latent)).to(x)
    average = deepcopy(generator)
    judge = seeded(draws.at("judge"), lambda: _judge(channels, side)).to(x)
    makes = torch.optim.Adam(generator.parameters(), lr=RATES[0], betas=(0.0, 0.9))
    judges = torch.optim.Adam(judge.parameters(), lr=RATES[1], betas=(0.0, 0.9))
    noise = draws.at("z").generator()
    for epoch in range(epochs):
        for chosen in minibatches(len(x), 32, draws.at("order", epoch)):
            made = generator(torch.randn(len(chosen), latent, generator=noise).to(x))
            judges.zero_grad()
            (_hinge(judge(x[chosen])) + _hinge(-judge(made.detach()))).backward()
            judges.step()
            makes.zero_grad()
            (-judge(made).mean()).backward()
            makes.step()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), generator.parameters(), strict=True):
                    slow.lerp_(fast, 0.01)
    return average.eval().requires_grad_(False)


def _hinge(score: Tensor) -> Tensor:
    return (1 - score).clamp(min=0).mean()


def _judge(channels: int, side: int, width: int = 16) -> nn.Module:
    small = -(-side // 4)
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, width, 5, 2, padding=2)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 2 * width, 5, 2, padding=2)),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        spectral_norm(nn.Linear(2 * width * small * small, 1)),
    )
