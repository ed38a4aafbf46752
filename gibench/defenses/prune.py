"""Gradient pruning (Lin et al. 2018; as a defense Zhu et al. 2019): only the largest entries are sent."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.gradients import fitted
from gibench.message import mean_message
from gibench.sparse import largest, owed, released, sparse_bytes, support, with_owed
from gibench.types import Match, Memory, Update, View


@dataclass(frozen=True)
class Prune(Defense):
    """Of n entries, a layer's or all, the round((1 - p) n) of largest magnitude are kept, ties by index; the others
    become zero. With `feedback` a client adds what it withheld to its next gradient.

    Paper: deep gradient compression also corrects momentum, clips, and raises p slowly.
    """

    citation: ClassVar[str] = (
        "Lin, Han, Mao, Wang, Dally: Deep gradient compression, ICLR 2018, arXiv 1712.01887; "
        "Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv 1906.08935"
    )
    place = "gradient"
    knob = "p"
    sweep = (0.0, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999)
    knob_scale: ClassVar[Literal["log", "complement"]] = "complement"
    neutral = "prune(p=0)"
    p: Annotated[float, Field(ge=0, lt=1)] = 0.9
    scope: Literal["layer", "global"] = "layer"
    feedback: bool = False

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        whole = with_owed(update, memory) if self.feedback else update
        shared = {name: g for name, g in whole.items() if g is not None}
        if self.scope == "layer":
            kept = {name: self._largest(g.flatten(1)) for name, g in shared.items()}
        else:
            sizes = [g[0].numel() for g in shared.values()]
            chosen = self._largest(torch.cat([g.flatten(1) for g in shared.values()], 1)).split(sizes, 1)
            kept = dict(zip(shared, chosen, strict=True))
        sent: Update = {name: None if g is None else g * kept[name].view_as(g) for name, g in whole.items()}
        if self.feedback:
            memory |= owed(whole, sent)
        return sent

    def upload_bytes(self, update: Update) -> float:
        return sparse_bytes(update)

    def merged(self, messages: list[Update]) -> Update:
        return released(messages) if self.feedback else mean_message(messages)

    def match(self, view: View) -> Match:
        """The support is visible: the message is compared there. Elsewhere the gradient is smaller than all that was
        sent, so that a simulation counts with what it has beyond. What a client owes is unknown: support alone.
        """
        if self.feedback:
            return Match(mask=support(view.update), linear=False)
        seen = {name: g != 0 for name, g in view.update.items() if g is not None}
        least = self._least(view.update)

        def beyond(update: Update, draws: Draws) -> Update:
            shared = {k: g for k, g in update.items() if g is not None and k in seen}
            scale = fitted({k: g * seen[k] for k, g in shared.items()}, view.update)
            return update | {k: _excess(g, scale, seen[k], least[k]) for k, g in shared.items()}

        return Match(transform=beyond)

    def _largest(self, g: Tensor) -> Tensor:
        return largest(g.abs(), round((1 - self.p) * g.shape[1]))

    def _least(self, update: Update) -> dict[str, Tensor]:
        """(v,) by layer: the smallest magnitude sent of those that were compared; infinite if there was none."""
        own = {
            name: torch.where(g != 0, g.abs(), torch.inf).flatten(1).amin(1)
            for name, g in update.items()
            if g is not None
        }
        return own if self.scope == "layer" else dict.fromkeys(own, torch.stack(list(own.values())).amin(0))


def _excess(g: Tensor, scale: Tensor, seen: Tensor, least: Tensor) -> Tensor:
    """`g` scaled where something was sent, elsewhere what it has beyond `least`."""
    scale, least = (t.view(-1, *[1] * (g.dim() - 1)) for t in (scale, least))
    g = g * scale
    return torch.where(seen, g, g - g.clamp(-least, least))
