"""Gradient pruning (Lin et al. 2018; as a defense Zhu et al. 2019): each layer sends only its largest entries."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.types import Match, Memory, Update, View


@dataclass(frozen=True)
class Prune(Defense):
    """Per layer the round((1 - p) n) entries of largest magnitude are kept, ties by index; the others become zero."""

    citation: ClassVar[str] = (
        "Lin, Han, Mao, Wang, Dally: Deep gradient compression, ICLR 2018, arXiv 1712.01887; "
        "Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv 1906.08935"
    )
    place = "gradient"
    knob = "p"
    sweep = (0.0, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999)
    neutral = "prune(p=0)"
    p: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        return {name: None if g is None else self._largest(g) for name, g in update.items()}

    def match(self, view: View) -> Match:
        """The support is visible in the message: compare only there."""
        return Match(mask={name: None if g is None else g != 0 for name, g in view.update.items()})

    def _largest(self, g: Tensor) -> Tensor:
        size = g.flatten(1).abs()
        kept = round((1 - self.p) * size.shape[1])
        if kept == 0:
            return torch.zeros_like(g)
        least = size.kthvalue(size.shape[1] - kept + 1, dim=1, keepdim=True).values  # of those that stay
        above, tied = size > least, size == least
        room = kept - above.sum(1, keepdim=True)
        stays = above | (tied & (tied.cumsum(1) <= room))
        return torch.where(stays.view_as(g), g, torch.zeros_like(g))
