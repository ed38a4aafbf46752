"""Quantised gradients (QSGD, Alistarh et al. 2017; signSGD, Bernstein et al. 2018): few magnitudes per layer."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import fitted
from gibench.types import Match, Memory, Update, View


@dataclass(frozen=True)
class Quantize(Defense):
    """`qsgd`: max|g| sign(g) xi / s per layer, xi the stochastic rounding of s |g| / max|g| for s `levels`.
    `sign`: sign(g) mean|g| per layer, without levels. No setting leaves the gradient as it is.
    """

    citation: ClassVar[str] = (
        "Alistarh, Grubic, Li, Tomioka, Vojnovic: QSGD: communication-efficient SGD via gradient quantization and "
        "encoding, NeurIPS 2017, arXiv 1610.02132; Bernstein, Wang, Azizzadenesheli, Anandkumar: signSGD, ICML 2018, "
        "arXiv 1802.04434"
    )
    place = "gradient"
    knob = "levels"
    sweep = (255, 15, 7, 3, 1)
    mode: Literal["qsgd", "sign"] = "qsgd"
    levels: Annotated[int, Field(ge=1, le=65535)] = 7

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.mode == "qsgd"

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        return {name: None if g is None else self._quantised(g, draws.at(name)) for name, g in update.items()}

    def upload_bytes(self, update: Update) -> float:
        bits = 1 if self.mode == "sign" else math.ceil(math.log2(2 * self.levels + 1))
        return float(sum(4 + bits * g[0].numel() / 8 for g in update.values() if g is not None))

    def match(self, view: View) -> Match:
        """`sign`: tanh in place of the sign. `qsgd`: layers count by the inverse of their noise, and 0.8 of what
        rounding may explain of a difference is forgiven; not at one level, which may explain nearly all.

        Measured and left: straight-through, 6 to 13 dB worse on trained or deeper nets; other sharpness and shares.
        """
        if self.mode == "sign":
            return Match(linear=False, transform=soft_signs)
        even = {k: None if g is None else (1 / _top(g)).nan_to_num(posinf=0) for k, g in view.update.items()}
        if self.levels == 1:
            return Match(linear=False, mask=even)

        def forgiving(update: Update, draws: Draws) -> Update:
            scale, near = fitted(update, view.update), dict[str, Tensor | None](update)
            for name, sent in view.update.items():
                if sent is not None and (g := update[name]) is not None:
                    g, step = g * _beside(g, scale), _top(sent) / self.levels
                    near[name] = g + 0.8 * (sent - g).clamp(-step, step)
            return near

        return Match(linear=False, mask=even, transform=forgiving)

    def _quantised(self, g: Tensor, draws: Draws) -> Tensor:
        if self.mode == "sign":
            # Paper: a zero has sign 0 there; here it counts as positive, so that one bit holds it.
            return torch.where(g < 0, -_mean(g), _mean(g))
        # Paper: the original scales by the 2-norm, this by the largest entry, as is usual.
        scale = _top(g).clamp(min=1e-30)
        place = self.levels * g.abs() / scale
        below = place.floor()
        up = draws.uniform(*g.shape[1:], like=g) < place - below
        return g.sign() * scale * (below + up) / self.levels


def soft_signs(update: Update, draws: Draws, sharpness: float = 20.0) -> Update:
    """Signs with a slope: tanh of a multiple of the layer's root mean square."""
    soft: Update = {}
    for name, g in update.items():
        soft[name] = None if g is None else _mean(g) * torch.tanh(sharpness * g / (_mean(g.square()) + 1e-30).sqrt())
    return soft


def _mean(g: Tensor) -> Tensor:
    return _beside(g, g.flatten(1).abs().mean(1))


def _top(g: Tensor) -> Tensor:
    return _beside(g, g.flatten(1).abs().amax(1))


def _beside(g: Tensor, value: Tensor) -> Tensor:
    """(v,) -> (v, 1, ...), to go with g (v, ...)."""
    return value.view(-1, *[1] * (g.dim() - 1))
