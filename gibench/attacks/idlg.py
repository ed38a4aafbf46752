"""Improved Deep Leakage (Zhao et al. 2020): dlg with the label read off the last layer, one image per message."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import nn

from gibench.attacks.dlg import DeepLeakage
from gibench.engine.labels import labels_of
from gibench.engine.objective import Plan
from gibench.types import Match, View


@dataclass(frozen=True)
class ImprovedDeepLeakage(DeepLeakage):
    """With b = 1 the true class is the only one whose bias gradient p_c - 1[c = y] is negative."""

    citation: ClassVar[str] = "Zhao, Mopuri, Bilen: iDLG: Improved deep leakage from gradients, 2020, arXiv 2001.02610"

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        return "" if batch == 1 else f"works on one image per message, not {batch}"

    def plan(self, view: View) -> Plan:
        return Plan(Match(distance="l2", linear=False), labels_of(view, view.update))
