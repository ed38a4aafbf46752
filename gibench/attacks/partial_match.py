"""Partial gradient matching with a size penalty, after FedLeak (Fan et al. 2025); approximate, details unread."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.engine.labels import labels_of
from gibench.engine.objective import Plan
from gibench.types import Match, Update, View


@dataclass(frozen=True)
class PartialMatch(InvertingGradients):
    """Compares the `share` of entries of largest magnitude, and penalises the simulated gradient's size.

    Paper: only its abstract's idea; this is not FedLeak. With share 1 and penalty 0 it is `inverting_gradients`.
    """

    citation: ClassVar[str] = "after Fan et al.: FedLeak, USENIX Security 2025, arXiv 2506.08435"
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3

    def plan(self, view: View) -> Plan:
        mask = None if self.share == 1 else _largest(view.update, self.share)
        return Plan(Match(linear=self.linear, mask=mask, size=self.penalty), labels_of(view, view.update))


def _largest(update: Update, share: float) -> Update:
    """The entries of largest magnitude over all layers together, per victim."""
    sizes = torch.cat([g.flatten(1).abs() for g in update.values() if g is not None], 1)
    kept = max(round(share * sizes.shape[1]), 1)
    least = sizes.kthvalue(sizes.shape[1] - kept + 1, dim=1).values
    return {name: None if g is None else g.abs() >= least.view(-1, *[1] * (g.dim() - 1)) for name, g in update.items()}
