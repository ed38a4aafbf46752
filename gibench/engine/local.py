"""The weight change of local training, differentiable in the images: what a FedAvg message is matched against."""

from __future__ import annotations

from torch import Tensor, nn

from gibench.draws import Draws
from gibench.engine.objective import Simulate
from gibench.gradients import mean_gradient
from gibench.types import Batch, Local, Update


def local_training(local: Local) -> Simulate:
    """Full-batch SGD from the model's weights, as `gibench.message` trains; gives start - end, which points uphill."""

    def simulate(net: nn.Module, batch: Batch, draws: Draws) -> Update:
        v = len(batch.y)
        start = {name: p.detach() for name, p in net.named_parameters()}
        params: dict[str, Tensor] = {name: p.expand(v, *p.shape) for name, p in start.items()}
        velocity: dict[str, Tensor] = {}
        for _ in range(local.epochs):
            for name, g in mean_gradient(net, batch, params=params, create_graph=True).items():
                assert g is not None
                velocity[name] = local.momentum * velocity[name] + g if name in velocity else g
                params[name] = params[name] - local.lr * velocity[name]
        return {name: start[name] - params[name] for name in start}

    return simulate
