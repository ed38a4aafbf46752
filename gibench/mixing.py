"""Convex mixtures of an image with others of a public pool, which mixup and InstaHide are made of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gibench.draws import Draws
from gibench.types import Images

POOL = 256  # public images to mix with
TRIES = 64  # weights drawn per image; that none of them meets a bound of 0.65 has a chance of 1e-10 for two images
RIDGE = 1e-3  # added to the variance of every pixel where a pool's covariance is inverted


def public_pool(aux: Images, draws: Draws) -> dict[str, Tensor]:
    """Images `x` (n, c, h, w) and their labels `y` as probabilities (n, classes)."""
    chosen = torch.randperm(len(aux.y), generator=draws.generator())[:POOL].to(aux.y.device)
    y = F.one_hot(aux.y[chosen], int(aux.y.max()) + 1).to(aux.x)
    return {"x": aux.x[chosen], "y": y}


def partners(b: int, k: int, pool: Tensor, draws: Draws) -> Tensor:
    """For each image k - 1 different places of the pool, (v, b, k - 1)."""
    return draws.uniform(b, len(pool)).argsort(-1)[..., : k - 1].to(pool.device)


def shares(b: int, k: int, bound: float, draws: Draws, like: Tensor) -> Tensor:
    """Weights (v, b, k) that sum to one, uniform on the simplex where none exceeds the bound (or 1/k, if larger)."""
    raw = -draws.uniform(b, TRIES, k).clamp(min=1e-30).log()
    tries = raw / raw.sum(-1, keepdim=True)
    largest = tries.amax(-1)
    fits = largest <= max(bound, 1 / k + 1e-6)
    first = torch.where(fits.any(-1), fits.int().argmax(-1), largest.argmin(-1))
    return tries.gather(2, first[..., None, None].expand(-1, -1, 1, k)).squeeze(2).to(like)


def mixed(own: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of each own value (v, b, ...) and its others (v, b, k - 1, ...), by weights (v, b, k)."""
    everything = torch.cat([own.unsqueeze(2), others], 2)
    return torch.einsum("vbk,vbk...->vb...", weights, everything)


def unmixed(x: Tensor, pool: Tensor, k: int) -> Tensor:
    """Mixtures (n, c, h, w) of k images, k - 1 of them from a known pool, with those found and taken out.

    Orthogonal matching pursuit after whitening by the pool's own covariance, which takes out what images have in
    common; with F the centred pool, (F^T F / n + r)^-1 F^T = F^T (F F^T / n + r)^-1, so that only n x n is inverted.
    """
    pool = pool.to(x)
    mean = pool.mean(0)
    flat = (pool - mean).flatten(1)
    inner = flat @ flat.T
    whitened = torch.linalg.inv(inner / len(pool) + RIDGE * torch.eye(len(pool)).to(pool))
    likeness, gram = (x - mean).flatten(1) @ flat.T @ whitened, inner @ whitened
    length, left = gram.diagonal().clamp(min=1e-12).sqrt(), likeness
    chosen, weights = torch.zeros(len(x), 0, dtype=torch.long, device=x.device), x.new_zeros(len(x), 0)
    for _ in range(k - 1):
        best = (left / length).scatter(1, chosen, -torch.inf).argmax(1, keepdim=True)
        chosen = torch.cat([chosen, best], 1)
        among = gram[chosen[:, :, None], chosen[:, None, :]] + 1e-6 * torch.eye(chosen.shape[1]).to(x)
        weights = torch.linalg.solve(among, likeness.gather(1, chosen))
        left = likeness - torch.einsum("nj,njp->np", weights, gram[chosen])
    weights = weights.clamp(0, 1)
    rest = x - torch.einsum("nj,nj...->n...", weights, pool[chosen])
    own = (1 - weights.sum(1)).clamp(min=0.05).view(-1, 1, 1, 1)
    return (rest / own).clamp(0, 1)
