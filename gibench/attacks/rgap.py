"""R-GAP (Zhu & Blaschko 2021): linear equations, solved layer by layer from the last to the first, give one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.first_linear import leaves, normalisation
from gibench.engine.labels import head, labels_of
from gibench.gradients import mean_gradient
from gibench.types import Batch, Guess, View


@dataclass(frozen=True)
class RGAP(Attack):
    """A convolution's input solves W x = z - b (its output z, from the layer above) and delta * x = dW (its gradient).

    Exact where these equations have full column rank for every layer; otherwise the least squares of least norm. The
    loss is the relative distance of the guess's own gradient to the observed one, near 0 for a solution.
    """

    citation: ClassVar[str] = "Zhu, Blaschko: R-GAP: Recursive gradient attack on privacy, ICLR 2021, arXiv 2010.07733"
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        if batch != 1:
            return "recovers a single image; the batch holds more"
        if kind != "gradient":
            return "needs a gradient's own scale; a weight change mixes several"
        layers = leaves(net)
        at = next((i for i, m in enumerate(layers) if list(m.parameters(False))), len(layers))
        *body, flatten, last = layers[at:] if len(layers) - at >= 4 else [nn.Identity()] * 4
        if not (isinstance(flatten, nn.Flatten) and isinstance(last, nn.Linear) and last.bias is not None):
            return "needs convolutions, Flatten and one Linear with bias"
        for layer, activation in zip(body[::2], body[1::2], strict=False):
            if not isinstance(layer, nn.Conv2d) or layer.bias is None or layer.groups > 1 or layer.dilation != (1, 1):
                return f"{type(layer).__name__} in the body; needs plain convolutions with bias"
            if type(activation) not in _INVERSES:
                return f"{type(activation).__name__} has no inverse; needs leaky_relu, tanh or sigmoid"
        return "" if len(body) % 2 == 0 else "needs an activation after every convolution"

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        shared = {name: g.double() for name, g in view.update.items() if g is not None}
        convs = [(name, m) for name, m in view.model.named_modules() if isinstance(m, nn.Conv2d)]
        after = [m for m in leaves(view.model) if type(m) in _INVERSES]
        offset, scale = normalisation(view.model, view.shape)
        name = head(view.model)
        like, labels = next(g for g in view.update.values() if g is not None), labels_of(view, view.update)
        wanted = [f"{n}.weight" for n in (name, *(n for n, _ in convs))] + [f"{name}.bias"]
        if any(key not in shared for key in wanted):
            grey = torch.full((len(like), *view.shape), 0.5).to(like)
            return Guess(grey, labels, torch.ones(len(like)).to(like), 0)
        shapes = [(1, *view.shape[1:])]
        for _, conv in convs:
            with torch.no_grad():
                shapes.append(tuple(conv(torch.zeros(shapes[-1]).to(conv.weight)).shape))
        error = shared[f"{name}.bias"]
        power = error.square().sum(1, keepdim=True).clamp(min=1e-300)
        x = (error.unsqueeze(1) @ shared[f"{name}.weight"]).squeeze(1) / power
        delta = error @ view.model.get_parameter(f"{name}.weight").detach().double()
        for (key, conv), activation, given, made in zip(
            reversed(convs), reversed(after), reversed(shapes[:-1]), reversed(shapes[1:]), strict=True
        ):
            z, slope = _INVERSES[type(activation)](activation, x)
            delta = (delta * slope).view(-1, *made[1:])
            x, back = _through(conv, z.view_as(delta), delta, shared[f"{key}.weight"], given)
            delta = back.flatten(1)
        pixels = ((x - offset) / scale).view(-1, *view.shape).nan_to_num(0.5).clamp(0, 1).to(like)
        own = mean_gradient(view.model, Batch(pixels, labels))
        apart = torch.stack([(own[k].double() - g).flatten(1).square().sum(1) for k, g in shared.items()]).sum(0)  # type: ignore[union-attr]
        whole = torch.stack([g.flatten(1).square().sum(1) for g in shared.values()]).sum(0)
        return Guess(pixels, labels, (apart / whole.clamp(min=1e-300)).sqrt().to(like), 0)


def _through(
    conv: nn.Conv2d, z: Tensor, delta: Tensor, observed: Tensor, given: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The convolution's input (v, inputs) and the loss gradient there (v, c, h, w), all victims in turn.

    Normal equations with refinement: they are squared in condition, but small, and the weights' part is shared.
    """
    c, n = given[1], given[2] * given[3]
    assert conv.bias is not None
    assert not isinstance(conv.padding, str)
    weight, bias, padding = conv.weight.detach().double(), conv.bias.detach().double(), conv.padding
    every = torch.eye(c * n).to(weight).view(-1, *given[1:])
    by_weight = F.conv2d(every, weight, None, conv.stride, padding).flatten(1)  # (inputs, outputs)
    taps = F.unfold(torch.eye(n).to(weight).view(n, 1, *given[2:]), conv.kernel_size, 1, padding, conv.stride)
    shared = by_weight @ by_weight.T
    found = []
    for z_i, delta_i, observed_i in zip(z, delta, observed, strict=True):
        by_gradient = torch.einsum("ol,ntl->not", delta_i.flatten(1), taps).flatten(1)  # (n, outputs of the kernel)
        size = by_weight.norm() / by_gradient.norm().clamp(min=1e-300) * n**0.5 / by_weight.shape[0] ** 0.5
        by_gradient = by_gradient * size
        right_w = (z_i - bias.view(-1, 1, 1)).flatten()
        right_g = (observed_i.flatten(2).transpose(0, 1) * size).flatten(1)  # (c, outputs of the kernel)
        normal = shared + torch.block_diag(*[by_gradient @ by_gradient.T] * c)
        normal.diagonal().add_(1e-14 * float(normal.diagonal().max()))
        factor, info = torch.linalg.cholesky_ex(normal)
        if int(info):
            normal.diagonal().add_(1e-10 * float(normal.diagonal().max()))
            factor = torch.linalg.cholesky_ex(normal)[0]
        x = torch.zeros_like(by_weight[:, 0])
        for _ in range(8):
            left_w = right_w - x @ by_weight
            left_g = right_g - x.view(c, n) @ by_gradient
            down = by_weight @ left_w + (left_g @ by_gradient.T).flatten()
            x = x + torch.cholesky_solve(down.unsqueeze(1), factor).squeeze(1)
        found.append(x)
    extra = [(given[i + 2] + 2 * padding[i] - conv.kernel_size[i]) % conv.stride[i] for i in (0, 1)]
    back = F.conv_transpose2d(delta, weight, None, conv.stride, padding, extra)
    return torch.stack(found), back


Inverse = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
"""An activation and its output -> its input and its derivative there."""


def _leaky(layer: nn.Module, y: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.LeakyReLU)
    slope = torch.where(y > 0, torch.ones_like(y), layer.negative_slope)
    return y / slope, slope


def _tanh(layer: nn.Module, y: Tensor) -> tuple[Tensor, Tensor]:
    y = y.clamp(-1 + 1e-12, 1 - 1e-12)
    return y.atanh(), 1 - y.square()


def _sigmoid(layer: nn.Module, y: Tensor) -> tuple[Tensor, Tensor]:
    y = y.clamp(1e-12, 1 - 1e-12)
    return y.logit(), y * (1 - y)


_INVERSES: dict[type[nn.Module], Inverse] = {nn.LeakyReLU: _leaky, nn.Tanh: _tanh, nn.Sigmoid: _sigmoid}
