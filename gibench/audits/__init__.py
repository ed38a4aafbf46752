"""Audits: what related systems say about a trained client, which no attack on its images tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from gibench.datasets import Parts
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.message import make_message
from gibench.registry import Entry
from gibench.suite import Training
from gibench.types import Batch, Images, Local, Memory, Update


@dataclass(frozen=True)
class Measure:
    """One number of an audit.

    group: whom or what it is about, such as a class or an attack; empty for the client as a whole. Groups with the
    same measures stand in one table. unit: "share" is shown in percent, "s" are seconds, which no two runs share.
    note: what a reader must know about this number, as one line.
    """

    group: str
    name: str
    value: float
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """What a training left behind, as an audit finds it; everything lies on one device."""

    defense: Defense  # fitted
    training: Training
    local: Local | None  # local training before a message, as suite and defense have it; None: gradients
    parts: Parts
    shards: Sequence[Tensor]  # which of `parts.client` every client holds
    nets: Mapping[str, nn.Module]  # as the server sends them, by checkpoint: init, early, final
    memories: Mapping[str, Memory]  # of the clients, by checkpoint
    row: Mapping[str, float]  # the numbers that are stored about this client: utility, rounds, ...
    logits: Callable[[Images], Tensor]  # (n, k) of the final model in use, with the defense on at inference
    fresh: Callable[[int], nn.Module]  # the same architecture, initialised for another seed

    def messages(self, checkpoint: str, batch: Batch, draws: Draws, defended: bool = True) -> Update:
        """What the clients of `draws` send who hold `batch`; `defended=False`: on the same model without a defense."""
        if not defended:
            return make_message(self.nets[checkpoint], Defense(), batch, draws, self.training.local())
        memory = {
            name: kept[[member % len(kept) for member in draws.members]]
            for name, kept in self.memories[checkpoint].items()
        }
        return make_message(self.nets[checkpoint], self.defense, batch, draws, self.local, memory)


class Audit(Entry):
    """An audit looks at a trained client and answers with numbers. Subclasses are frozen pydantic dataclasses."""

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        """Measures in the order in which they should be read."""
        raise NotImplementedError

    def unfit(self, defense: Defense, net: nn.Module) -> str:
        """Why this audit has nothing to say about such a client; empty if it has.

        The net may live on the meta device: its layers may be looked at, its weights not.
        """
        return ""
