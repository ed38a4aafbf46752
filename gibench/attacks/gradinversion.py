"""See through Gradients (Yin et al. 2021): squared distance, batch statistics, and several seeds that must agree."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.attacks import Attack
from gibench.bn import has_batch_norm
from gibench.draws import Draws
from gibench.engine.chunks import in_chunks, repeated
from gibench.engine.labels import labels_of
from gibench.engine.objective import Objective, Plan
from gibench.engine.optimisers import Point, Search
from gibench.engine.priors import Prior, batch_statistics, energy, total_variation
from gibench.engine.search import as_gradient, descend, first_images
from gibench.types import Guess, Match, View, victims

REACH = 2  # pixels that two seeds may be shifted against each other


@dataclass(frozen=True)
class GradInversion(Attack):
    """l2 + tv TV + energy |x|^2 + bn (distance of batch statistics, first layer x 10) + group |x - seeds' mean|^2.

    The seeds of a victim are further problems of the same batch, coupled through their mean alone; the one with the
    least objective is handed over.
    Paper: distance relative to the update's size and TV as a mean, so the weights are not the published ones; seeds
    are registered by the integer shift of at most 2 pixels that fits their mean best, not by RANSAC flow.
    """

    citation: ClassVar[str] = (
        "Yin, Mallya, Vahdat, Alvarez, Kautz, Molchanov: See through gradients - image batch recovery via "
        "GradInversion, CVPR 2021, arXiv 2104.07586"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "bn_stats"})
    steps: Annotated[int, Field(ge=1)] = 1000
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    tv: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-2
    energy: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-6
    bn: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    group: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    seeds: Annotated[int, Field(ge=1, le=16)] = 4
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        return "" if has_batch_norm(net) else "the model has no BatchNorm layer"

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        return in_chunks(as_gradient(view), draws, self._solve, size=16)

    def _solve(self, view: View, draws: Draws, _: slice) -> Guess:
        v, k = len(draws.members), self.seeds
        many = repeated(view, k)
        own = draws.at("seed").of([member * k + seed for seed in range(k) for member in draws.members])
        objective = Objective(many, self._plan(many, k))
        like = next(g for g in many.update.values() if g is not None)

        def evaluate(point: Point, stream: Draws) -> Tensor:
            assert objective.plan.labels is not None
            return objective(point["x"], objective.plan.labels, stream)

        search = Search(self.steps, self.lr, sign=False, schedule="warmup", jitter=self.noise)
        start = {"x": first_images(view.shape, "randn", own, like)}
        point, loss = descend(evaluate, start, search, own.at("descend"))
        chosen = loss.view(k, v).argmin(0)
        place = chosen * v + torch.arange(v, device=chosen.device)
        assert objective.plan.labels is not None
        return Guess(point["x"][place], objective.plan.labels[:v], loss[place], self.steps * k)

    def _plan(self, view: View, k: int) -> Plan:
        assert view.bn is not None
        assert victims(view.update) % k == 0
        priors = (
            (self.tv, total_variation),
            (self.energy, energy),
            (self.bn, batch_statistics(view.model, view.bn, first=10.0)),
            (self.group, _agreement(k)),
        )
        labels = labels_of(view, view.update)
        return Plan(Match(distance="l2", linear=False), labels, tuple(p for p in priors if p[0]))


def _agreement(k: int) -> Prior:
    """Squared distance to the mean over the k seeds, each shifted to fit it."""

    def penalty(x: Tensor) -> Tensor:
        with torch.no_grad():
            seeds = x.unflatten(0, (k, -1))
            moves = [(i, j) for i in range(-REACH, REACH + 1) for j in range(-REACH, REACH + 1)]
            rough = seeds.mean(0, keepdim=True)
            error = torch.stack([(seeds.roll(move, (-2, -1)) - rough).square().flatten(3).mean(3) for move in moves])
            best = error.argmin(0)  # (k, v, b)
            fitted = sum(_where(best == i, seeds.roll(move, (-2, -1))) for i, move in enumerate(moves))
            assert isinstance(fitted, Tensor)
            mean = fitted.mean(0, keepdim=True).expand_as(seeds)
            wanted = sum(_where(best == i, mean.roll((-h, -w), (-2, -1))) for i, (h, w) in enumerate(moves))
            assert isinstance(wanted, Tensor)
        return (x - wanted.flatten(0, 1)).square().flatten(1).mean(1)

    return penalty


def _where(flag: Tensor, images: Tensor) -> Tensor:
    return images * flag[..., None, None, None]
