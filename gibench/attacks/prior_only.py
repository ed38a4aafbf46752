"""The floor: what an attacker with auxiliary data answers without looking at the update."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.types import Guess, Kind, View


@dataclass(frozen=True)
class PriorOnly(Attack):
    """The mean auxiliary image (of the class, where labels are given); no attack may be credited below it."""

    citation: ClassVar[str] = "control; no source"
    needs: ClassVar[frozenset[str]] = frozenset({"aux_data"})
    control: ClassVar[bool] = True
    reads: ClassVar[frozenset[Kind]] = frozenset({"gradient", "delta", "activations"})
    mode: Literal["class_mean", "mean"] = "class_mean"

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        assert view.aux is not None
        v, b = len(draws.members), view.shape[0]
        means = torch.stack([self._mean(view, c) for c in range(view.classes)])
        if view.labels is None or self.mode == "mean":
            labels = torch.full((v, b), int(view.aux.y.mode().values), device=view.aux.y.device)
            x = view.aux.x.mean(0).expand(v, *view.shape)
        else:
            labels, x = view.labels, means[view.labels]
        return Guess(x.clone(), labels, torch.zeros(v).to(x), 0)

    @staticmethod
    def _mean(view: View, label: int) -> torch.Tensor:
        assert view.aux is not None
        own = view.aux.x[view.aux.y == label]
        return own.mean(0) if len(own) else view.aux.x.mean(0)
