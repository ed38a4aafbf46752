"""Dual gradient pruning (Xue et al. 2024): each layer withholds its largest and its smallest entries for later."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.sparse import largest, owed, released, sparse_bytes, support, with_owed
from gibench.types import Match, Memory, Update, View


@dataclass(frozen=True)
class DualPrune(Defense):
    """Per layer the round(k1 n) largest and the round(k2 n) smallest entries by magnitude become zero, ties by index;
    a client adds what it withheld to its next gradient. `strength` scales both shares.
    """

    citation: ClassVar[str] = (
        "Xue, Hu, Zhao, Zhang, Hu, Sun, Yao: Revisiting gradient pruning: a dual realization for defending against "
        "gradient attacks, AAAI 2024, arXiv 2401.16687"
    )
    place = "gradient"
    knob = "strength"
    sweep = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    neutral = "dgp(strength=0)"
    # Paper: its shares could not be read; these are within what is reported, 5 to 20 % and 50 to 90 %.
    k1: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    k2: Annotated[float, Field(ge=0, le=0.5)] = 0.5
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        whole = with_owed(update, memory)
        sent: Update = {name: None if g is None else self._middle(g) for name, g in whole.items()}
        memory |= owed(whole, sent)
        return sent

    def upload_bytes(self, update: Update) -> float:
        return sparse_bytes(update)

    def merged(self, messages: list[Update]) -> Update:
        return released(messages)

    def match(self, view: View) -> Match:
        """The support is visible in the message: compare only there. What a client owes is unknown."""
        return Match(mask=support(view.update), linear=False)

    def _middle(self, g: Tensor) -> Tensor:
        size = g.flatten(1).abs()
        n = size.shape[1]
        top, low = (round(self.strength * share * n) for share in (self.k1, self.k2))
        kept = largest(size, n - low) & ~largest(size, top)
        return g * kept.view_as(g)
