"""Labels read off the last layer's gradient, where the threat model does not give them: five published rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from gibench.errors import InputError
from gibench.split import split
from gibench.types import ACTIVATIONS, Match, Update, View, victims

Rule = Callable[[nn.Module, Update, int, int], Tensor]
"""(net, gradient, images per victim b, classes k) -> (v, b) classes; InputError where the rule does not hold."""


def labels_of(view: View, update: Update) -> Tensor:
    """(v, b): the given labels, or those of the rule that suits the case.

    b = 1: `idlg`. b > 1: `ilrg`, and `yin` for what comes without the last bias (withheld, or pruned to zeros).
    Activations show what the server's part makes of them. `update` points uphill; a weight change is brought to the
    size of one step's gradient first.
    """
    if view.labels is not None:
        return view.labels
    if view.kind == ACTIVATIONS:
        return _predicted(view, update)
    net, b, k = view.model, view.shape[0], view.classes
    update = _per_step(view, update)
    weight, bias = _last(net, update)
    if weight is None and bias is None:  # nothing to read: any class
        where = next(g.device for g in update.values() if g is not None)
        return torch.zeros(victims(update), b, dtype=torch.long, device=where)
    if b == 1:
        return idlg(net, update, b, k)
    if weight is None:
        assert bias is not None
        return _in_turn(bias, b)
    smallest = _in_turn(weight.amin(2), b)
    if bias is None:
        return smallest
    return torch.where((bias != 0).any(1, keepdim=True), ilrg(net, update, b, k), smallest)


def matched_labels(match: Match, view: View) -> Tensor | None:
    """The labels with which a known defense's message is simulated; None where they are searched for."""
    if match.labels == "joint":
        return None
    return labels_of(view if match.labels == "given" else replace(view, labels=None), view.update)


def idlg(net: nn.Module, update: Update, b: int, classes: int) -> Tensor:
    """Zhao et al. 2020, arXiv 2001.02610: db_c = p_c - 1[c = y] is negative for the true class alone.

    Where no bias arrives, the rows dW_c = db_c h^T tell: that of the true class points against all others, and as
    they sum to zero it is the longest. With two classes, or where only two rows are not nearly zero, both are equally
    long; then the smaller row sum decides, which takes features h >= 0.
    """
    _demand("idlg", net, b, classes)
    weight, bias = _last(net, update)
    if weight is None:
        return _needed("idlg", bias, "gradient of the last layer").argmin(1, keepdim=True)
    length, total = weight.norm(dim=2), weight.sum(2)
    rivals = length >= 0.99 * length.amax(1, keepdim=True) if classes > 2 else torch.ones_like(length, dtype=torch.bool)
    by_rows = total.masked_fill(~rivals, torch.inf).argmin(1, keepdim=True)
    if bias is None:
        return by_rows
    return torch.where((bias != 0).any(1, keepdim=True), bias.argmin(1, keepdim=True), by_rows)


def yin(net: nn.Module, update: Update, b: int, classes: int) -> Tensor:
    """Yin et al. 2021, arXiv 2104.07586: the b classes of smallest min_j dW_cj; labels differ, features >= 0."""
    _demand("yin", net, b, classes)
    weight = _needed("yin", _last(net, update)[0], "last weight's gradient")
    return _in_turn(weight.amin(2), b)


def sign(net: nn.Module, update: Update, b: int, classes: int) -> Tensor:
    """All classes with db_c < 0 are there, most negative first; places left over repeat them in turn."""
    bias = _needed("sign", _last(net, update)[1], "last bias's gradient")
    order, negative = bias.argsort(1), (bias < 0).sum(1).clamp(min=1)
    place = torch.arange(b, device=bias.device).expand(len(bias), b) % negative[:, None]
    return order.gather(1, place)


def impact(net: nn.Module, update: Update, b: int, classes: int) -> Tensor:
    """Wainakh et al. 2022, arXiv 2105.09369: every label takes about the same m off its row's sum; untrained nets."""
    weight = _needed("impact", _last(net, update)[0], "last weight's gradient")
    left = weight.sum(2)
    m = (1 + 1 / classes) / b * left.clamp(max=0).sum(1, keepdim=True)
    first, found = left.clone(), []
    for _ in range(b):  # the negative rows once each, then always the lowest
        waiting = torch.where((first < 0).any(1, keepdim=True), first, left)
        chosen = waiting.argmin(1, keepdim=True)
        found.append(chosen)
        left = left.scatter_add(1, chosen, -m)
        first = first.scatter(1, chosen, torch.inf)
    return torch.cat(found, 1)


def ilrg(net: nn.Module, update: Update, b: int, classes: int) -> Tensor:
    """Ma et al., ICLR 2023: dW_c / db_c is class c's mean feature, whose p_c make the counts a least-squares problem.

    sum_c n_c (p_c[i] - 1[c = i]) = b db_i for every i, and sum_c n_c = b.
    """
    _demand("ilrg", net, b, classes)
    weight, bias = _last(net, update)
    weight, bias = _needed("ilrg", weight, "last weight's gradient"), _needed("ilrg", bias, "last bias's gradient")
    return torch.stack([_counted(net, w, d, b) for w, d in zip(weight, bias, strict=True)])


RULES: dict[str, Rule] = {"idlg": idlg, "yin": yin, "sign": sign, "impact": impact, "ilrg": ilrg}


def invalid(rule: str, net: nn.Module, b: int, classes: int) -> str:
    """Why a rule cannot hold for such a net and batch; empty if it can. Looks at shapes only."""
    if rule == "idlg" and b != 1:
        return f"rule idlg works on one image per message, not {b}"
    if rule == "yin" and b > classes:
        return f"rule yin takes labels that differ, but a batch of {b} repeats some of {classes} classes"
    if rule in ("sign", "ilrg") and net.get_submodule(head(net)).bias is None:
        return f"rule {rule} reads the last bias, which this model does not have"
    return ""


def head(net: nn.Module) -> str:
    """Name of the last linear layer."""
    return linears(net)[-1]


def linears(net: nn.Module) -> list[str]:
    """Names of the linear layers, from the input on."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]


@torch.no_grad()
def _predicted(view: View, update: Update) -> Tensor:
    seen = update[ACTIVATIONS]
    assert seen is not None
    assert view.cut is not None
    logits: Tensor = split(view.model, view.cut).server(seen.flatten(0, 1))
    return logits.argmax(1).view(seen.shape[:2])


def _last(net: nn.Module, update: Update) -> tuple[Tensor | None, Tensor | None]:
    """The last layer's dW (v, k, features) and db (v, k), None where not shared."""
    name = head(net)
    return update.get(f"{name}.weight"), update.get(f"{name}.bias")


def _needed(rule: str, g: Tensor | None, what: str) -> Tensor:
    if g is None:
        raise InputError(f"rule {rule} reads the {what}, which the client does not share")
    return g


def _demand(rule: str, net: nn.Module, b: int, classes: int) -> None:
    if problem := invalid(rule, net, b, classes):
        raise InputError(problem)


def _in_turn(score: Tensor, b: int) -> Tensor:
    """The b classes of lowest score (v, k), from the lowest again where b > k."""
    return score.argsort(1).repeat(1, -(-b // score.shape[1]))[:, :b]


def _per_step(view: View, update: Update) -> Update:
    """A weight change over the rate and the steps, which momentum lengthens."""
    if view.kind != "delta" or view.local is None:
        return update
    local, length, speed = view.local, 0.0, 0.0
    for _ in range(local.epochs):
        speed = local.momentum * speed + 1
        length += local.lr * speed
    return {name: None if g is None else g / length for name, g in update.items()}


def _counted(net: nn.Module, weight: Tensor, bias: Tensor, b: int) -> Tensor:
    if not bool(weight.isfinite().all() and bias.isfinite().all()):
        return torch.zeros(b, dtype=torch.long, device=weight.device)  # the guess will fail, and say so
    layer = net.get_submodule(head(net))
    assert isinstance(layer, nn.Linear)
    k = len(bias)
    features = weight / torch.where(bias.abs() < 1e-12, torch.ones_like(bias), bias)[:, None]  # e_c, (k, features)
    p = (features @ layer.weight.detach().T + layer.bias.detach()).softmax(1)  # (k, k): row c is p_c
    system = (p.T - torch.eye(k).to(p)).double()
    rows = torch.cat([system, torch.ones(1, k).to(system)])
    right = torch.cat([b * bias.double(), torch.tensor([float(b)]).to(system)])
    counts = torch.linalg.lstsq(rows.cpu(), right[:, None].cpu()).solution.squeeze(1)
    counts = counts.nan_to_num(0).clamp(0, b)  # an ill-conditioned head gives any number
    whole = counts.round()
    while int(whole.sum()) != b:  # repair the sum where rounding erred most
        step = 1 if whole.sum() < b else -1
        error = (counts - whole) * step
        error[(whole <= 0)] = error[(whole <= 0)] if step > 0 else -torch.inf
        whole[error.argmax()] += step
    return torch.arange(k).repeat_interleave(whole.long()).to(weight.device)
