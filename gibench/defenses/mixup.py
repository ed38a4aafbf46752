"""mixup (Zhang et al. 2018): the model sees a mixture of k images and learns the same mixture of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Self

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.mixing import mixed, partners, public_pool, shares, unmixed
from gibench.types import Batch, Images, Match, View
from gibench.undo import study_images, undoing

CLEAN = 4  # images up to which taking out the pool's is better left as it is: a network would blur it


@dataclass(frozen=True)
class Mixup(Defense):
    """sum_j lam_j x_j, fresh per step: the client's image and k - 1 others; lam uniform on the simplex, max <= 0.65.

    Paper: the others come from a public pool, because a message may be about a single image; k = 2 and
    lam ~ Beta(alpha, alpha) there, here alpha = 1 with InstaHide's bound, for any k. Tests see raw images.
    """

    citation: ClassVar[str] = (
        "Zhang, Cisse, Dauphin, Lopez-Paz: mixup: beyond empirical risk minimization, ICLR 2018, arXiv 1710.09412"
    )
    place = "data"
    knob = "k"
    sweep = (1, 2, 4, 6, 8)
    neutral = "mixup(k=1)"
    stochastic: ClassVar[bool] = True
    relabels: ClassVar[bool] = True
    match_needs: ClassVar[frozenset[str]] = frozenset({"aux_data", "defense_params"})
    k: Annotated[int, Field(ge=1, le=32)] = 2
    bound: Annotated[float, Field(gt=0, le=1)] = 0.65

    def fit(self, aux: Images, draws: Draws) -> Self:
        return replace(self, state=public_pool(aux, draws))

    def images(self, batch: Batch, draws: Draws) -> Batch:
        if self.k == 1:
            return batch
        pool, b = self.state, batch.y.shape[1]
        weights = shares(b, self.k, self.bound, draws.at("shares"), batch.x)
        others = partners(b, self.k, pool["x"], draws.at("partners"))
        y = batch.y if batch.y.is_floating_point() else F.one_hot(batch.y, pool["y"].shape[1]).to(batch.x)
        return replace(batch, x=mixed(batch.x, pool["x"][others], weights), y=mixed(y, pool["y"][others], weights))

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        return batch

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        return {} if self.k <= CLEAN else study_images(self, aux, draws, self._without_pool)

    def match(self, view: View) -> Match:
        """Invert to the mixture, its mixed labels searched with it where they matter; find the known images in it and
        take them out. Where there are many, an inverse network mends what is left.

        An inverse network of the mixture alone gains nothing over the mixture itself.
        """
        one_step = view.shape[0] == 1 and (view.local is None or view.local.epochs == 1)

        def post(x: Tensor) -> Tensor:
            return self._without_pool(x.flatten(0, 1)).view_as(x)

        mended = post if self.k <= CLEAN else undoing(view, self._without_pool)
        return Match(labels="given" if one_step else "joint", post=mended)

    def _without_pool(self, x: Tensor) -> Tensor:
        return unmixed(x, self.state["x"], self.k)
