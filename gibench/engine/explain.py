"""How well a candidate explains a message."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from gibench.draws import Draws
from gibench.engine.activations import forward_plan
from gibench.engine.chunks import in_chunks
from gibench.engine.local import training_of
from gibench.engine.objective import Objective, Plan
from gibench.engine.search import as_gradient
from gibench.types import ACTIVATIONS, Guess, Match, View


def matching_loss(view: View, guess: Guess, draws: Draws) -> Tensor:
    """How badly each victim's candidate explains its message, through the defense's simulation where it is known."""

    def solve(part: View, own: Draws, where: slice) -> Guess:
        match = part.defense.match(part) if part.defense is not None and not unlearned(part) else Match()
        x, labels = guess.x[where], guess.labels[where]
        plan = Plan(replace(match, linear=False), labels, simulate=training_of(part, match))
        if part.kind == ACTIVATIONS:
            plan = forward_plan(part, replace(match, distance="l2"), labels)
        objective = Objective(part, plan)
        return Guess(x, labels, objective.distance(x, labels, own).detach(), 0)

    return in_chunks(as_gradient(view), draws, solve, size=64).loss


def unlearned(view: View) -> bool:
    """Whether simulating the defense takes learned state that the view does not hold."""
    if view.defense is None or view.defense.state or view.studied:
        return False
    return "defense_params" in view.defense.match_needs
