"""Gradient matching through the known defense (Balunovic et al. 2022: the optimal attacker uses its likelihood)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.draws import Draws
from gibench.engine.labels import matched_labels
from gibench.engine.local import training_of
from gibench.engine.objective import Plan
from gibench.message import mean_message
from gibench.types import Guess, View


@dataclass(frozen=True)
class AdaptiveMatching(InvertingGradients):
    """`inverting_gradients` through the defense's own `match`; against `none` the two are the same.

    Several observed rounds of the same batch are averaged first; several local steps are simulated.
    """

    citation: ClassVar[str] = (
        "Balunovic, Dimitrov, Staab, Vechev: Bayesian framework for gradient leakage, ICLR 2022, arXiv 2111.04706"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "defense_spec"})
    adaptive: ClassVar[bool] = True
    distance: Literal["match", "cos", "l2", "l1"] = "match"  # match: the one that the defense names

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        return super().invert(replace(view, update=mean_message([view.update, *view.rounds]), rounds=()), tv, draws)

    def plan(self, view: View) -> Plan:
        """What is matched: the message through the known defense."""
        assert view.defense is not None
        match = view.defense.match(view)
        match = match if self.distance == "match" else replace(match, distance=self.distance)
        simulate = training_of(view, match)
        match = match if self.linear and simulate is None else replace(match, linear=False)
        return Plan(match, matched_labels(match, view), simulate=simulate)
