"""Activation matching through the known defense: `adaptive_matching` (Balunovic et al. 2022) in split learning."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.attacks.activation_matching import WEIGHTS
from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.engine.activations import forward_plan
from gibench.engine.objective import Plan
from gibench.types import Kind, View


@dataclass(frozen=True)
class AdaptiveActivationMatching(AdaptiveMatching):
    """`activation_matching` of what the defense's own `match` makes of the image; against `none` the two are the same.

    Several rounds are merged, or inverted one by one, as in `adaptive_matching`.
    """

    citation: ClassVar[str] = (
        "He, Zhang, Lee: Model inversion attacks against collaborative inference, ACSAC 2019, "
        "doi:10.1145/3359789.3359824; Balunovic, Dimitrov, Staab, Vechev: Bayesian framework for gradient leakage, "
        "ICLR 2022, arXiv 2111.04706"
    )
    reads: ClassVar[frozenset[Kind]] = frozenset({"activations"})
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {"tv": WEIGHTS}
    steps: Annotated[int, Field(ge=1)] = 500
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    sign: bool = False
    linear: bool = False
    start: Literal["randn", "rand", "gray", "pattern"] = "gray"
    distance: Literal["match", "cos", "l2", "l1"] = "l2"

    def plan(self, view: View) -> Plan:
        """What is matched: the activations through the known defense."""
        known = super().plan(view)
        return forward_plan(view, known.match, known.labels)
