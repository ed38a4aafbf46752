"""ATS (Gao et al. 2021): every access to an image passes it through one of a few searched transformation policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.operations import OPERATIONS, transformed
from gibench.types import Batch, Images, Match, View
from gibench.undo import study_images, undoing

NOTHING = -1  # fills up policies that are shorter than others


def policies_of(text: str) -> list[list[int]]:
    """`3-1-7+43-18-18` -> [[3, 1, 7], [43, 18, 18]]. Raises ValueError for what is not such a list."""
    policies = [[int(i) if i.isdecimal() else -1 for i in one.split("-")] for one in text.split("+")]
    if wrong := [i for one in policies for i in one if not 0 <= i < len(OPERATIONS)]:
        raise ValueError(
            f"a policy is numbers of operations, 0 to {len(OPERATIONS) - 1}, such as 3-1-7+43-18-18: {wrong}"
        )
    return policies


def _checked(text: str) -> str:
    policies_of(text)
    return text


@dataclass(frozen=True)
class ATS(Defense):
    """Per image and step one policy is drawn and its operations applied in order, each with a random sign.

    `scale` multiplies all magnitudes; what has none (invert, autocontrast, equalize) is blended in. Colour operations
    leave grey images alone, what is moved in is grey, tests see raw images.
    Paper: operations are always applied; its code stores probabilities and never uses them.
    """

    citation: ClassVar[str] = (
        "Gao, Guo, Zhang, Qiu, Wen, Liu: Privacy-preserving collaborative learning with automatic transformation "
        "search, CVPR 2021, arXiv 2011.12505"
    )
    place = "data"
    knob = "scale"
    sweep = (0.0, 0.25, 0.5, 0.75, 1.0)
    neutral = "ats(scale=0)"
    stochastic: ClassVar[bool] = True
    match_needs: ClassVar[frozenset[str]] = frozenset({"aux_data", "defense_params"})
    policy: Annotated[str, AfterValidator(_checked)] = "3-1-7+43-18-18"
    scale: Annotated[float, Field(ge=0, le=1)] = 1.0

    def images(self, batch: Batch, draws: Draws) -> Batch:
        if self.scale == 0:
            return batch
        policies, b = policies_of(self.policy), batch.y.shape[1]
        longest = max(len(one) for one in policies)
        table = torch.tensor([one + [NOTHING] * (longest - len(one)) for one in policies])
        which = (draws.at("policy").uniform(b) * len(policies)).long().flatten()
        signs = 1 - 2 * (draws.at("signs").uniform(b, longest) < 0.5).long().flatten(0, 1)
        x = batch.x.detach().flatten(0, 1).clone()
        for place in range(longest):
            steps, group = torch.stack([table[which, place], signs[:, place]], 1).unique(dim=0, return_inverse=True)
            for i, (operation, sign) in enumerate(steps.tolist()):  # at most two per policy, however many images
                if operation != NOTHING:
                    members = (group == i).to(x.device)
                    x[members] = transformed(x[members], OPERATIONS[operation], sign, self.scale).clamp(0, 1)
        return replace(batch, x=x.view_as(batch.x))

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        return batch

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        return study_images(self, aux, draws)

    def match(self, view: View) -> Match:
        """Invert to the transformed image, then an inverse network that learned policies and signs it cannot see."""
        return Match(post=undoing(view))
