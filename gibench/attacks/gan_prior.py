"""Gradient matching in the space of a generator learned on auxiliary images: GIAS, GGL and GIFD."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gibench.attacks import Attack
from gibench.attacks.vae_prior import decoded, matching
from gibench.draws import Draws
from gibench.engine.chunks import in_chunks, repeated
from gibench.engine.evolution import evolve
from gibench.engine.objective import Objective
from gibench.engine.optimisers import Point, Search
from gibench.engine.priors import total_variation
from gibench.engine.search import descend
from gibench.engine.surrogate import PUBLIC, at_rest, searched_images
from gibench.learned.gan import Generator, learn_generator
from gibench.types import Guess, View

Cost = Callable[[Tensor, Draws], Tensor]
"""Images (v, b, c, h, w) -> what is minimised (v,)."""


@dataclass(frozen=True)
class GanPrior(Attack):
    """`gias`: z by Adam, then the victim's own copy of the generator's weights. `ggl`: z by CMA-ES in [-2, 2]^n.
    `gifd`: z, then what goes into each further block in turn, within an L1 ball; the stage of least loss answers.

    Knows the defense as `adaptive_matching` does (GGL estimates it from the message). The generator is a small DCGAN
    learned on images as the search looks for them; `refine = 0` leaves it as it is.
    Paper: fewer steps, one start; GGL's BigGAN knows classes, here z alone is searched; GIFD projects on its balls,
    here the change is scaled back into them.
    """

    citation: ClassVar[str] = (
        "Jeon, Kim, Lee, Oh, Ok: Gradient inversion with generative image prior (GIAS), NeurIPS 2021, arXiv "
        "2110.14962; Li, Zhang, Liu, Liu: GGL, CVPR 2022, arXiv 2203.15696; Fang et al.: GIFD, ICCV 2023, arXiv "
        "2308.04699"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "aux_data", "defense_spec"})
    adaptive: ClassVar[bool] = True
    variant: Literal["gias", "ggl", "gifd"] = "gias"
    latent: Annotated[int, Field(ge=1, le=512)] = 32
    epochs: Annotated[int, Field(ge=1)] = 40
    steps: Annotated[int, Field(ge=1)] = 300  # of z: Adam steps, or generations of 4 + 3 log n points for ggl
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    refine: Annotated[int, Field(ge=0)] = 500  # steps of the weights (gias), of each block (gifd)
    refine_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # None: 1e-3 (gias), 0.03 (gifd)
    ridge: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3  # on the mean square of z
    ball: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0  # gifd: mean change of a feature
    tv: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    chunk: Annotated[int, Field(ge=1)] = 32

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        return f"ggl works on one image per message, not {batch}" if self.variant == "ggl" and batch > 1 else ""

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        view = at_rest(view)
        once = draws.of((0,)).at("learn")
        images = searched_images(view, matching(view).match, once.at("images"))
        generator = learn_generator(images, PUBLIC, self.latent, self.epochs)

        return in_chunks(view, draws, lambda part, own, _: self._solve(part, generator, own), self.chunk)

    def _solve(self, view: View, generator: Generator, draws: Draws) -> Guess:
        plan = matching(view)
        assert plan.labels is not None
        cost = self._cost(view)
        z, loss = (self._evolved if self.variant == "ggl" else self._slid)(view, generator, draws.at("latent"))
        x, steps = decoded(generator, z), self.steps
        if self.refine and self.variant != "ggl":
            further = _weights if self.variant == "gias" else self._features
            rate = self.refine_lr or (1e-3 if self.variant == "gias" else 0.03)
            search = Search(self.refine, rate, sign=False)
            x, loss = further(cost, generator, z, search, draws.at("refine"))
            steps += self.refine * (1 if self.variant == "gias" else len(generator.blocks) - 1)
        return Guess(plan.match.post(x).clamp(0, 1), plan.labels, loss, steps)

    def _cost(self, view: View) -> Cost:
        objective = Objective(view, matching(view))
        labels = objective.plan.labels
        assert labels is not None
        return lambda x, stream: objective(x, labels, stream) + self.tv * total_variation(x)

    def _slid(self, view: View, generator: Generator, draws: Draws) -> tuple[Tensor, Tensor]:
        """z (v, b, latent) by Adam, and its loss (v,)."""
        cost = self._cost(view)

        def evaluate(point: Point, stream: Draws) -> Tensor:
            z = point["z"]
            return cost(decoded(generator, z), stream) + self.ridge * z.square().flatten(1).mean(1)

        start = {"z": draws.at("init").normal(view.shape[0], self.latent, like=_like(generator))}
        point, loss = descend(evaluate, start, Search(self.steps, self.lr, sign=False), draws)
        return point["z"], loss

    def _evolved(self, view: View, generator: Generator, draws: Draws) -> tuple[Tensor, Tensor]:
        """z (v, 1, latent) by CMA-ES, and its loss (v,)."""
        population = 4 + int(3 * math.log(self.latent))
        cost = self._cost(repeated(view, population))

        def evaluate(points: Tensor, stream: Draws) -> Tensor:
            z = points.clamp(-2, 2).flatten(0, 1)
            value = cost(decoded(generator, z[:, None]), stream.of(stream.members * population)).detach()
            return (value + self.ridge * z.square().mean(1)).view(points.shape[:2])

        start = torch.zeros(len(draws.members), self.latent).to(_like(generator))
        z, loss = evolve(evaluate, start, self.steps, population, draws)
        return z.clamp(-2, 2)[:, None], loss

    def _features(
        self, cost: Cost, generator: Generator, z: Tensor, search: Search, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Stage k changes what goes into block k; its result is where the next stage starts."""
        given, loss = z, torch.empty(0)
        for k in range(1, len(generator.blocks)):
            before = decoded(generator.blocks[k - 1], given)

            def moved(change: Tensor, before: Tensor = before) -> Tensor:
                size = change.abs().flatten(2).mean(2).clamp(min=1e-12)[..., None, None, None]
                return before + change * (self.ball / size).clamp(max=1)

            def evaluate(point: Point, stream: Draws, k: int = k, moved: Callable[[Tensor], Tensor] = moved) -> Tensor:
                return cost(decoded(lambda h: generator(h, k), moved(point["change"])), stream)

            point, loss = descend(evaluate, {"change": torch.zeros_like(before)}, search, draws.at("stage", k))
            given = moved(point["change"])
        return decoded(lambda h: generator(h, len(generator.blocks) - 1), given), loss


def _weights(cost: Cost, generator: Generator, z: Tensor, search: Search, draws: Draws) -> tuple[Tensor, Tensor]:
    """Every victim's own copy of the generator's weights, z fixed."""

    def made(weights: Point) -> Tensor:
        x: Tensor = vmap(lambda own, codes: functional_call(generator, own, (codes,)))(weights, z)
        return x

    start = {name: p.detach().expand(len(z), *p.shape) for name, p in generator.named_parameters()}
    point, loss = descend(lambda weights, stream: cost(made(weights), stream), start, search, draws)
    with torch.no_grad():
        return made(point), loss


def _like(generator: Generator) -> Tensor:
    return next(generator.parameters())
