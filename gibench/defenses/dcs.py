"""DCS (Wu et al. 2024): beside each image a proxy is trained on that looks different but has a similar gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.mixing import public_pool
from gibench.types import Batch, Extra, Images, Match, Memory, Params, Update, View

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class DCS(Defense):
    """The gradient of [lam_y CE(f(p), y_p) + (1 - lam_y) CE(f(p), y) + CE(f(x), y)] / 3, never against the true one.

    Proxies p start near images of a public pool, whose labels y_p they keep, and are sought anew for every message.
    A step of that search costs about four messages without defense: with the paper's 1000 nobody trains, suites set
    fewer. No neutral end. lam_x changes messages little, but upwards in any search; lam_y does in short ones only.
    """

    citation: ClassVar[str] = (
        "Wu, Hayat, Zhou, Harandi: Concealing sensitive samples against gradient leakage, AAAI 2024, arXiv 2209.05724"
    )
    place = "gradient"
    knob = "lam_x"
    sweep = (0.0, 0.003, 0.01, 0.03, 0.1)
    stochastic: ClassVar[bool] = True
    lam_y: Annotated[float, Field(ge=0, le=1)] = 0.7
    lam_x: Weight = 0.01
    lam_z: Weight = 0.01
    steps: Annotated[int, Field(ge=0)] = 1000

    def fit(self, aux: Images, draws: Draws) -> Self:
        return replace(self, state=public_pool(aux, draws))

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        own = mean_gradient(net, batch, params=params)
        sent = self._sum(own, mean_gradient(net, self.proxies(net, batch, draws), params=params))
        dot, square = _dot(sent, own), _dot(own, own)
        # Paper: its code divides by |g|^2 + 1e-3, which leaves a conflict where the gradient is small.
        push = torch.where(dot < 0, (-dot / square.clamp(min=1e-30)).clamp(min=0.5), torch.zeros_like(dot))
        pushed = {k: None if g is None else push.view(-1, *[1] * (g.dim() - 1)) * g for k, g in own.items()}
        return _plus(sent, pushed)

    def proxies(self, net: nn.Module, batch: Batch, draws: Draws) -> Batch:
        """Images that conceal those of the batch, their labels mixed with the true ones.

        Paper: kept in [0, 1], where it stops at some distance; eps, a constant of its loss, is left out. Sought at the
        weights that the server sent, also within local training.
        """
        chosen = (draws.at("proxies").uniform(batch.y.shape[1]) * len(self.state["x"])).long().to(batch.x.device)
        others, y = (self.state[part][chosen].to(batch.x) for part in "xy")
        x, p = (t.detach().flatten(0, 1) for t in (batch.x, 0.7 * others + 0.3 * batch.x))
        target = mean_gradient(net, Batch(x.unsqueeze(1), batch.y.flatten(0, 1).unsqueeze(1)))
        shown = net(x).detach()
        optimizer = torch.optim.Adam([p.requires_grad_()], lr=0.1)
        marks = [round(self.steps * share) for share in (3 / 8, 5 / 8, 7 / 8)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, marks, 0.1)
        for _ in range(self.steps):
            g = mean_gradient(net, Batch(p.unsqueeze(1), y.flatten(0, 1).unsqueeze(1)), create_graph=True)
            apart = 1 - _dot(g, target) / (_dot(g, g) * _dot(target, target) + 1e-30).sqrt()
            near = (-self.lam_x * (p - x).flatten(1).norm(dim=1)).exp()
            moved = (net(p) - shown).norm(dim=1) / shown.norm(dim=1)
            (p.grad,) = torch.autograd.grad((apart + near + self.lam_z * moved).sum(), p)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                p.clamp_(0, 1)
        return replace(batch, x=p.detach().view_as(batch.x), y=self._mixed(y, batch.y))

    def match(self, view: View) -> Match:
        """Proxies and their labels are searched for with the images; measured (b = 1) no better than ignoring them."""

        def start(draws: Draws) -> Extra:
            labels = draws.at("labels").normal(view.shape[0], view.classes)
            return {"proxy": draws.at("proxy").uniform(*view.shape), "proxy_labels": labels}

        def simulated(net: nn.Module, batch: Batch, extra: Extra, draws: Draws) -> Update:
            own = mean_gradient(net, batch, create_graph=True)
            if not extra:
                return own
            proxies = Batch(extra["proxy"], self._mixed(extra["proxy_labels"].softmax(-1), batch.y))
            return self._sum(own, mean_gradient(net, proxies, create_graph=True))

        return Match(linear=False, extra=start, gradient=simulated)

    def _mixed(self, proxy: Tensor, own: Tensor) -> Tensor:
        """lam_y y_p + (1 - lam_y) y: cross-entropy is linear in the label."""
        own = own if own.is_floating_point() else F.one_hot(own, proxy.shape[-1]).to(proxy)
        return self.lam_y * proxy + (1 - self.lam_y) * own

    def _sum(self, own: Update, proxies: Update) -> Update:
        terms = 2 if self.lam_y in (0, 1) else 3
        return {k: None if g is None else g / terms for k, g in _plus(own, proxies).items()}


def _plus(a: Update, b: Update) -> Update:
    return {k: None if g is None or (h := b[k]) is None else g + h for k, g in a.items()}


def _dot(a: Update, b: Update) -> Tensor:
    """Over all parameters, (v,)."""
    both = [(g * h).flatten(1).sum(1) for k, g in a.items() if g is not None and (h := b[k]) is not None]
    return torch.stack(both).sum(0)
