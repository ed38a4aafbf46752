"""Three ways to perturb an image in a latent space, each from fresh standard normal noise that the caller draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.learned.autoencoder import Autoencoder, Perturber
from gibench.learned.vae import upwards


class Transform(nn.Module):
    """`forward(x, eps, y)`: images (n, c, h, w) and noise (n, *noise) -> transmitted images and their price (n,).

    The price is what a transmission tells in nats, beyond what its class tells where `y` matters.
    """

    noise: tuple[int, ...]

    def encode(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError


class Maps(Transform):
    """Those with an autoencoder's latent, learned beforehand, and a small network that perturbs it."""

    def __init__(self, channels: int, side: int, latent: int, out: int) -> None:
        super().__init__()
        self.autoencoder, self.perturber = Autoencoder(channels, latent), Perturber(latent, out)
        self.noise = (latent, side // 4, side // 4)

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.autoencoder.encode(x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.autoencoder.decode(z)
        return x


class Shift(Maps):
    """The latent moves by exactly rho times its norm, in a learned direction with a share of fresh noise."""

    def __init__(self, channels: int, side: int, latent: int, rho: float, fresh: float) -> None:
        super().__init__(channels, side, latent, 1)
        self.rho, self.fresh = rho, fresh

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.encode(x)
        direction = (1 - self.fresh) ** 0.5 * _unit(self.perturber(z, eps)) + self.fresh**0.5 * _unit(eps)
        return self.decode(moved(z, direction, self.rho)), torch.zeros(len(x)).to(x)


class Outside(Shift):
    """The control: fresh noise of the same relative norm on the decoded image instead of its latent."""

    def __init__(self, channels: int, side: int, latent: int, rho: float, fresh: float) -> None:
        super().__init__(channels, side, latent, rho, fresh)
        self.noise = (channels, side, side)

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        image = self.decode(self.encode(x))
        return moved(image, eps, self.rho).clamp(0, 1), torch.zeros(len(x)).to(x)


class Bottleneck(Maps):
    """The latent is drawn from learned means and deviations; the price is the divergence from N(0, I)."""

    def __init__(self, channels: int, side: int, latent: int) -> None:
        super().__init__(channels, side, latent, 2)

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.encode(x)
        mean, raw = self.perturber(z, torch.zeros_like(z)).chunk(2, 1)
        mean, deviation = z + mean, F.softplus(raw) + 1e-4
        return self.decode(mean + deviation * eps), _nats(mean, deviation)


class Contrast(nn.Module):
    """Grey values before their sigmoid (n, c, h, w): every pixel at mean 0 and deviation 1.5 over the images.

    In use by running moments, as in batch normalisation (Ioffe and Szegedy 2015).
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("variance", torch.ones(pixels))

    def forward(self, x: Tensor) -> Tensor:
        own = self.training and len(x) > 1
        even = F.batch_norm(x.flatten(1), self.mean, self.variance, training=own, eps=1e-8)  # faint is no way out
        return 1.5 * even.view_as(x)


class Code(Transform):
    """A code of few numbers, drawn from means and deviations, that is trained for the task alone.

    The price is the divergence from a normal around the centre of the image's class (Fischer 2020: the conditional
    entropy bottleneck): a gradient tells the class anyway, so only what a code tells beyond it is paid for.
    """

    def __init__(
        self, channels: int, side: int, latent: int, classes: int, contrast: bool = False, width: int = 32
    ) -> None:
        super().__init__()
        small = -(-side // 4)
        self.side, self.noise = side, (latent,)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 5, 2, padding=2),
            nn.GELU(),
            nn.Conv2d(16, width, 3, 2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(width * small * small, 64),
            nn.GELU(),
            nn.Linear(64, 2 * latent),
        )
        self.up = upwards(latent, small, width, channels)
        self.grey = Contrast(channels * (4 * small) ** 2) if contrast else nn.Identity()
        self.centres = nn.Parameter(torch.randn(classes, latent) / 2)

    def encode(self, x: Tensor) -> Tensor:
        return self._spread(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.grey(self.up(z)).sigmoid()
        return x[..., : self.side, : self.side]

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, deviation = self._spread(x)
        centre = 0.0 if y is None else self.centres[y]
        return self.decode(mean + deviation * eps), _nats(mean - centre, deviation)

    def _spread(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.body((x - 0.5) / 0.25).chunk(2, 1)
        return mean, F.softplus(raw) + 1e-2


def moved(z: Tensor, direction: Tensor, rho: float) -> Tensor:
    """Every row of z (n, ...) away by exactly rho times its norm."""
    return z + rho * _norm(z) * _unit(direction)


def each(net: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What works on (n, ...) for victims' batches (v, b, ...)."""
    return lambda x: net(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _nats(mean: Tensor, deviation: Tensor) -> Tensor:
    """Divergence of N(mean, deviation) from N(0, I), (n,)."""
    return 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).flatten(1).sum(1)


def _norm(z: Tensor) -> Tensor:
    return (z.flatten(1).square().sum(1) + 1e-12).sqrt().view(-1, *[1] * (z.dim() - 1))


def _unit(z: Tensor) -> Tensor:
    return z / _norm(z)
