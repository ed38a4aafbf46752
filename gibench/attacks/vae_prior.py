"""Gradient matching in the latent space of a VAE learned on auxiliary images, then on pixels held near its range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks import Attack
from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.draws import Draws
from gibench.engine.chunks import in_chunks, repeated
from gibench.engine.labels import labels_of
from gibench.engine.objective import Objective, Plan
from gibench.engine.optimisers import Point, Search
from gibench.engine.priors import total_variation, towards
from gibench.engine.search import descend
from gibench.engine.surrogate import PUBLIC, at_rest, searched_images
from gibench.learned.vae import VAE, learn_vae
from gibench.types import Guess, View


@dataclass(frozen=True)
class VaePrior(Attack):
    """Stage 1: z by cos + ridge |z|^2. Stage 2: pixels from there by cos + tv TV + near |x - Dec(Enc(x))|^2.

    A cheap stand-in for generator and diffusion priors; its source is none of them. Knows the defense as
    `adaptive_matching` does; the VAE is learned on images as the search looks for them.
    """

    citation: ClassVar[str] = "after Jeon et al.: GIAS, NeurIPS 2021, arXiv 2110.14962, with a VAE for the GAN"
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "aux_data", "defense_spec"})
    adaptive: ClassVar[bool] = True
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {
        "tv": (1e-3, 1e-2, 0.1),
        "near": (1e-3, 3e-2, 1.0, 10.0),
    }
    latent: Annotated[int, Field(ge=1, le=512)] = 64
    epochs: Annotated[int, Field(ge=1)] = 60
    latent_steps: Annotated[int, Field(ge=1)] = 300
    latent_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    ridge: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3  # on the mean square of z
    steps: Annotated[int, Field(ge=0)] = 700  # in pixels; 0 stays in the decoder's range
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    tv: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    near: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    chunk: Annotated[int, Field(ge=1)] = 64

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        return self.rehearse(view, [{"tv": self.tv, "near": self.near}], draws)[0]

    def rehearse(self, view: View, candidates: Sequence[dict[str, Any]], draws: Draws) -> list[Guess]:
        """All candidates in one go, as further victims."""
        v, k = len(draws.members), len(candidates)
        settled = [{"tv": self.tv, "near": self.near} | chosen for chosen in candidates]
        tv, near = (torch.tensor([c[name] for c in settled]).repeat_interleave(v) for name in ("tv", "near"))
        guess = self.invert(repeated(view, k), tv, near, draws.of(draws.members * k))
        parts = (slice(start, start + v) for start in range(0, v * k, v))
        return [Guess(guess.x[part], guess.labels[part], guess.loss[part], guess.steps) for part in parts]

    def invert(self, view: View, tv: Tensor, near: Tensor, draws: Draws) -> Guess:
        """The weights are (v,)."""
        view = at_rest(view)
        once = draws.of((0,)).at("learn")
        images = searched_images(view, matching(view).match, once.at("images"))
        vae = learn_vae(images, PUBLIC, self.latent, self.epochs)

        def solve(part: View, own: Draws, where: slice) -> Guess:
            return self._solve(part, vae, tv[where].to(images), near[where].to(images), own)

        return in_chunks(view, draws, solve, self.chunk)

    def _solve(self, view: View, vae: VAE, tv: Tensor, near: Tensor, draws: Draws) -> Guess:
        plan = matching(view)
        objective, labels = Objective(view, plan), plan.labels
        assert labels is not None
        known = towards(vae)

        def of_latent(point: Point, stream: Draws) -> Tensor:
            z = point["z"]
            return objective(decoded(vae.decode, z), labels, stream) + self.ridge * z.square().flatten(1).mean(1)

        def of_pixels(point: Point, stream: Draws) -> Tensor:
            x = point["x"]
            return objective(x, labels, stream) + tv * total_variation(x) + near * known(x)

        z = draws.at("init").normal(view.shape[0], self.latent, like=tv) / 2
        search = Search(self.latent_steps, self.latent_lr, sign=False)
        point, loss = descend(of_latent, {"z": z}, search, draws.at("latent"))
        x = decoded(vae.decode, point["z"])
        if self.steps:
            point, loss = descend(of_pixels, {"x": x}, Search(self.steps, self.lr), draws.at("pixels"))
            x = point["x"]
        x = plan.match.post(x.clamp(0, 1)).clamp(0, 1)
        return Guess(x, labels, loss, self.latent_steps + self.steps)


def matching(view: View) -> Plan:
    """What `adaptive_matching` compares, with labels that are read off where it searches for them."""
    plan = AdaptiveMatching().plan(view)
    return plan if plan.labels is not None else replace(plan, labels=labels_of(view, view.update))


def decoded(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """(v, b, ...) -> (v, b, c, h, w)."""
    x: Tensor = decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    return x
