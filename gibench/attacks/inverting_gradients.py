"""Inverting Gradients (Geiping et al. 2020): cosine matching with total variation by signed Adam, defense unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.chunks import repeated
from gibench.engine.labels import labels_of
from gibench.engine.objective import Plan
from gibench.engine.optimisers import Search
from gibench.engine.search import as_gradient, invert
from gibench.types import Guess, Match, View


@dataclass(frozen=True)
class InvertingGradients(Attack):
    """Paper: linear matching for one image per message, cosine decay of the rate and fewer steps (24,000 there)."""

    citation: ClassVar[str] = (
        "Geiping, Bauermeister, Droge, Moeller: Inverting gradients - how easy is it to break privacy in federated "
        "learning?, NeurIPS 2020, arXiv 2003.14053"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {"tv": (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)}
    steps: Annotated[int, Field(ge=1)] = 1000
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    tv: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    restarts: Annotated[int, Field(ge=1)] = 1
    sign: bool = True
    schedule: Literal["cosine", "exponential", "step"] = "cosine"
    continuation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # TV starts 1 + this times as heavy
    linear: bool = True
    start: Literal["randn", "rand", "gray", "pattern"] = "randn"
    scales: tuple[Annotated[int, Field(ge=1, le=8)], ...] = (1,)  # such as [4, 2, 1]: coarse images first
    chunk: Annotated[int, Field(ge=1)] | None = None  # victims at once; None: what memory holds

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        assert self.tv is not None
        return self.invert(view, self.tv, draws)

    def rehearse(self, view: View, candidates: Sequence[dict[str, Any]], draws: Draws) -> list[Guess]:
        """All candidates in one go, as further victims."""
        v, k = len(draws.members), len(candidates)
        weights = torch.tensor([chosen["tv"] for chosen in candidates]).repeat_interleave(v)
        guess = self.invert(repeated(view, k), weights, draws.of(draws.members * k))
        return [
            Guess(guess.x[part], guess.labels[part], guess.loss[part], guess.steps)
            for part in (slice(start, start + v) for start in range(0, v * k, v))
        ]

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        return invert(as_gradient(view), self.plan, self.search(tv), draws)

    def plan(self, view: View) -> Plan:
        """What is matched: the message as if there were no defense."""
        return Plan(Match(linear=self.linear), labels_of(view, view.update))

    def search(self, tv: float | Tensor) -> Search:
        return Search(
            self.steps,
            self.lr,
            tv,
            sign=self.sign,
            schedule=self.schedule,
            continuation=self.continuation,
            restarts=self.restarts,
            start=self.start,
            scales=self.scales,
            chunk=self.chunk,
        )
