"""How well victims' gradients agree with targets, <G, T> and |G|^2, without automatic differentiation through G.

For a convolution G = sum_b D_b A_b^T, with D the loss gradient at the layer's output and A the columns of its input.
The derivatives of the two numbers with respect to D and A are products of the same matrices, so that they are written
down here: that spares the graph behind G, its transposes and copies, which is a third of a search's time on larger
nets. Where the feature map is small, G is never formed: <T A, D> and <A^T A, D^T D> (the ghost norm) take less. Where
channels fill a processor's vector registers, the products are convolutions with a group for every victim: no columns.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from gibench.gradients import RULES, Loss, columns, has_rules, layer_deltas, numbers
from gibench.types import Batch


def can_agree(net: nn.Module) -> bool:
    """Whether every layer has a closed form here."""
    plain = all(
        m.groups == 1 and m.dilation == (1, 1) and not isinstance(m.padding, str)
        for m in net.modules()
        if isinstance(m, nn.Conv2d)
    )
    return plain and has_rules(net)


def agreement(net: nn.Module, batch: Batch, target: dict[str, Tensor], loss: Loss) -> tuple[Tensor, Tensor]:
    """(<G, T>, |G|^2) of each victim over the parameters in `target` {name: (v, size)}, (v,) both.

    Differentiable once with respect to `batch.x`.
    """
    v = len(batch.y)
    layers = layer_deltas(net, batch, loss, create_graph=True)
    uses = Counter(name for name, *_ in layers)
    dots, squares, formed = [], [], dict[str, Tensor]()
    for name, module, given, delta in layers:
        if isinstance(module, nn.Conv2d) and uses[name] == 1 and f"{name}.weight" in target:
            dot, square = _Convolution.apply(given, delta, target[f"{name}.weight"], module, v)
            dots.append(dot)
            squares.append(square)
            parts = {} if module.bias is None else {"bias": delta.sum((2, 3)).unflatten(0, (v, -1)).sum(1)}
        else:
            parts = RULES[type(module)](module, given, delta, v)
        for part, g in parts.items():
            if (key := f"{name}.{part}") in target:
                formed[key] = formed[key] + g.flatten(1) if key in formed else g.flatten(1)
    if formed:
        g, t = torch.cat(list(formed.values()), 1), torch.cat([target[key] for key in formed], 1)
        dots.append((g * t).sum(1))
        squares.append(g.square().sum(1))
    return torch.stack(dots).sum(0), torch.stack(squares).sum(0)


class _Convolution(torch.autograd.Function):
    """Of one layer: input a (v * b, c, h, w), delta (v * b, o, rows, across), target (v, o * c * k * k)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, delta: Tensor, target: Tensor, layer: nn.Conv2d, v: int) -> tuple[Tensor, Tensor]:
        o, c, kh, kw = layer.weight.shape
        k, p = c * kh * kw, len(a) // v * delta[0, 0].numel()
        ctx.layer, ctx.v, ctx.input, ctx.output = layer, v, a.shape, delta.shape
        ctx.ghost = p * (k + o) < k * o
        ctx.grouped = not ctx.ghost and _groups_pay(a, layer)
        if ctx.grouped:
            a, d, t = _abreast(a, v), _abreast(delta, v), target.view(v * o, c, kh, kw)
            g = conv2d_weight(a, t.shape, d, layer.stride, layer.padding, groups=v)
            ctx.save_for_backward(a, d, t, g)
            return (g * t).view(v, -1).sum(1), g.view(v, -1).square().sum(1)
        cols, d, t = _per_victim(columns(a, layer), v), _per_victim(delta.flatten(2), v), target.view(v, o, k)
        if ctx.ghost:
            reply = torch.bmm(t, cols)
            inner, outer = torch.bmm(cols.transpose(1, 2), cols), torch.bmm(d.transpose(1, 2), d)
            ctx.save_for_backward(cols, d, t, reply, inner, outer)
            return (reply * d).sum((1, 2)), (inner * outer).sum((1, 2))
        g = torch.bmm(d, cols.transpose(1, 2))
        ctx.save_for_backward(cols, d, t, g)
        return (g * t).sum((1, 2)), g.square().sum((1, 2))

    @staticmethod
    def backward(ctx: Any, dot: Tensor, square: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        layer, v = ctx.layer, ctx.v
        dot, square = dot.view(-1, 1, 1), 2 * square.view(-1, 1, 1)
        if ctx.grouped:
            a, d, t, g = ctx.saved_tensors
            both = _combined(g.view(v, 1, -1), square, t.view(v, 1, -1), dot).view_as(t)
            to_delta = F.conv2d(a, both, None, layer.stride, layer.padding, groups=v)
            to_input = conv2d_input(a.shape, both, d, layer.stride, layer.padding, groups=v)
            return _in_turn(to_input, v), _in_turn(to_delta, v), None, None, None
        if ctx.ghost:
            cols, d, t, reply, inner, outer = ctx.saved_tensors
            to_delta = torch.bmm(d, inner).mul_(square).addcmul_(reply, dot)
            to_cols = torch.bmm(cols, outer).mul_(square).add_(torch.bmm(t.transpose(1, 2), d * dot))
        else:
            cols, d, t, g = ctx.saved_tensors
            both = _combined(g, square, t, dot)
            to_delta, to_cols = torch.bmm(both, cols), torch.bmm(both.transpose(1, 2), d)
        to_delta, to_cols = _per_image(to_delta, ctx), _per_image(to_cols, ctx)
        to_input = F.fold(to_cols, ctx.input[2:], layer.kernel_size, 1, numbers(layer.padding), layer.stride)
        return to_input, to_delta.reshape(ctx.output), None, None, None


def _groups_pay(a: Tensor, layer: nn.Conv2d) -> bool:
    """Whether one convolution with a group for every victim beats matrix products over columns.

    On a processor by two to six times, where its channels fill a vector register; not elsewhere.
    """
    return a.device.type == "cpu" and layer.weight[0, 0].numel() > 1 and not any(n % 16 for n in layer.weight.shape[:2])


def _combined(g: Tensor, square: Tensor, t: Tensor, dot: Tensor) -> Tensor:
    return (g * square).addcmul_(t, dot)


def _abreast(x: Tensor, v: int) -> Tensor:
    """(v * b, channels, h, w) -> (b, v * channels, h, w)."""
    b, (c, h, w) = len(x) // v, x.shape[1:]
    return x.reshape(v, b, c, h, w).transpose(0, 1).reshape(b, v * c, h, w)


def _in_turn(x: Tensor, v: int) -> Tensor:
    """(b, v * channels, h, w) -> (v * b, channels, h, w)."""
    b, (h, w) = len(x), x.shape[2:]
    return x.reshape(b, v, -1, h, w).transpose(0, 1).reshape(b * v, -1, h, w)


def _per_victim(x: Tensor, v: int) -> Tensor:
    """(v * b, rows, positions) -> (v, rows, b * positions)."""
    b = len(x) // v
    return x if b == 1 else x.unflatten(0, (v, b)).transpose(1, 2).flatten(2)


def _per_image(x: Tensor, ctx: Any) -> Tensor:
    b = ctx.input[0] // ctx.v
    return x if b == 1 else x.unflatten(2, (b, -1)).transpose(1, 2).flatten(0, 1)
