"""Learned latent perturbation by minimax (after Jiang, Firouzi, Chakrabarty 2025; only its abstract was known).

Reading A of that abstract: encode the image, perturb its latent, decode, train on the decoded image. Results speak
for a defense of the kind the abstract describes, not for the paper's method: a difference from its 12.5 % or 12.4 %
is neither a replication nor its failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.learned.autoencoder import Autoencoder, Perturber
from gibench.learned.fit import minibatches, minimise, seeded
from gibench.learned.inverter import best_inverter, families, learn_inverters
from gibench.types import Batch, Images, Match, View

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class LatentPerturb(Defense):
    """`budget`: the latent moves by exactly rho times its norm, in a learned direction with a share of plain noise.
    `bottleneck`: the latent is resampled from learned means and deviations at a cost of beta per nat.
    """

    citation: ClassVar[str] = (
        "Jiang, Firouzi, Chakrabarty: Defending against gradient inversion attacks for biomedical images via learnable "
        "data perturbation, 2025, arXiv 2503.16542"
    )
    place = "data"
    sweep = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    stochastic: ClassVar[bool] = True
    match_needs: ClassVar[frozenset[str]] = frozenset({"aux_data", "defense_params"})
    kind: Literal["budget", "bottleneck"] = "budget"
    rho: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    fresh: Annotated[float, Field(ge=0, le=1)] = 0.25
    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    latent: Annotated[int, Field(ge=1, le=64)] = 8
    autoencoder_epochs: Annotated[int, Field(ge=1)] = 10
    epochs: Annotated[int, Field(ge=1)] = 8
    adversary_steps: Annotated[int, Field(ge=1, le=5)] = 1

    @property
    def knob(self) -> str:  # type: ignore[override]
        return "rho" if self.kind == "budget" else "beta"

    def images(self, batch: Batch, draws: Draws) -> Batch:
        with torch.no_grad():
            return replace(batch, x=self._transform(batch.x, draws))

    def match(self, view: View) -> Match:
        """Invert to the transmitted image, then apply the better of two inverse networks trained afresh.

        Matching through the perturber with its noise averaged (EOT) is far weaker: it ends below the prior.
        """
        inverse = best_inverter(view.studied, *view.shape[1:3])

        def post(x: Tensor) -> Tensor:
            with torch.no_grad():
                out: Tensor = inverse(x.flatten(0, 1)).view_as(x)
            return out

        return Match(post=post)

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        parts = self._parts(aux.x)
        return learn_inverters(aux.x, lambda x, d: self._pass(parts, x, d.normal(*_latent(self, x), like=x)[0]), draws)

    def fit(self, aux: Images, draws: Draws) -> Self:
        """Autoencoder, then minimax between perturber and adversary, all on auxiliary images."""
        ae = seeded(draws.at("autoencoder"), lambda: Autoencoder(aux.x.shape[1], self.latent)).to(aux.x)
        minimise(
            ae.parameters(),
            lambda chosen, _: F.mse_loss(ae(aux.x[chosen]), aux.x[chosen]),
            len(aux.x),
            epochs=self.autoencoder_epochs,
            lr=2e-3,
            draws=draws.at("autoencoder", "fit"),
        )
        ae.requires_grad_(False)
        out = 1 if self.kind == "budget" else 2
        perturber = seeded(draws.at("perturber"), lambda: Perturber(self.latent, out)).to(aux.x)
        parts = nn.ModuleDict({"autoencoder": ae, "perturber": perturber})
        self._minimax(parts, aux, draws.at("minimax"))
        return replace(self, state=parts.state_dict())

    def _minimax(self, parts: nn.ModuleDict, aux: Images, draws: Draws) -> None:
        """Inner: adversaries learn to undo the transform. Outer: keep a classifier right and the adversaries wrong.

        The adversary's error counts only up to the error of the mean image: beyond "knows only the prior" there is
        nothing to gain, and the outer loss stays above -lam.
        """
        channels, side = aux.x.shape[1:3]
        classes = int(aux.y.max()) + 1
        prior = (aux.x - aux.x.mean(0)).square().mean()
        judge = seeded(draws.at("classifier"), lambda: _classifier(channels, side, classes)).to(aux.x)
        perturber = parts["perturber"]
        outer = torch.optim.Adam([*perturber.parameters(), *judge.parameters()], lr=1e-3)
        adversaries, inner = self._adversaries(aux, draws.at("adversary"))
        for epoch in range(self.epochs + 1):  # the first pass trains the adversaries alone
            if epoch and epoch % 4 == 0:
                adversaries, inner = self._adversaries(aux, draws.at("adversary", epoch))
            for step, chosen in enumerate(minibatches(len(aux.x), 64, draws.at("order", epoch))):
                x, y, noise = aux.x[chosen], aux.y[chosen], draws.at("eps", epoch, step)
                sent, divergence = self._perturbed(parts, x, noise.normal(*_latent(self, x), like=x)[0])
                for _ in range(self.adversary_steps):
                    inner.zero_grad()
                    _errors(adversaries, sent.detach(), x).mean(1).sum().backward()
                    inner.step()
                if epoch == 0:
                    continue
                gain = (_errors(adversaries, sent, x).amin(0) / (prior + 1e-6)).clamp(max=1)
                loss = F.cross_entropy(judge(sent), y) - self.lam * gain.mean() + self.beta * divergence.mean()
                if not bool(loss.isfinite()):
                    raise FloatingPointError("latent_perturb: the minimax loss is not finite")
                outer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(perturber.parameters(), 1.0)
                outer.step()

    def _adversaries(self, aux: Images, draws: Draws) -> tuple[nn.ModuleList, torch.optim.Optimizer]:
        made = families(*aux.x.shape[1:3]).items()
        nets = nn.ModuleList([seeded(draws.at(name), make) for name, make in made]).to(aux.x)
        return nets, torch.optim.Adam(nets.parameters(), lr=2e-3)

    def _perturbed(self, parts: nn.ModuleDict, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) -> transmitted images and, for the bottleneck, the divergence from N(0, I) in nats (n,)."""
        z = parts["autoencoder"].encode(x)  # type: ignore[operator]
        divergence = torch.zeros(len(x)).to(x)
        if self.kind == "budget":
            direction = (1 - self.fresh) ** 0.5 * _unit(parts["perturber"](z, eps))
            direction = direction + self.fresh**0.5 * _unit(eps)
            moved = z + self.rho * _norm(z) * _unit(direction)
        else:
            mean, raw = parts["perturber"](z, torch.zeros_like(z)).chunk(2, 1)
            mean, deviation = z + mean, F.softplus(raw) + 1e-4
            divergence = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).flatten(1).sum(1)
            moved = mean + deviation * eps
        return parts["autoencoder"].decode(moved), divergence  # type: ignore[operator]

    def _pass(self, parts: nn.ModuleDict, x: Tensor, eps: Tensor) -> Tensor:
        with torch.no_grad():
            return self._perturbed(parts, x, eps)[0]

    def _transform(self, x: Tensor, draws: Draws) -> Tensor:
        """(v, b, c, h, w) -> the same shape; noise from each victim's own stream."""
        if len(draws.members) != len(x):
            raise ValueError(f"{len(draws.members)} streams for {len(x)} victims: each needs noise of its own")
        eps = draws.normal(x.shape[1], self.latent, x.shape[-2] // 4, x.shape[-1] // 4, like=x)
        sent, _ = self._perturbed(self._parts(x), x.flatten(0, 1), eps.flatten(0, 1))
        return sent.view_as(x)

    def _parts(self, x: Tensor) -> nn.ModuleDict:
        """The learned networks, rebuilt from the public state on the device of `x`."""
        out = 1 if self.kind == "budget" else 2
        with torch.random.fork_rng(devices=[]):
            parts = nn.ModuleDict(
                {"autoencoder": Autoencoder(x.shape[-3], self.latent), "perturber": Perturber(self.latent, out)}
            )
        parts.load_state_dict(dict(self.state))
        return parts.to(x).requires_grad_(False)


def _latent(defense: LatentPerturb, x: Tensor) -> tuple[int, int, int, int]:
    return len(x), defense.latent, x.shape[-2] // 4, x.shape[-1] // 4


def _errors(adversaries: nn.ModuleList, sent: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each family on each image, (families, n)."""
    return torch.stack([(net(sent) - x).square().flatten(1).mean(1) for net in adversaries])


def _norm(z: Tensor) -> Tensor:
    return (z.flatten(1).square().sum(1) + 1e-12).sqrt().view(-1, 1, 1, 1)


def _unit(z: Tensor) -> Tensor:
    return z / _norm(z)


def _classifier(channels: int, side: int, classes: int) -> nn.Module:
    quarter = -(-side // 4)
    return nn.Sequential(
        nn.Conv2d(channels, 12, 5, 2, padding=2),
        nn.GELU(),
        nn.Conv2d(12, 12, 5, 2, padding=2),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(12 * quarter * quarter, classes),
    )
