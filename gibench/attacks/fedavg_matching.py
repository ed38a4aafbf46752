"""Matching through simulated local training (Geiping et al. 2020; Dimitrov et al. 2022), for FedAvg weight changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.engine.labels import labels_of
from gibench.engine.local import local_training
from gibench.engine.objective import Plan
from gibench.types import Match, View


@dataclass(frozen=True)
class FedAvgMatching(InvertingGradients):
    """Back-propagates through all local steps with the client's own learning rate, momentum and number of steps.

    `simulate = "one_step"` matches the plain gradient instead, and `lr_factor` is how wrong the attacker believes the
    local rate to be; both are ablations. Clients here take every local step on the whole batch, so that the order of
    batches, and the prior over epochs that Dimitrov et al. need for it, have nothing to act on.
    """

    citation: ClassVar[str] = (
        "Dimitrov, Balunovic, Konstantinov, Vechev: Data leakage in federated averaging, TMLR 2022, arXiv 2206.12395"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "local_hparams"})
    steps: Annotated[int, Field(ge=1)] = 400
    simulate: Literal["exact", "one_step"] = "exact"
    lr_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        return "" if kind == "delta" else "the client sends a gradient: there is no local training to simulate"

    def plan(self, view: View) -> Plan:
        assert view.local is not None
        labels = labels_of(view, view.update)
        if self.simulate == "one_step":
            return Plan(Match(linear=False), labels)
        believed = replace(view.local, lr=view.local.lr * self.lr_factor)
        return Plan(Match(linear=False), labels, simulate=local_training(believed, view.clients))
