"""Gradient matching through the known defense (Balunovic et al. 2022: the optimal attacker uses its likelihood)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks.engine import invert
from gibench.attacks.inverting_gradients import InvertingGradients, as_gradient
from gibench.draws import Draws
from gibench.message import mean_message
from gibench.types import Guess, View


@dataclass(frozen=True)
class AdaptiveMatching(InvertingGradients):
    """`inverting_gradients` through the defense's own `match`; against `none` the two are the same.

    Several observed rounds of the same batch are averaged first.
    """

    citation: ClassVar[str] = (
        "Balunovic, Dimitrov, Staab, Vechev: Bayesian framework for gradient leakage, ICLR 2022, arXiv 2111.04706"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "defense_spec"})
    adaptive: ClassVar[bool] = True

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        defense = view.defense
        assert defense is not None
        view = replace(view, update=mean_message([view.update, *view.rounds]), rounds=())
        match = defense.match(view)
        match = match if self.linear else replace(match, linear=False)
        return invert(view, as_gradient(view.update, view.kind), match, self.search(tv), draws)
