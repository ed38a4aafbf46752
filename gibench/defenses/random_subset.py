"""Random sharing (after FLRSP 2026, whose abstract alone was known): every round a fresh share of the parameters."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.sparse import largest, mean_where_sent, sparse_bytes, support
from gibench.types import Match, Memory, Update, View


@dataclass(frozen=True)
class RandomSubset(Defense):
    """round(share n) of a message's n entries, drawn anew by each client in each round; the others become zero and
    count as zero in the server's mean.
    """

    citation: ClassVar[str] = "FLRSP: federated learning with random sharing of parameters, 2026, arXiv 2605.01204"
    place = "protocol"
    knob = "share"
    sweep = (1.0, 0.5, 0.2, 0.1, 0.05, 0.01)
    neutral = "random_subset(share=1)"
    stochastic: ClassVar[bool] = True
    share: Annotated[float, Field(gt=0, le=1)] = 0.1

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        sizes = [g[0].numel() for g in update.values() if g is not None]
        like = next(g for g in update.values() if g is not None)
        lots = draws.uniform(sum(sizes)).to(like.device)
        kept = iter(largest(lots, round(self.share * sum(sizes))).split(sizes, 1))
        return {name: None if g is None else g * next(kept).view_as(g) for name, g in update.items()}

    def upload_bytes(self, update: Update) -> float:
        return sparse_bytes(update)

    def merged(self, messages: list[Update]) -> Update:
        return mean_where_sent(messages)

    def match(self, view: View) -> Match:
        """The subset is visible in the message: compare only there."""
        return Match(mask=support(view.update))
