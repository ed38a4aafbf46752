"""Inverting Gradients (Geiping et al. 2020): cosine matching with total variation by signed Adam, defense unknown."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

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
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {"tv": (1e-3, 3e-3, 1e-2, 3e-2)}
    steps: Annotated[int, Field(ge=1)] = 1000
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    tv: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    restarts: Annotated[int, Field(ge=1)] = 1
    sign: bool = True
    schedule: Literal["cosine", "step"] = "cosine"
    linear: bool = True

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        return invert(view, as_gradient(view.update, view.kind), Match(linear=self.linear), self.search(), draws)

    def search(self) -> Search:
        assert self.tv is not None
        return Search(self.steps, self.lr, self.tv, self.sign, self.schedule, self.restarts)


def as_gradient(update: Update, kind: str) -> Update:
    """A weight change points against the gradient; its length does not matter to the cosine."""
    if kind == "gradient":
        return update
    return {name: None if g is None else -g for name, g in update.items()}
