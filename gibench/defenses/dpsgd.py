"""DP-SGD (Abadi et al. 2016): every image's gradient is clipped, Gaussian noise is added to their sum."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.accounting import epsilon
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import example_gradients
from gibench.types import Batch, Match, Update, View


@dataclass(frozen=True)
class DPSGD(Defense):
    """(1/B) (sum_i g_i min(1, C/|g_i|) + N(0, sigma^2 C^2)), B the expected size of a Poisson-sampled batch."""

    citation: ClassVar[str] = (
        "Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang: Deep learning with differential privacy, CCS 2016, "
        "arXiv 1607.00133"
    )
    knob = "sigma"
    stochastic: ClassVar[bool] = True
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "poisson"
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None  # None: 1 / N^1.1
    accountant: Literal["rdp", "prv"] = "rdp"

    def gradient(self, net: nn.Module, batch: Batch, draws: Draws, params: dict[str, Tensor] | None = None) -> Update:
        size = batch.size or batch.y.shape[1]
        clipped = clip_examples(example_gradients(net, batch, params=params), self.clip)
        update: Update = {}
        for name, g in clipped.items():
            assert g is not None
            if batch.weight is not None:
                g = g * batch.weight.view(*batch.weight.shape, *[1] * (g.dim() - 2))
            total = g.sum(1)
            noise = draws.at(name).normal(*total.shape[1:], like=total)
            update[name] = (total + self.sigma * self.clip * noise) / size
        return update

    def match(self, view: View) -> Match:
        """Gaussian likelihood: squared distance to the simulated clipped gradient, fresh noise has mean zero."""
        if view.kind == "delta":  # the sum of several clipped steps: only its direction is simulated
            return Match(linear=False)
        return Match(distance="l2", linear=False, example=self._clip_each)

    def accounting(self, images: int, batch: int, steps: int) -> dict[str, float | str]:
        delta = self.delta or images**-1.1
        rate = min(1.0, batch / images)
        spent = epsilon(self.sigma, rate, steps, delta, self.accountant)
        return {"epsilon": spent, "delta": delta, "sampling_rate": rate, "accountant": self.accountant}

    def _clip_each(self, each: Update) -> Update:
        """(n, *shape) per parameter, one row per image."""
        rows = {name: None if g is None else g.unsqueeze(1) for name, g in each.items()}
        return {name: None if g is None else g.squeeze(1) for name, g in clip_examples(rows, self.clip).items()}


def clip_examples(update: Update, bound: float) -> Update:
    """Scale each image's whole gradient, {name: (v, b, *shape)}, to a norm of at most `bound`."""
    square = sum(g.flatten(2).square().sum(2) for g in update.values() if g is not None)
    assert not isinstance(square, int)
    scale = (bound / (square + 1e-30).sqrt()).clamp(max=1)
    return {
        name: None if g is None else g * scale.view(*scale.shape, *[1] * (g.dim() - 2)) for name, g in update.items()
    }
