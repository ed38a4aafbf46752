"""Inverse networks: altered image -> raw image, in four families, since one family alone understates leakage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.learned.fit import minimise, seeded

PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)  # of the ridge, per example
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


class WhitenedInverter(nn.Module):
    """Sees the leading principal components of the altered images, scaled to equal spread; adds to the mean image.

    The strongest by far where little is left: of noise as large as the image a plain MLP learns only the coarse part.
    """

    centre: Tensor
    basis: Tensor
    mean: Tensor

    def __init__(self, channels: int, side: int, width: int = 512, components: int = 256) -> None:
        super().__init__()
        n = channels * side * side
        self.components = min(components, n)
        self.body = self._body(n, width)
        for name, shape in (("centre", (n,)), ("basis", (n, self.components)), ("mean", (n,))):
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mean + 0.2 * self.body(self.features(x))
        return out.view_as(x)

    def features(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - self.centre) @ self.basis

    def look(self, altered: Tensor, raw: Tensor) -> None:
        """Take centre, directions and spread from examples."""
        a = altered.flatten(1).double()
        self.centre, self.mean = a.mean(0).to(raw), raw.flatten(1).mean(0)
        a = a - a.mean(0)
        wide = a.shape[1] > len(a)
        values, vectors = torch.linalg.eigh(a @ a.T if wide else a.T @ a)
        values, vectors = values[-self.components :], vectors[:, -self.components :]
        values = values.clamp(min=0) + 1e-4 * values.mean() + 1e-12
        basis = a.T @ vectors / values.sqrt() if wide else vectors
        basis = basis * (len(a) / values).sqrt()
        self.basis = torch.nn.functional.pad(basis, (0, self.components - basis.shape[1])).to(raw)

    def _body(self, n: int, width: int) -> nn.Module:
        layers = (nn.Linear(self.components, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, n))
        return nn.Sequential(*layers)


class RidgeInverter(WhitenedInverter):
    """Linear in the same components, solved in closed form: the best guess where image and noise are normal."""

    def _body(self, n: int, width: int) -> nn.Module:
        return nn.Linear(self.components, n, bias=False)

    def solve(self, altered: Tensor, raw: Tensor, penalty: float) -> None:
        f = self.features(altered).double()
        target = (raw.flatten(1) - self.mean).double() / 0.2
        gram = f.T @ f + penalty * len(f) * torch.eye(f.shape[1]).to(f)
        with torch.no_grad():
            self.body.weight.copy_(torch.linalg.solve(gram, f.T @ target).T)  # type: ignore[operator]


def families(channels: int, side: int) -> dict[str, Callable[[], nn.Module]]:
    """The architectures by name; the first two are also those that a defense may train against."""
    return {
        "conv": lambda: ConvInverter(channels),
        "mlp": lambda: MLPInverter(channels, side),
        "whitened": lambda: WhitenedInverter(channels, side),
        "ridge": lambda: RidgeInverter(channels, side),
    }


def learn_inverters(x: Tensor, transform: Transform, draws: Draws, epochs: int = 30) -> dict[str, Tensor]:
    """Train a fresh network of each family to undo `transform`; weights and held-out errors in one flat mapping."""
    order = torch.randperm(len(x), generator=draws.at("holdout").generator())
    held, seen = order.split([int(HOLDOUT * len(x)), len(x) - int(HOLDOUT * len(x))])
    examples = seen[:1500].repeat(2)
    altered = transform(x[examples], draws.at("examples"))
    answers = transform(x[held], draws.at("error"))
    learned: dict[str, Tensor] = {}
    for name, make in families(*x.shape[1:3]).items():
        net = seeded(draws.at(name), make).to(x)

        def error(net: nn.Module = net) -> Tensor:
            with torch.no_grad():
                return F.mse_loss(net(answers).clamp(0, 1), x[held])

        def loss(chosen: Tensor, step: Draws, net: nn.Module = net) -> Tensor:
            raw = x[seen[chosen]]
            return F.mse_loss(net(transform(raw, step)), raw)

        def tried(penalty: float, net: nn.Module = net) -> Tensor:
            assert isinstance(net, RidgeInverter)
            net.solve(altered, x[examples], penalty)
            return error()

        if isinstance(net, WhitenedInverter):
            net.look(altered, x[examples])
        if isinstance(net, RidgeInverter):
            net.solve(altered, x[examples], min(PENALTIES, key=lambda penalty: float(tried(penalty))))
        else:
            lr = 1e-3 if isinstance(net, WhitenedInverter) else 2e-3
            minimise(net.parameters(), loss, len(seen), epochs=epochs, lr=lr, draws=draws.at(name, "fit"))
        learned[f"{name}/error"] = error().reshape(1)
        learned |= {f"{name}/{key}": value for key, value in net.state_dict().items()}
    return learned


def best_inverter(learned: Mapping[str, Tensor], channels: int, side: int) -> nn.Module:
    """The family with the smaller held-out error."""
    choices = families(channels, side)
    name = min(choices, key=lambda family: float(learned[f"{family}/error"]))
    net = seeded(Draws(("shape",)), choices[name])
    weights = {key.removeprefix(f"{name}/"): value for key, value in learned.items() if key.startswith(f"{name}/")}
    net.load_state_dict({key: value for key, value in weights.items() if key != "error"})
    return net.to(learned[f"{name}/error"].device).eval().requires_grad_(False)
