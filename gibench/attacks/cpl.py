"""Client Privacy Leakage (Wei et al. 2020): L-BFGS from a tiled random patch, the prediction drawn to the label."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.labels import labels_of
from gibench.engine.objective import Plan
from gibench.engine.optimisers import Search
from gibench.engine.search import as_gradient, invert
from gibench.types import Guess, Match, View


@dataclass(frozen=True)
class ClientPrivacyLeakage(Attack):
    """l2 + label_weight |f(x) - onehot(y)|^2, both of each victim's own; the patch is 16 x 16, cropped at 28 pixels.

    Paper: the distance is relative to the squared norm of the update, so that one `label_weight` fits all victims.
    """

    citation: ClassVar[str] = (
        "Wei, Liu, Loper, Chow, Gursoy, Truex, Wu: A framework for evaluating gradient leakage attacks in federated "
        "learning, 2020, arXiv 2004.10397"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    steps: Annotated[int, Field(ge=1)] = 300
    label_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    history: Annotated[int, Field(ge=1)] = 100
    restarts: Annotated[int, Field(ge=1)] = 1

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        search = Search(self.steps, optimizer="lbfgs", restarts=self.restarts, history=self.history, start="pattern")
        return invert(as_gradient(view), self.plan, search, draws)

    def plan(self, view: View) -> Plan:
        labels = labels_of(view, view.update)
        wanted = torch.nn.functional.one_hot(labels, view.classes)

        def off_label(x: Tensor) -> Tensor:
            logits: Tensor = view.model(x.flatten(0, 1)).unflatten(0, labels.shape)
            return (logits - wanted).square().sum(-1).mean(1)

        return Plan(Match(distance="l2", linear=False), labels, ((self.label_weight, off_label),))
