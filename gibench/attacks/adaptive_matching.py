"""Gradient matching through the known defense (after Balunovic et al. 2022: the optimal attacker uses its likelihood)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

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
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {"tv": (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)}
    adaptive: ClassVar[bool] = True

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        assert view.defense is not None
        view = replace(view, update=mean_message([view.update, *view.rounds]), rounds=())
        match = view.defense.match(view)
        match = match if self.linear else replace(match, linear=False)
        return invert(view, as_gradient(view.update, view.kind), match, self.search(), draws)
