"""Labels read off the last layer's gradient, where the threat model does not give them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gibench.types import Update, View


def labels_of(view: View, update: Update) -> Tensor:
    """(v, b): the given labels, or inferred ones.

    b = 1: iDLG (Zhao et al. 2020, arXiv 2001.02610), the class whose bias gradient is the smallest (p_c - 1[c=y] is
    negative for the true class alone), or by row sums of the weight gradient where no bias arrives.
    b > 1: iLRG (Ma et al., ICLR 2023), least squares for the class counts.
    """
    if view.labels is not None:
        return view.labels
    name = head(view.model)
    weight, bias = update.get(f"{name}.weight"), update.get(f"{name}.bias")
    b = view.shape[0]
    if weight is None and bias is None:
        return torch.zeros(_victims(update), b, dtype=torch.long)
    rows = weight.sum(2) if weight is not None else None
    if bias is None or rows is None:
        score = bias if rows is None else rows
    else:
        score = torch.where((bias != 0).any(1, keepdim=True), bias, rows)
    assert score is not None
    if b == 1 or weight is None or bias is None:
        order = score.argsort(1)
        return order.repeat(1, -(-b // order.shape[1]))[:, :b]
    return torch.stack([_ilrg(view.model, name, w, d, b) for w, d in zip(weight, score, strict=True)])


def _ilrg(net: nn.Module, name: str, weight: Tensor, bias: Tensor, b: int) -> Tensor:
    if not bool(weight.isfinite().all() and bias.isfinite().all()):
        return torch.zeros(b, dtype=torch.long, device=weight.device)  # the guess will fail, and say so
    layer = net.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    k = len(bias)
    features = weight / torch.where(bias.abs() < 1e-12, torch.ones_like(bias), bias)[:, None]  # e_c, (k, features)
    p = (features @ layer.weight.detach().T + layer.bias.detach()).softmax(1)  # (k, k): row c is p_c
    system = (p.T - torch.eye(k).to(p)).double()  # sum_c n_c (p_c[i] - 1[c = i]) = b db_i
    rows = torch.cat([system, torch.ones(1, k).to(system)])
    right = torch.cat([b * bias.double(), torch.tensor([float(b)]).to(system)])
    counts = torch.linalg.lstsq(rows.cpu(), right[:, None].cpu()).solution.squeeze(1).clamp(min=0)
    whole = counts.round()
    while int(whole.sum()) != b:  # repair the sum where rounding erred most
        step = 1 if whole.sum() < b else -1
        error = (counts - whole) * step
        error[(whole <= 0)] = error[(whole <= 0)] if step > 0 else -torch.inf
        whole[error.argmax()] += step
    return torch.arange(k).repeat_interleave(whole.long()).to(weight.device)


def head(net: nn.Module) -> str:
    """Name of the last linear layer."""
    names: list[str] = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return names[-1]


def _victims(update: Update) -> int:
    return next(len(g) for g in update.values() if g is not None)
