"""Gradients of many victims from one forward pass.

For a layer without shared state the weight gradient of victim v is a product of the layer's input and of the loss
gradient at its output, both of which one pass over all victims gives. That is several times faster than `vmap(grad)`
for convolutions and can be differentiated again. Nets with other layers, and weights that differ between victims,
go through `vmap(grad)`; both ways are equal (tests compare them in fp64).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from gibench.noise import costs, given
from gibench.types import Batch, Params, Update

Loss = Callable[[Tensor, Batch], Tensor]
"""(logits (v, b, k), batch) -> one number per victim (v,)."""


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy over the filled places of each victim's batch, (v,); labels may be probabilities."""
    if batch.y.is_floating_point():
        losses = -(logits.log_softmax(-1) * batch.y).sum(-1)
    else:
        losses = -logits.log_softmax(-1).gather(-1, batch.y.unsqueeze(-1)).squeeze(-1)
    return _mean_of_filled(losses, batch)


def along(logits: Tensor, batch: Batch) -> Tensor:
    """The logits in a direction of each image's own, `batch.y` (v, b, k), mean over its batch: (v,)."""
    return _mean_of_filled((logits * batch.y).sum(-1), batch)


def _mean_of_filled(losses: Tensor, batch: Batch) -> Tensor:
    """(v, b) -> (v,), padding left out."""
    if batch.weight is None:
        return losses.mean(1)
    return (losses * batch.weight).sum(1) / batch.weight.sum(1).clamp(min=1)


def alone(batch: Batch) -> tuple[Batch, Tensor]:
    """Every image as a victim of its own, (n, 1, ...), and whose it was, (n,); padding is left out."""
    filled = batch.x.new_ones(batch.x.shape[:2]) if batch.weight is None else batch.weight
    owner, place = filled.nonzero(as_tuple=True)
    noise = {name: t[owner, place].unsqueeze(1) for name, t in batch.noise.items()}
    return Batch(batch.x[owner, place].unsqueeze(1), batch.y[owner, place].unsqueeze(1), noise=noise), owner


def clip_each(update: Update, bound: float) -> Update:
    """Scale every row's whole gradient, {name: (n, *shape)} with a row per image or victim, to a norm of at most
    `bound`."""
    square = torch.stack([g.flatten(1).square().sum(1) for g in update.values() if g is not None]).sum(0)
    scale = (bound / (square + 1e-30).sqrt()).clamp(max=1)
    return {name: None if g is None else g * scale.view(-1, *[1] * (g.dim() - 1)) for name, g in update.items()}


def fitted(update: Update, seen: Update) -> Tensor:
    """The factor that brings a simulated gradient closest to what was seen, (v,); differentiable and positive."""
    pairs = [(a, b) for name, a in update.items() if a is not None and (b := seen[name]) is not None]
    dot = torch.stack([(a * b).flatten(1).sum(1) for a, b in pairs]).sum(0)
    square = torch.stack([a.flatten(1).square().sum(1) for a, _ in pairs]).sum(0)
    return (dot / (square + 1e-30)).clamp(min=1e-6)


def mean_gradient(
    net: nn.Module,
    batch: Batch,
    *,
    loss: Loss = cross_entropy,
    params: Params | None = None,
    create_graph: bool = False,
) -> Update:
    """The gradient of each victim's loss, {name: (v, *shape)}.

    `params` gives each victim its own weights, {name: (v, *shape)}; otherwise all share the net's.
    With `create_graph` the result can be differentiated with respect to `batch.x`.
    """
    if not len(batch.y):  # a Poisson round in which nobody drew an image
        return {name: p.new_zeros(0, *p.shape) for name, p in net.named_parameters()}
    if params is None and has_rules(net):
        return _by_layer(net, batch, loss, create_graph)
    return _by_vmap(net, batch, loss, params)


def has_rules(net: nn.Module) -> bool:
    """Whether every layer with parameters has a closed form."""
    return all(type(m) in RULES or not list(m.parameters(False)) for m in net.modules())


def layer_deltas(
    net: nn.Module, batch: Batch, loss: Loss, create_graph: bool
) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """Name, layer, its input and the loss gradient at its output, for each use of a layer with parameters.

    One pass over all victims; the leading axis of both tensors is v * b.
    """
    seen: list[tuple[str, nn.Module, Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda m, args, out, name=name: seen.append((name, m, args[0], out)))
        for name, module in net.named_modules()
        if list(module.parameters(False))
    ]
    flat = {name: t.flatten(0, 1) for name, t in batch.noise.items()}
    try:
        with torch.enable_grad(), given(net, flat):
            logits = net(batch.x.flatten(0, 1))
            total = _objective(net, logits.unflatten(0, batch.y.shape[:2]), batch, loss).sum()
            deltas = torch.autograd.grad(total, [out for *_, out in seen], create_graph=create_graph)
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, module, given, delta) for (name, module, given, _), delta in zip(seen, deltas, strict=True)]


def input_of(net: nn.Module, layer: str, params: dict[str, Tensor], x: Tensor) -> Tensor:
    """What reaches the layer for images (b, c, h, w)."""
    seen: list[Tensor] = []
    hook = net.get_submodule(layer).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        functional_call(net, (params, dict(net.named_buffers())), (x,))
    finally:
        hook.remove()
    return seen[0]


def _objective(net: nn.Module, logits: Tensor, batch: Batch, loss: Loss) -> Tensor:
    """The loss and what the net's own layers charge for this pass, (v,)."""
    total = loss(logits, batch)
    for cost in costs(net):
        total = total + _mean_of_filled(cost.view(batch.x.shape[:2]), batch)
    return total


def _by_layer(net: nn.Module, batch: Batch, loss: Loss, create_graph: bool) -> Update:
    update: Update = {}
    layers = layer_deltas(net, batch, loss, create_graph)
    with torch.set_grad_enabled(create_graph):
        for name, module, given, delta in layers:
            for part, g in RULES[type(module)](module, given, delta, len(batch.y)).items():
                key = f"{name}.{part}"
                before = update.get(key)
                update[key] = g if before is None else before + g  # a layer used twice
    return {name: update[name] for name, _ in net.named_parameters()}


def _by_vmap(net: nn.Module, batch: Batch, loss: Loss, params: Params | None) -> Update:
    own = {name: p.detach() for name, p in net.named_parameters()} if params is None else params
    buffers = dict(net.named_buffers())
    weight = batch.x.new_ones(batch.y.shape[:2]) if batch.weight is None else batch.weight

    def one(p: dict[str, Tensor], x: Tensor, y: Tensor, w: Tensor, noise: dict[str, Tensor]) -> Tensor:
        with given(net, noise):
            logits = functional_call(net, (p, buffers), (x,))
            single = Batch(x.unsqueeze(0), y.unsqueeze(0), w.unsqueeze(0))
            return _objective(net, logits.unsqueeze(0), single, loss).squeeze(0)

    each = vmap(grad(one), in_dims=(None if params is None else 0, 0, 0, 0, 0))
    return dict(each(own, batch.x, batch.y, weight, dict(batch.noise)))


def _linear(layer: nn.Module, given: Tensor, delta: Tensor, v: int) -> dict[str, Tensor]:
    delta, given = delta.unflatten(0, (v, -1)), given.unflatten(0, (v, -1))  # (v, b, out), (v, b, in)
    parts = {"weight": delta.transpose(1, 2) @ given}
    if layer.bias is not None:
        parts["bias"] = delta.sum(1)
    return parts


def _conv(layer: nn.Module, given: Tensor, delta: Tensor, v: int) -> dict[str, Tensor]:
    assert isinstance(layer, nn.Conv2d)
    if torch.is_grad_enabled() or layer.dilation != (1, 1):
        unfolded = F.unfold(given, layer.kernel_size, layer.dilation, numbers(layer.padding), layer.stride)
    else:
        unfolded = columns(given, layer)  # (vb, k, p)
    flat = delta.flatten(2)  # (vb, out, p)
    b = flat.shape[0] // v
    product = torch.bmm(unfolded, flat.transpose(1, 2))  # (vb, k, out): this order spares copies when differentiated
    weight = product if b == 1 else product.unflatten(0, (v, b)).sum(1)
    parts = {"weight": weight.transpose(1, 2).reshape(v, *layer.weight.shape)}
    if layer.bias is not None:
        parts["bias"] = delta.sum((2, 3)).unflatten(0, (v, -1)).sum(1)
    return parts


def _group_norm(layer: nn.Module, given: Tensor, delta: Tensor, v: int) -> dict[str, Tensor]:
    assert isinstance(layer, nn.GroupNorm)
    return _affine(F.group_norm(given, layer.num_groups, eps=layer.eps), delta, v)


def _batch_norm(layer: nn.Module, given: Tensor, delta: Tensor, v: int) -> dict[str, Tensor]:
    assert isinstance(layer, nn.BatchNorm2d)
    if layer.training:
        raise ValueError("batch normalisation in training mode mixes victims; put the net into evaluation mode")
    return _affine(F.batch_norm(given, layer.running_mean, layer.running_var, eps=layer.eps), delta, v)


def _affine(normal: Tensor, delta: Tensor, v: int) -> dict[str, Tensor]:
    weight, bias = (normal * delta).sum((2, 3)), delta.sum((2, 3))
    return {"weight": weight.unflatten(0, (v, -1)).sum(1), "bias": bias.unflatten(0, (v, -1)).sum(1)}


def columns(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """(n, c, h, w) -> (n, c * k * k, positions), as F.unfold gives it, by one strided copy: several times faster."""
    n, c, h, w = x.shape
    (kh, kw), (ph, pw), (sh, sw) = layer.kernel_size, numbers(layer.padding), layer.stride
    rows, across = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    padded = F.pad(x, (pw, pw, ph, ph)).contiguous()
    s = padded.stride()
    windows = padded.as_strided((n, c, kh, kw, rows, across), (s[0], s[1], s[2], s[3], s[2] * sh, s[3] * sw))
    return windows.reshape(n, c * kh * kw, rows * across)


def numbers(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(padding, str):
        raise ValueError("convolutions take a numeric padding here")
    return padding


RULES: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor, int], dict[str, Tensor]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.GroupNorm: _group_norm,
    nn.BatchNorm2d: _batch_norm,
}
