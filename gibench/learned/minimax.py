"""The game that trains a transform: adversaries learn to undo it, it learns to serve a classifier and defeat them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.learned.fit import minibatches, minimise, seeded
from gibench.learned.inverter import families
from gibench.learned.latent import Maps, Transform
from gibench.types import Images

RENEWED = 4  # epochs after which the adversaries start again


@dataclass(frozen=True)
class Minimax:
    """inner  min  sum over adversaries of MSE(A(x~), x)
    outer  min  CE(f(x~), y) - lam min(least MSE(A(x~), x) / (cap m), 1) + beta price

    m is the error of the mean image: with cap = 1 there is nothing to gain beyond "knows only the prior", and the
    outer loss stays above -lam. The classifier f is thrown away.
    """

    adversaries: tuple[str, ...]
    lam: float
    beta: float
    cap: float
    epochs: int
    steps: int  # of the adversaries per step of the transform
    rising: bool  # lr 2e-3 falling by a cosine while beta rises over the first half; else lr 1e-3 and beta, constant

    def play(self, transform: Transform, images: Images, draws: Draws) -> None:
        """Train the free parameters of `transform` in place."""
        prior = (images.x - images.x.mean(0)).square().mean()
        judge = seeded(draws.at("classifier"), lambda: _classifier(images)).to(images.x)
        free = [p for p in transform.parameters() if p.requires_grad]
        outer = torch.optim.Adam([*free, *judge.parameters()], lr=1e-3)
        total = self.epochs * -(-len(images.x) // 64)
        adversaries, inner = self._renewed(images, draws.at("adversary"))
        for epoch in range(0 if self.playing else 1, self.epochs + 1):  # the first pass trains the adversaries alone
            if epoch and epoch % RENEWED == 0:
                adversaries, inner = self._renewed(images, draws.at("adversary", epoch))
            for step, chosen in enumerate(minibatches(len(images.x), 64, draws.at("order", epoch))):
                x, y = images.x[chosen], images.y[chosen]
                eps = draws.at("eps", epoch, step).normal(len(x), *transform.noise, like=x)[0]
                sent, price = transform(x, eps, y)
                if self.playing:
                    for _ in range(self.steps):
                        inner_step(adversaries, inner, sent, x)
                if epoch == 0:
                    continue
                rate, beta = self._pace((epoch - 1) / self.epochs + step / total)
                for group in outer.param_groups:
                    group["lr"] = rate
                loss = F.cross_entropy(judge(sent), y) + beta * price.mean()
                if self.playing:
                    gain = (errors(adversaries, sent, x).amin(0) / (self.cap * prior + 1e-6)).clamp(max=1)
                    loss = loss - self.lam * gain.mean()
                outer_step(outer, free, loss)

    @property
    def playing(self) -> bool:
        return self.lam > 0 and bool(self.adversaries)

    def _pace(self, done: float) -> tuple[float, float]:
        """Learning rate and beta when a share of the training is done."""
        if not self.rising:
            return 1e-3, self.beta
        return 1e-3 * (1 + math.cos(math.pi * done)), self.beta * min(1.0, 2 * done)

    def _renewed(self, images: Images, draws: Draws) -> tuple[nn.ModuleList, torch.optim.Optimizer | None]:
        if not self.playing:
            return nn.ModuleList(), None
        made = families(*images.x.shape[1:3])
        nets = nn.ModuleList([seeded(draws.at(name), made[name]) for name in self.adversaries]).to(images.x)
        return nets, torch.optim.Adam(nets.parameters(), lr=2e-3)


def inner_step(adversaries: nn.ModuleList, optimizer: torch.optim.Optimizer | None, sent: Tensor, x: Tensor) -> None:
    """The adversaries move, the transform does not."""
    assert optimizer is not None
    optimizer.zero_grad()
    errors(adversaries, sent.detach(), x).mean(1).sum().backward()
    optimizer.step()


def outer_step(optimizer: torch.optim.Optimizer, free: list[nn.Parameter], loss: Tensor) -> None:
    """The transform and its classifier move, the adversaries do not."""
    if not bool(loss.isfinite()):
        raise FloatingPointError("latent_perturb: the minimax loss is not finite")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(free, 1.0)
    optimizer.step()


def errors(adversaries: nn.ModuleList, sent: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each adversary on each image, (adversaries, n)."""
    return torch.stack([(net(sent) - x).square().flatten(1).mean(1) for net in adversaries])


def learn_autoencoder(transform: Maps, images: Images, epochs: int, draws: Draws) -> None:
    """Least squares in place, then frozen.

    On nearly black images that can end with black for all of them, where the last sigmoid is flat. What does no better
    than the mean image is learned again by the cross-entropy of grey values, whose gradient stays.
    """
    ae, x = transform.autoencoder, images.x
    first = {name: value.clone() for name, value in ae.state_dict().items()}

    def squared(chosen: Tensor, _: Draws) -> Tensor:
        return F.mse_loss(ae(x[chosen]), x[chosen])

    def entropy(chosen: Tensor, _: Draws) -> Tensor:
        return F.binary_cross_entropy_with_logits(ae.logits(x[chosen]), x[chosen])

    minimise(ae.parameters(), squared, len(x), epochs=epochs, lr=2e-3, draws=draws)
    with torch.no_grad():
        error = torch.stack([(ae(part) - part).square().mean() for part in x.split(256)]).mean()
    if not bool(error < (x - x.mean(0)).square().mean()):
        ae.load_state_dict(first)
        minimise(ae.parameters(), entropy, len(x), epochs=epochs, lr=2e-3, draws=draws)
    ae.requires_grad_(False)


def _classifier(images: Images) -> nn.Module:
    channels, side = images.x.shape[1:3]
    quarter = -(-side // 4)
    return nn.Sequential(
        nn.Conv2d(channels, 12, 5, 2, padding=2),
        nn.GELU(),
        nn.Conv2d(12, 12, 5, 2, padding=2),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(12 * quarter * quarter, int(images.y.max()) + 1),
    )
