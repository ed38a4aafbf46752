"""PSGL (Khowaja et al. 2022, arXiv 2201.04569): images altered along a map of what the classifier relies on.

Published (abstract): split learning of altered images, an attack map, recovery by singular value thresholding (SVT).
Read from others' code: alpha = dp_y / dx, beta = sum over other classes, Map = -alpha beta where alpha < 0 and
beta > 0; space-to-depth; lambda .1 and ten iterations of SVT; streams fused by 3x3 convolutions and weights (.5, .3,
.2). This project's reading: probabilities sum to 1, so that beta = -alpha and Map = alpha^2 where alpha < 0, one
backward pass; it is tiny, so that its greatest entry is brought to a stated strength; the iterations converge to one
thresholded SVD. Each image is on its own. Space-to-depth hides nothing and recovery is the server's: the map alone
stands between the server and the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.errors import InputError

WEIGHTS = (0.5, 0.3, 0.2)  # of what was sent, what was recovered and what is left


def attack_map(net: nn.Module, x: Tensor, y: Tensor, strength: float) -> Tensor:
    """The map (n, c, h, w) of images with labels y (n,), greatest entry `strength` in every image.

    Zero where no pixel lowers its class, such as where the net is certain to the last digit.
    """
    if strength < 0:
        raise InputError(f"psgl: strength is {strength}; allowed: >= 0, the greatest change of a pixel in [0, 1]")
    pull = (-sensitivity(net, x, y)).clamp(min=0)
    top = pull.flatten(1).amax(1).view(-1, 1, 1, 1)
    share = pull / torch.where(top > 0, top, 1)  # first, for the squares of tiny numbers are none
    return strength * share.square()


def sensitivity(net: nn.Module, x: Tensor, y: Tensor, others: bool = False) -> Tensor:
    """alpha, the gradient of each image's own class probability, or beta, that of all `others` together."""
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training for layer in net.modules()):
        raise InputError("psgl: batch statistics mix images; allowed: nets in evaluation mode or without BatchNorm")
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        p = net(leaf).softmax(1)
        own = F.one_hot(y, p.shape[1]).bool()
        chosen = p.masked_fill(own, 0).sum() if others else p.masked_fill(~own, 0).sum()
        (gradient,) = torch.autograd.grad(chosen, leaf)
    return gradient


def altered(x: Tensor, the_map: Tensor) -> Tensor:
    """x^ = clip(x + Map), in [0, 1]: what leaves the client."""
    return (x + the_map).clamp(0, 1)


def packed(x: Tensor, the_map: Tensor) -> Tensor:
    """What is sent of x^ (n, c, h, w): 2x2 space-to-depth and the map at half size, (n, 4c + 1, h / 2, w / 2)."""
    return torch.cat([to_depth(x), F.avg_pool2d(the_map.mean(1, keepdim=True), 2)], 1)


def unpacked(sent: Tensor) -> Tensor:
    """x^ again, exactly: space-to-depth is no protection."""
    return F.pixel_shuffle(sent[:, :-1], 2)


def to_depth(x: Tensor) -> Tensor:
    """Each 2x2 patch becomes four channels: (n, c, h, w) -> (n, 4c, h / 2, w / 2)."""
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise InputError(f"psgl: images are {x.shape[2]}x{x.shape[3]}; allowed: even sides")
    return F.pixel_unshuffle(x, 2)


def svt(x: Tensor, threshold: float = 0.1) -> Tensor:
    """SVT: U max(s - threshold, 0) V^T of every image, its channels stacked to (c h, w).

    The minimiser of threshold |L|_* + |L - x|^2 / 2, hence where the iterations end, whatever their step mu.
    """
    # Paper: ten iterations at mu = .55; the code in circulation takes the batch for part of the matrix.
    if threshold < 0:
        raise InputError(f"psgl: threshold is {threshold}; allowed: >= 0")
    u, s, vh = torch.linalg.svd(x.flatten(1, 2), full_matrices=False)
    low: Tensor = (u * (s - threshold).clamp(min=0).unsqueeze(1)) @ vh
    return low.view_as(x)


def streams(sent: Tensor, threshold: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """The server's three views of what was sent, at half size: as it came, recovered, and the rest of it.

    This project's reading; the rest is U min(s, threshold) V^T.
    """
    x = unpacked(sent)
    recovered = svt(x, threshold)
    return sent, to_depth(recovered), to_depth(x - recovered)


def fused(parts: Sequence[Tensor], weights: Sequence[float] = WEIGHTS) -> Tensor:
    """Weighted sum of the streams' outputs, features or probabilities of one shape."""
    if len(parts) != len(weights) or abs(sum(weights) - 1) > 1e-6 or min(weights) < 0:
        raise InputError(f"psgl: weights {tuple(weights)} for {len(parts)} streams; allowed: one each, >= 0, of sum 1")
    return torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum(0)


class Fusion(nn.Module):
    """A 3x3 convolution per stream and their weighted sum: what stands before the server's classifier."""

    def __init__(self, channels: int, width: int, weights: Sequence[float] = WEIGHTS) -> None:
        """`channels` of an image."""
        super().__init__()
        self.weights = tuple(weights)
        sizes = (4 * channels + 1, 4 * channels, 4 * channels)
        self.convs = nn.ModuleList(nn.Conv2d(size, width, 3, padding=1) for size in sizes)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        return fused([conv(part) for conv, part in zip(self.convs, parts, strict=True)], self.weights)
