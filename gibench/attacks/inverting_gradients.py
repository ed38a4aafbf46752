"""Inverting Gradients (Geiping et al. 2020): cosine matching with total variation by signed Adam, defense unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks import Attack
from gibench.attacks.engine import Search, invert
from gibench.draws import Draws
from gibench.types import Guess, Match, Update, View


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
    schedule: Literal["cosine", "step"] = "cosine"
    linear: bool = True

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        assert self.tv is not None
        return self.invert(view, self.tv, draws)

    def rehearse(self, view: View, candidates: Sequence[dict[str, Any]], draws: Draws) -> list[Guess]:
        """All candidates in one go, as further victims."""
        v, k = len(draws.members), len(candidates)
        weights = torch.tensor([chosen["tv"] for chosen in candidates]).repeat_interleave(v)
        guess = self.invert(_repeated(view, k), weights, draws.of(draws.members * k))
        return [
            Guess(guess.x[part], guess.labels[part], guess.loss[part], guess.steps)
            for part in (slice(start, start + v) for start in range(0, v * k, v))
        ]

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        return invert(view, as_gradient(view.update, view.kind), Match(linear=self.linear), self.search(tv), draws)

    def search(self, tv: float | Tensor) -> Search:
        return Search(self.steps, self.lr, tv, self.sign, self.schedule, self.restarts)


def _repeated(view: View, k: int) -> View:
    """The same victims k times over."""

    def tiled(update: Update) -> Update:
        return {name: None if g is None else g.repeat(k, *[1] * (g.dim() - 1)) for name, g in update.items()}

    labels = None if view.labels is None else view.labels.repeat(k, 1)
    return replace(view, update=tiled(view.update), labels=labels, rounds=tuple(tiled(r) for r in view.rounds))


def as_gradient(update: Update, kind: str) -> Update:
    """A weight change points against the gradient; its length does not matter to the cosine."""
    if kind == "gradient":
        return update
    return {name: None if g is None else -g for name, g in update.items()}
