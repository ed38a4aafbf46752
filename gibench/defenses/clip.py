"""Norm clipping (Abadi et al. 2016 without its noise; a control): the whole message gets a length of at most C."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import clip_each
from gibench.types import Memory, Update


@dataclass(frozen=True)
class Clip(Defense):
    """g min(1, C/|g|) over all layers together: the mean gradient of a batch, not each image's."""

    citation: ClassVar[str] = (
        "Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang: Deep learning with differential privacy, CCS 2016, "
        "arXiv 1607.00133"
    )
    place = "gradient"
    knob = "bound"
    sweep = (1e6, 10.0, 3.0, 1.0, 0.3, 0.1, 0.01)
    neutral = "clip(bound=1e6)"
    oblivious_suffices = "the direction is untouched, and matching by cosine never looks at the length"
    bound: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        return clip_each(update, self.bound)
