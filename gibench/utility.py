"""How well a trained net serves its clients, with the defense on and on raw images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.message import used_weights
from gibench.types import Batch, Images, Memory


def utility_of(
    net: nn.Module,
    defense: Defense,
    test: Images,
    draws: Draws,
    suffix: str,
    memory: Memory,
    cut: int | None = None,
) -> dict[str, float]:
    """Utility on images as the defense shows them to the model in use, each with noise of its own.

    Where clients keep weights of their own, image i is classified by client i, counted around: the mean over clients.
    """
    from sklearn.metrics import balanced_accuracy_score

    logits = logits_of(net, defense, test, draws, memory, cut)
    if not bool(logits.isfinite().all()):
        raise FloatingPointError("training diverged: an output of the final model is not finite")
    truth, guess = test.y.cpu().numpy(), logits.argmax(1).cpu().numpy()
    losses = nn.functional.cross_entropy(logits.double(), test.y)
    scores = logits.double().softmax(1).cpu().numpy()
    found = {
        "utility": float((truth == guess).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth, guess)),
        "auc": _auc(truth, scores),
        "cross_entropy": float(losses),
    }
    return {name + suffix: value for name, value in found.items()}


def logits_of(
    net: nn.Module, defense: Defense, images: Images, draws: Draws, memory: Memory, cut: int | None = None
) -> Tensor:
    """What a net in use answers to images as the defense shows them to it, (n, k), without gradients."""
    entries = sum(p.numel() for p in net.parameters())
    size = min(1000, max(8, 10**8 // entries))  # images at once: each may need weights of its own
    return torch.cat(
        [
            _classified(
                net,
                defense,
                Images(images.x[part.start : part.stop], images.y[part.start : part.stop]),
                draws.of(part),
                memory,
                cut,
            )
            for part in (range(i, min(i + size, len(images.y))) for i in range(0, len(images.y), size))
        ]
    ).detach()


def _classified(
    net: nn.Module, defense: Defense, images: Images, draws: Draws, memory: Memory, cut: int | None
) -> Tensor:
    """Logits of one image per member of the draws, (n, k)."""
    x = defense.inference(Batch(images.x.unsqueeze(1), images.y.unsqueeze(1)), draws).x
    params = used_weights(net, defense, draws.at("weights"), memory_of(memory, draws.members), cut)
    if params is None:
        out: Tensor = net(x.squeeze(1))
        return out
    buffers = dict(net.named_buffers())
    own = vmap(lambda p, one: functional_call(net, (p, buffers), (one,)), chunk_size=64)
    logits: Tensor = own(params, x)
    return logits.squeeze(1)


def memory_of(memory: Memory, members: Sequence[int]) -> Memory:
    """What the clients with these numbers, counted around, remember."""
    return {name: kept[torch.tensor(members, device=kept.device) % len(kept)] for name, kept in memory.items()}


def _auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Macro one-against-rest over the classes that occur."""
    from sklearn.metrics import roc_auc_score

    return float(np.mean([roc_auc_score(truth == c, scores[:, c]) for c in np.unique(truth)]))
