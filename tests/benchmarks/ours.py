"""gibench's inverting_gradients: all targets in one call."""

from __future__ import annotations

from torch import Tensor

from benchmarks.works import Targets
from gibench.draws import Draws
from gibench.registry import build


def reconstruct(targets: Targets, steps: int) -> Tensor:
    """Images (v, c, h, w)."""
    attack = build("attacks", f"inverting_gradients(steps={steps}, {targets.work.ours})")
    members = range(targets.first, targets.first + targets.count)
    x: Tensor = attack.reconstruct(targets.view, Draws(("bench",), members)).x[:, 0]
    return x
