"""Metrics: (truth, guess) -> one number per image, in float32 or better, images in [0, 1]."""

from __future__ import annotations

from torch import Tensor

from gibench.registry import Entry


class Metric(Entry):
    """A comparison of two stacks of images (n, c, h, w) -> (n,)."""

    def compare(self, truth: Tensor, guess: Tensor) -> Tensor:
        raise NotImplementedError
