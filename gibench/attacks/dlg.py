"""Deep Leakage from Gradients (Zhu et al. 2019): squared distance by L-BFGS, images and labels searched together."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.objective import Plan
from gibench.engine.optimisers import Search
from gibench.engine.search import as_gradient, invert
from gibench.types import Guess, Match, View


@dataclass(frozen=True)
class DeepLeakage(Attack):
    """Labels are probabilities softmax(y'), y' free; the label handed over is the argmax of what was found.

    Paper: a step is one L-BFGS iteration with a line search of the victim's own (there 20 per step, none searched),
    and restarts are compared by the loss relative to the squared norm of the update. Needs activations that can be
    differentiated twice and wide weights; an ordinary initialisation flattens this loss.
    """

    citation: ClassVar[str] = "Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv 1906.08935"
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    steps: Annotated[int, Field(ge=1)] = 300
    history: Annotated[int, Field(ge=1)] = 100
    restarts: Annotated[int, Field(ge=1)] = 4

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        search = Search(self.steps, optimizer="lbfgs", restarts=self.restarts, history=self.history)
        return invert(as_gradient(view), self.plan, search, draws)

    def plan(self, view: View) -> Plan:
        return Plan(Match(distance="l2", linear=False), labels=None)
