"""Randomised response on labels (Warner 1965; on medical data Wu et al. 2020): some labels are drawn anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.types import Batch, Images, Match, View


@dataclass(frozen=True)
class LabelFlip(Defense):
    """Per step each label stays with probability 1 - p and is otherwise uniform over the other classes.

    It hides labels, not images: the gradient of a wrong label carries the same image.
    """

    citation: ClassVar[str] = (
        "Warner: Randomized response, JASA 60, 1965; Wu, Zhang, Ding, Nguyen, Yu, Pan, Wong: Evaluation of inference "
        "attack models for deep learning on medical data, 2020, arXiv 2011.00177"
    )
    place = "data"
    knob = "p"
    sweep = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)
    neutral = "label_flip(p=0)"
    stochastic: ClassVar[bool] = True
    relabels: ClassVar[bool] = True
    p: Annotated[float, Field(ge=0, le=1)] = 0.2

    def fit(self, aux: Images, draws: Draws) -> Self:
        return replace(self, state={"classes": aux.y.max().reshape(1) + 1})

    def images(self, batch: Batch, draws: Draws) -> Batch:
        if self.p == 0:
            return batch
        if batch.y.is_floating_point():
            raise InputError("label_flip flips classes, not probabilities: write it before a defense that mixes labels")
        classes, shape = int(self.state["classes"]), (batch.y.shape[1],)
        coin = draws.at("coin").uniform(*shape, like=batch.x)
        step = 1 + (draws.at("other").uniform(*shape, like=batch.x) * (classes - 1)).long().clamp(max=classes - 2)
        return replace(batch, y=torch.where(coin < self.p, (batch.y + step) % classes, batch.y))

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        return batch

    def match(self, view: View) -> Match:
        """Matching takes the labels that were trained on, which the gradient tells even where true ones are known."""
        return Match(labels="inferred")
