"""Adaptive matching with regularisation by denoising (Romano et al. 2017): a learned denoiser beside TV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.draws import Draws
from gibench.engine.objective import Plan
from gibench.engine.priors import towards
from gibench.engine.search import invert
from gibench.engine.surrogate import PUBLIC, at_rest, searched_images
from gibench.learned.denoiser import learn_denoiser
from gibench.types import Guess, View


@dataclass(frozen=True)
class DenoisedMatching(AdaptiveMatching):
    """`adaptive_matching` + denoise * |x - D(x)|^2, D a small residual net trained on auxiliary images.

    D sees images as the search looks for them: through the known defense where that acts on images. Both weights
    are tuned; with denoise = 0 this is `adaptive_matching`.
    """

    citation: ClassVar[str] = (
        "Romano, Elad, Milanfar: The little engine that could - regularization by denoising (RED), SIAM J. Imaging "
        "Sciences 2017, arXiv 1611.02862"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "aux_data", "defense_spec"})
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {**AdaptiveMatching.tunes, "denoise": (0.3, 3.0)}
    denoise: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    sigma: Annotated[float, Field(gt=0, le=1)] = 0.2  # largest noise that D is trained on
    epochs: Annotated[int, Field(ge=1)] = 30

    def rehearse(self, view: View, candidates: Sequence[dict[str, Any]], draws: Draws) -> list[Guess]:
        """The candidates of one weight of the denoiser go together."""
        found: dict[int, Guess] = {}
        own = [{"tv": self.tv, "denoise": self.denoise} | candidate for candidate in candidates]
        for weight in {candidate["denoise"]: None for candidate in own}:
            places = [i for i, candidate in enumerate(own) if candidate["denoise"] == weight]
            chosen = [own[i] for i in places]
            guesses = AdaptiveMatching.rehearse(replace(self, denoise=weight), view, chosen, draws)
            found |= dict(zip(places, guesses, strict=True))
        return [found[i] for i in range(len(own))]

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        assert self.denoise is not None
        view = at_rest(view)
        once = draws.of((0,)).at("learn")
        images = searched_images(view, self.plan(view).match, once.at("images"))
        prior = (self.denoise, towards(learn_denoiser(images, PUBLIC, self.sigma, self.epochs)))

        def plan(part: View) -> Plan:
            return replace(self.plan(part), priors=(prior,))

        return invert(view, plan, self.search(tv), draws)
