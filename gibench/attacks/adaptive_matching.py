"""Gradient matching through the known defense (Balunovic et al. 2022: the optimal attacker uses its likelihood)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.draws import Draws
from gibench.engine.assignment import in_order_of
from gibench.engine.labels import matched_labels
from gibench.engine.local import training_of
from gibench.engine.objective import Plan
from gibench.types import Guess, View

if TYPE_CHECKING:
    from gibench.defenses import Defense


@dataclass(frozen=True)
class AdaptiveMatching(InvertingGradients):
    """`inverting_gradients` through the defense's own `match`; against `none` the two are the same.

    Several observed rounds of the same batch are merged first, as the defense says, or inverted one by one where it
    changes images at every use; several local steps are simulated.
    """

    citation: ClassVar[str] = (
        "Balunovic, Dimitrov, Staab, Vechev: Bayesian framework for gradient leakage, ICLR 2022, arXiv 2111.04706"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "defense_spec"})
    adaptive: ClassVar[bool] = True
    distance: Literal["match", "cos", "l2", "l1"] = "match"  # match: the one that the defense names
    variant: str = "match"  # one of the defense's further simulations, by name

    def unmatched(self, defense: Defense, net: nn.Module) -> str:
        known = ("match", *defense.variants)
        return "" if self.variant in known else f"{defense.entry_name()} ships no variant '{self.variant}' of its match"

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        assert view.defense is not None
        messages = [view.update, *view.rounds]
        if len(messages) == 1 or self.plan(view).match.rounds == "mean":
            return super().invert(replace(view, update=view.defense.merged(messages), rounds=()), tv, draws)
        once, views = super().invert, [replace(view, update=message, rounds=()) for message in messages]
        found = [once(one, tv, draws.at("round", i)) for i, one in enumerate(views)]
        first = found[0]
        x = torch.stack([in_order_of(first.x, guess.x) for guess in found]).mean(0)
        return replace(first, x=x, loss=torch.stack([guess.loss for guess in found]).mean(0))

    def plan(self, view: View) -> Plan:
        """What is matched: the message through the known defense."""
        assert view.defense is not None
        defense, named = view.defense, self.variant
        match = defense.match(view) if named == "match" else defense.variant(named, view)
        match = match if self.distance == "match" else replace(match, distance=self.distance)
        simulate = training_of(view, match)
        match = match if self.linear and simulate is None else replace(match, linear=False)
        return Plan(match, matched_labels(match, view), simulate=simulate)
