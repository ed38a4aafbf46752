"""Structural similarity (Wang et al. 2004): Gaussian window 11x11, sigma 1.5, data range 1, population covariance."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from gibench.metrics import Metric


@dataclass(frozen=True)
class SSIM(Metric):
    """Mean over the valid region and the channels.

    Equals scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1)`; its default window gives other numbers.
    """

    citation: ClassVar[str] = (
        "Wang, Bovik, Sheikh, Simoncelli: Image quality assessment, IEEE Trans. Image Processing 13(4), 2004"
    )

    def compare(self, truth: Tensor, guess: Tensor) -> Tensor:
        channels = truth.shape[1]
        line = torch.exp(-(torch.arange(-5, 6).to(truth) ** 2) / (2 * 1.5**2))
        line = line / line.sum()
        window = (line[:, None] * line[None, :]).expand(channels, 1, 11, 11)

        def local(image: Tensor) -> Tensor:
            return F.conv2d(image, window, groups=channels)

        mean_a, mean_b = local(truth), local(guess)
        var_a, var_b = local(truth**2) - mean_a**2, local(guess**2) - mean_b**2
        covariance = local(truth * guess) - mean_a * mean_b
        c1, c2 = 0.01**2, 0.03**2
        score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
        score = score / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        return score.flatten(1).mean(1)
