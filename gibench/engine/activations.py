"""Split learning's message in the search: the client's part of the known model runs forwards, outputs are compared."""

from __future__ import annotations

from torch import Tensor, nn

from gibench.draws import Draws
from gibench.engine.objective import Plan
from gibench.message import activations
from gibench.split import split
from gibench.types import ACTIVATIONS, Batch, Match, Update, View


def forward_plan(view: View, match: Match, labels: Tensor | None) -> Plan:
    """The plan that matches activations, through what of the defense's simulation acts on images.

    What it says of gradients and weights is left out: activations show one image each, so that the noise of a client's
    weights is no more to be found out than the image is.
    """
    assert view.cut is not None
    client = split(view.model, view.cut).client

    def simulate(net: nn.Module, batch: Batch, draws: Draws) -> Update:
        return {ACTIVATIONS: activations(client, batch)}

    on_images = Match(
        distance=match.distance,
        labels=match.labels,
        linear=False,
        input_map=match.input_map,
        draws=match.draws,
        post=match.post,
        range=match.range,
        rounds=match.rounds,
    )
    return Plan(on_images, labels, simulate=simulate)
