"""Activation matching (He et al. 2019): split learning inverted by a search for the image behind its activations."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.engine.activations import forward_plan
from gibench.engine.labels import labels_of
from gibench.engine.objective import Plan
from gibench.types import Kind, Match, View

WEIGHTS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)  # of total variation


@dataclass(frozen=True)
class ActivationMatching(InvertingGradients):
    """min |f(x) - s|^2 / |s|^2 + tv TV(x) over x in [0, 1], f the client's part as the server knows it (white box).

    Paper: Adam with a fixed rate from a grey image; here its rate decays, and the weight of TV is rehearsed.
    """

    citation: ClassVar[str] = (
        "He, Zhang, Lee: Model inversion attacks against collaborative inference, ACSAC 2019, "
        "doi:10.1145/3359789.3359824"
    )
    reads: ClassVar[frozenset[Kind]] = frozenset({"activations"})
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {"tv": WEIGHTS}
    steps: Annotated[int, Field(ge=1)] = 500
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    sign: bool = False
    linear: bool = False
    start: Literal["randn", "rand", "gray", "pattern"] = "gray"

    def plan(self, view: View) -> Plan:
        """What is matched: the activations as if there were no defense."""
        return forward_plan(view, Match(distance="l2"), labels_of(view, view.update))
