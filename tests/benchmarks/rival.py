"""breaching as shipped: its `invertinggradients` configuration and its own loop, one target after another.

It searches in the space of normalised images, so that its net is ours without the first layer (x - 0.5) / 0.25, which
has no weights: the gradients are the same. Iterations and the weight of total variation are the only settings changed.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.works import Targets

MEAN, DEVIATION = 0.5, 0.25  # of gibench.models.Centre


def attacker(targets: Targets, steps: int) -> Any:
    """breaching's attacker on the targets' net."""
    work = targets.work
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # answers go there
        warnings.simplefilter("ignore")
        import breaching

        config = breaching.get_attack_config(
            "invertinggradients",
            [f"optim.max_iterations={steps}", f"regularization.total_variation.scale={work.rival_tv}"],
        )
        setup = {"dtype": torch.float, "device": torch.device(work.device)}
        return breaching.attacks.prepare_attack(_body(targets.net), nn.CrossEntropyLoss(), config, setup)


def message(targets: Targets, i: int) -> tuple[list[Any], list[Any]]:
    """Target i as breaching wants it: the server's payload and the client's share."""
    net, shape = targets.net, targets.view.shape[1:]
    public = SimpleNamespace(shape=shape, modality="vision", mean=[MEAN] * shape[0], std=[DEVIATION] * shape[0])
    payload = {"parameters": list(net.parameters()), "buffers": list(net.buffers()), "metadata": public}
    gradients = [targets.view.update[name][i] for name, _ in net.named_parameters()]
    known = {"num_data_points": 1, "labels": targets.batch.y[i], "local_hyperparams": None}
    return [payload], [{"gradients": gradients, "buffers": [], "metadata": known}]


def reconstruct(targets: Targets, steps: int) -> Tensor:
    """Images (v, c, h, w)."""
    attack, found = attacker(targets, steps), []
    for i in range(targets.count):
        torch.manual_seed(targets.first + i)  # its start comes from the global generator
        found.append(attack.reconstruct(*message(targets, i), {})[0]["data"])
    return torch.cat(found).detach() * DEVIATION + MEAN


def _body(net: nn.Module) -> nn.Module:
    assert isinstance(net, nn.Sequential)
    return net[1:]
