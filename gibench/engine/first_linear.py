"""Nets that begin with a linear layer: every row of its gradient is a mixture of the images (Phong et al. 2017).

With dW_r = sum_i delta_ir z_i and db_r = sum_i delta_ir, the quotient dW_r / db_r is an affine mixture of the layer's
inputs z_i, and an input itself where the row is active for one image alone. z is the image after a fixed
normalisation of each pixel, which is undone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gibench.draws import Draws
from gibench.types import Update, View


@dataclass(frozen=True)
class Rows:
    """The first layer's gradient of every victim in fp64, and what the layer is."""

    weight: Tensor  # (v, rows, inputs)
    bias: Tensor  # (v, rows)
    offset: Tensor  # (inputs,): the layer sees offset + scale * pixels
    scale: Tensor  # (inputs,)
    precision: float  # relative distance at which two quotients count as one

    def pixels(self, z: Tensor) -> Tensor:
        """Images from inputs of the layer, (..., inputs) both."""
        return (z - self.offset) / self.scale


def reason_against(net: nn.Module, *, relu: bool = False) -> str:
    """Why this net does not begin with a linear layer with bias (and then a ReLU); empty if it does."""
    layers = leaves(net)
    first = next((i for i, m in enumerate(layers) if list(m.parameters(False))), None)
    if first is None:
        return "the net has no parameters"
    layer = layers[first]
    wanted = f"needs Linear with bias{' and ReLU' if relu else ''}"
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        without = " without bias" if isinstance(layer, nn.Linear) else ""
        return f"the first layer with parameters is {type(layer).__name__}{without}; {wanted}"
    for before in layers[:first]:
        if type(before).__module__.startswith("torch.nn") and not isinstance(before, (nn.Flatten, nn.Identity)):
            return f"{type(before).__name__} comes before the first layer with parameters; {wanted} on the pixels"
    if relu and not (first + 1 < len(layers) and isinstance(layers[first + 1], nn.ReLU)):
        return f"the first layer is not followed by a ReLU; {wanted}"
    return ""


def first_linear(net: nn.Module) -> tuple[str, nn.Linear]:
    """Name and layer, in a net against which there is no reason."""
    return next((name, m) for name, m in net.named_modules() if isinstance(m, nn.Linear))


def normalisation(net: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """What the layers before the first one with parameters do to a pixel: offset and scale, (inputs,) in fp64."""
    ends = torch.stack([torch.zeros(shape[1:]), torch.ones(shape[1:])]).to(next(net.parameters()))
    for layer in leaves(net):
        if list(layer.parameters(False)):
            break
        ends = layer(ends)
    low, high = ends.detach().flatten(1).double()
    return low, high - low


def rows_of(view: View) -> Rows:
    """The first layer's gradient; zeros where the client does not share it."""
    name, layer = first_linear(view.model)
    v = next(len(g) for g in view.update.values() if g is not None)

    def shared(part: str, parameter: Tensor) -> Tensor:
        g = view.update[f"{name}.{part}"]
        return (torch.zeros_like(parameter).expand(v, *parameter.shape) if g is None else g).detach().double()

    precision = torch.finfo(layer.weight.dtype).eps ** 0.5
    pixels = normalisation(view.model, view.shape)
    return Rows(shared("weight", layer.weight), shared("bias", layer.bias), *pixels, precision)


def quotients(rows: Rows, b: int, tol: float, least: int) -> list[Tensor]:
    """Up to b images per victim, (k, inputs): quotients that at least `least` rows agree on, then single rows.

    Among single rows those come first that lie in [0, 1], which a mixture with negative weights hardly does, then
    those of largest |db|.
    """
    return [_quotients(rows, w, d, b, tol, least) for w, d in zip(rows.weight, rows.bias, strict=True)]


def unexplained(rows: Rows, found: list[Tensor]) -> Tensor:
    """Share of the gradient's norm outside the span of the found images, (v,); 1 where nothing arrived."""
    whole = torch.cat([rows.weight, rows.bias.unsqueeze(2)], 2)
    left = []
    for g, x in zip(whole, found, strict=True):
        z = rows.offset + rows.scale * x
        basis = torch.linalg.qr(torch.cat([z, z.new_ones(len(z), 1)], 1).T).Q
        left.append((g - (g @ basis) @ basis.T).norm() / g.norm() if bool(g.any()) else g.new_ones(()))
    return torch.stack(left)


def _quotients(rows: Rows, weight: Tensor, bias: Tensor, b: int, tol: float, least: int) -> Tensor:
    usable = bias.abs() > tol * bias.abs().max()
    weight, bias = weight[usable], bias[usable]
    if not len(bias):
        return weight
    if b == 1:
        # Paper: one row suffices; the combination of rows that carries the most signal also averages out noise.
        signal = torch.linalg.eigh(weight @ weight.T).eigenvectors[:, -1]
        return rows.pixels(signal @ weight / (signal @ bias)).unsqueeze(0)
    z = weight / bias.unsqueeze(1)
    # Distances of random projections: exact differences of all pixels would cost seconds for wide layers.
    seen = z @ Draws(("quotients",)).normal(z.shape[1], 64, like=z)[0] / 8
    apart = torch.cdist(seen, seen, compute_mode="donot_use_mm_for_euclid_dist") / z.norm(dim=1)
    same, close = apart < rows.precision, apart < 1e-3
    size = same.sum(1)
    size = torch.where(size >= least, size, 1)
    outside = (rows.pixels(z) - 0.5).abs().amax(1) > 0.501
    kept: list[int] = []
    for *_, row in sorted(zip((-size).tolist(), outside.tolist(), (-bias.abs()).tolist(), range(len(z)), strict=True)):
        if len(kept) < b and not bool(close[row, kept].any()):
            kept.append(row)
    share = same[kept].to(bias) * bias
    return rows.pixels((share @ weight) / (share @ bias).unsqueeze(1))


def leaves(net: nn.Module) -> list[nn.Module]:
    """The layers of a plain sequence, in order."""
    return [m for m in net.modules() if not list(m.children())]


def sole_input(update: Update, layer: str) -> Tensor:
    """(v, in) of a linear layer that saw one image: dW = d h^T and db = d give h by least squares."""
    weight, bias = update[f"{layer}.weight"], update[f"{layer}.bias"]
    assert weight is not None
    assert bias is not None
    total: Tensor = (weight * bias.unsqueeze(2)).sum(1) / bias.square().sum(1, keepdim=True).clamp(min=1e-30)
    return total
