"""CMA-ES (Hansen 2016, arXiv 1604.00772) for many problems at once: a search that needs no slope."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gibench.draws import Draws


def evolve(
    evaluate: Callable[[Tensor, Draws], Tensor], start: Tensor, generations: int, population: int, draws: Draws
) -> tuple[Tensor, Tensor]:
    """The best point found (v, n) and its value (v,), from `start` (v, n) with a first deviation of 1/2.

    `evaluate` takes (population, v, n) and returns (population, v). Settings are Hansen's defaults. The covariance is
    decomposed at every generation: n is a latent's size here.
    """
    v, n = start.shape
    half = population // 2
    w = math.log((population + 1) / 2) - torch.arange(1, half + 1).to(start).log()
    w = w / w.sum()
    mass = float(1 / w.square().sum())
    c_sigma, c_c = (mass + 2) / (n + mass + 5), (4 + mass / n) / (n + 4 + 2 * mass / n)
    c_1 = 2 / ((n + 1.3) ** 2 + mass)
    c_mu = min(1 - c_1, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
    damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + c_sigma
    expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
    mean, sigma = start, torch.full((v, 1), 0.5).to(start)
    cov = torch.eye(n).to(start).expand(v, n, n)
    p_sigma, p_c = torch.zeros_like(start), torch.zeros_like(start)
    best, least = start, torch.full((v,), torch.inf).to(start)
    for generation in range(generations):
        stream = draws.at("generation", generation)
        values, axes = torch.linalg.eigh(cov)
        root = values.clamp(min=1e-12).sqrt()[:, None]  # (v, 1, n)
        z = stream.normal(population, n, like=start)
        y = (z * root) @ axes.transpose(1, 2)  # (v, population, n), N(0, cov)
        points = mean[:, None] + sigma[:, None] * y
        value = evaluate(points.transpose(0, 1), stream).T.nan_to_num(torch.inf)  # (v, population)
        order = value.argsort(1)
        first = order[:, :1]
        better = value.gather(1, first).squeeze(1) < least
        least = torch.where(better, value.gather(1, first).squeeze(1), least)
        best = torch.where(better[:, None], _taken(points, first)[:, 0], best)
        elite = _taken(y, order[:, :half])  # (v, half, n)
        step = torch.einsum("e,ven->vn", w, elite)
        mean = mean + sigma * step
        white = (((step[:, None] @ axes) / root) @ axes.transpose(1, 2))[:, 0]  # cov^(-1/2) step
        p_sigma = (1 - c_sigma) * p_sigma + math.sqrt(c_sigma * (2 - c_sigma) * mass) * white
        length = p_sigma.norm(dim=1, keepdim=True)
        late = math.sqrt(1 - (1 - c_sigma) ** (2 * generation + 2))
        moving = (length / late < (1.4 + 2 / (n + 1)) * expected).to(start)
        p_c = (1 - c_c) * p_c + moving * math.sqrt(c_c * (2 - c_c) * mass) * step
        stalled = (1 - moving)[..., None] * c_c * (2 - c_c)
        rank_one = p_c[:, :, None] * p_c[:, None] + stalled * cov
        rank_mu = torch.einsum("e,ven,vem->vnm", w, elite, elite)
        cov = (1 - c_1 - c_mu) * cov + c_1 * rank_one + c_mu * rank_mu
        cov = (cov + cov.transpose(1, 2)) / 2
        sigma = sigma * ((c_sigma / damping) * (length / expected - 1)).clamp(max=1).exp()
    return best, least


def _taken(t: Tensor, order: Tensor) -> Tensor:
    """(v, p, n) by (v, k) places -> (v, k, n)."""
    return t.gather(1, order[..., None].expand(-1, -1, t.shape[2]))
