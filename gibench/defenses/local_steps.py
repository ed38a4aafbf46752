"""FedAvg (McMahan et al. 2017) as a defense: clients send the weight change of several local steps, no gradient."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.engine.local import trained_from
from gibench.message import own_weights
from gibench.types import Batch, Extra, Local, Match, Update, View


@dataclass(frozen=True)
class LocalSteps(Defense):
    """It takes the place of the suite's own local training, and the server averages weights instead of gradients.

    No spec is neutral: one step sends -lr times the gradient, which is no defense up to that factor.
    """

    citation: ClassVar[str] = (
        "McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-efficient learning of deep networks from "
        "decentralized data, AISTATS 2017, arXiv 1602.05629"
    )
    place = "protocol"
    knob = "epochs"
    sweep = (1, 2, 5, 10, 20)
    # Paper: E epochs of mini-batches; here every step is on the client's whole batch of the round, so E is the steps.
    epochs: Annotated[int, Field(ge=1, le=100)] = 5
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def local(self, local: Local | None) -> Local:
        return Local(self.epochs, self.lr, self.momentum)

    def match(self, view: View) -> Match:
        """Back-propagates through all local steps with the client's own rate and momentum.

        Measured (PneumoniaMNIST, lenet at init, 8 victims): undefended 47.1 dB; 5 steps 18.7 oblivious, 45.4 with this;
        20 steps 14.3 and 41.9.
        """
        if view.kind != "delta":
            return Match()
        local = self.local(None)

        def gradient(net: nn.Module, batch: Batch, extra: Extra, draws: Draws) -> Update:
            return trained_from(own_weights(net, len(batch.y)), net, batch, local, view.clients)

        return Match(gradient=gradient, linear=False) if self.epochs > 1 else Match()
