"""The weight change of local training, differentiable in the images: what a FedAvg message is matched against."""

from __future__ import annotations

from torch import Tensor, nn

from gibench.draws import Draws
from gibench.engine.objective import Simulate
from gibench.gradients import mean_gradient
from gibench.message import own_weights
from gibench.types import Batch, Local, Match, Update, View


def local_training(local: Local, clients: int = 1) -> Simulate:
    """`trained_from` the model's own weights."""

    def simulate(net: nn.Module, batch: Batch, draws: Draws) -> Update:
        return trained_from(own_weights(net, len(batch.y)), net, batch, local, clients)

    return simulate


def training_of(view: View, match: Match) -> Simulate | None:
    """The local training behind a weight change, where several steps are known and the match has no gradient of its
    own; None: the direction of one step's gradient is all there is to simulate."""
    if view.kind != "delta" or view.local is None or view.local.epochs == 1:
        return None
    return local_training(view.local, view.clients) if match.example is None and match.gradient is None else None


def trained_from(start: dict[str, Tensor], net: nn.Module, batch: Batch, local: Local, clients: int = 1) -> Update:
    """Full-batch SGD as `gibench.message` trains; gives start - end, which points uphill.

    start: every victim's own weights, {name: (v, *shape)}. Where a message is the mean of several clients', each
    trains on its even share of the batch.
    """
    v, b = batch.y.shape[:2]
    x, y = (t.reshape(v * clients, b // clients, *t.shape[2:]) for t in (batch.x, batch.y))
    single = Batch(x, y)
    start = {name: p.repeat_interleave(clients, 0) for name, p in start.items()} if clients > 1 else start
    params, velocity = dict(start), dict[str, Tensor]()
    for _ in range(local.epochs):
        for name, g in mean_gradient(net, single, params=params, create_graph=True).items():
            assert g is not None
            velocity[name] = local.momentum * velocity[name] + g if name in velocity else g
            params[name] = params[name] - local.lr * velocity[name]
    return {name: (start[name] - params[name]).unflatten(0, (v, clients)).mean(1) for name in start}
