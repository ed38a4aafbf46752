"""Peak signal-to-noise ratio in dB, 10 log10(1 / MSE), at most 100 dB; higher means that more leaked."""

from __future__ import annotations

from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.metrics import Metric


@dataclass(frozen=True)
class PSNR(Metric):
    """Per image; aggregates are means of PSNR, never the PSNR of a mean."""

    def compare(self, truth: Tensor, guess: Tensor) -> Tensor:
        return -10 * (truth - guess).square().flatten(1).mean(1).clamp(min=1e-10).log10()
