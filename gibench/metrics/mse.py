"""Mean squared error on [0, 1]."""

from __future__ import annotations

from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.metrics import Metric


@dataclass(frozen=True)
class MSE(Metric):
    """Mean over channels and pixels, (n,)."""

    def compare(self, truth: Tensor, guess: Tensor) -> Tensor:
        return (truth - guess).square().flatten(1).mean(1)
