"""InstaHide (Huang et al. 2020): the model sees a mixture with public images whose pixels get random signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.mixing import mixed, partners, public_pool, shares
from gibench.types import Batch, Images, Match, View
from gibench.undo import study_images, undoing


@dataclass(frozen=True)
class InstaHide(Defense):
    """On z = 2x - 1: s * sum_j lam_j z_j with signs s fresh per entry and step; lam as in mixup. No neutral end.

    Not private: the challenge set was broken (Carlini et al., S&P 2021, arXiv 2011.05315). Tests see raw images.
    Paper: of the cross-dataset variant with one private image, whose label is kept; it mixes two private ones.
    """

    citation: ClassVar[str] = (
        "Huang, Song, Li, Arora: InstaHide: instance-hiding schemes for private distributed learning, ICML 2020, "
        "arXiv 2010.02772"
    )
    place = "data"
    knob = "k"
    sweep = (1, 2, 4, 6, 8)
    stochastic: ClassVar[bool] = True
    match_needs: ClassVar[frozenset[str]] = frozenset({"aux_data", "defense_params"})
    k: Annotated[int, Field(ge=1, le=32)] = 4
    bound: Annotated[float, Field(gt=0, le=1)] = 0.65

    def fit(self, aux: Images, draws: Draws) -> Self:
        return replace(self, state=public_pool(aux, draws))

    def images(self, batch: Batch, draws: Draws) -> Batch:
        pool, (b, *size) = self.state["x"], batch.x.shape[1:]
        weights = shares(b, self.k, self.bound, draws.at("shares"), batch.x)
        others = pool[partners(b, self.k, pool, draws.at("partners"))]
        mix = 2 * mixed(batch.x, others, weights) - 1
        signs = torch.where(draws.at("signs").uniform(b, *size, like=mix) < 0.5, -1.0, 1.0)
        return replace(batch, x=((1 + signs * mix) / 2).clamp(0, 1))

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        return batch

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        return study_images(self, aux, draws, without_signs)

    def match(self, view: View) -> Match:
        """Invert to the encoding, take the absolute value, which undoes the signs, then an inverse network.

        An inverse network of the encoding itself ends at the mean image.
        """
        return Match(post=undoing(view, without_signs))


def without_signs(x: Tensor) -> Tensor:
    """What the signs cannot hide, |2x - 1|."""
    return (2 * x - 1).abs()
