"""Defenses: hooks at the places where a client may act, and the attack that knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.registry import Entry
from gibench.types import Batch, Images, Match, Update, View


@dataclass(frozen=True)
class Exposure:
    """How often the most exposed client's images were used."""

    images: int  # of the smallest client
    all_images: int  # of all clients together
    batch: int  # expected images per round
    rounds: int
    local_steps: int  # gradient steps on the same images within a round


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Defense(Entry):
    """A defense overrides the hooks that it needs; every default does nothing.

    Rules: hooks return new tensors and never write into their input; randomness comes from `draws` alone and is
    fresh at every call; a parameter that is not shared becomes None.
    """

    knob = ""  # the field that sets the strength
    match_needs: ClassVar[frozenset[str]] = frozenset()  # what simulating it takes beyond its spec
    variants: ClassVar[tuple[str, ...]] = ()  # further ways to attack it, see `variant`
    stochastic: ClassVar[bool] = False  # two messages about the same batch differ
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "shuffle"  # how a client picks a round's images

    # Learned public state; not a setting. Filled by `fit`.
    state: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    def fit(self, aux: Images, draws: Draws) -> Self:
        """Learn public state on auxiliary data, once, before any training."""
        return self

    def images(self, batch: Batch, draws: Draws) -> Batch:
        """Data: what the model sees instead of the client's images."""
        return batch

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        """Data: what the trained model sees in use, where nothing leaves the client."""
        return self.images(batch, draws)

    def network(self, net: nn.Module) -> nn.Module:
        """Model: the architecture that is trained instead."""
        return net

    def gradient(self, net: nn.Module, batch: Batch, draws: Draws, params: dict[str, Tensor] | None = None) -> Update:
        """Gradient: one step's gradient; `params` as in `gibench.gradients.mean_gradient`."""
        return mean_gradient(net, batch, params=params)

    def message(self, update: Update, draws: Draws) -> Update:
        """Gradient: what leaves the client."""
        return update

    def received(self, messages: Update, draws: Draws) -> Update:
        """Protocol: what the server gets from n clients, (n, *shape) -> (*shape)."""
        return {name: None if m is None else m.mean(0) for name, m in messages.items()}

    def match(self, view: View) -> Match:
        """The adaptive attack: how someone who knows this defense simulates it."""
        return Match()

    def variant(self, name: str, view: View) -> Match:
        """One of `variants`: another simulation, which an attacker may prefer to `match`."""
        raise KeyError(name)

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        """What the attacker learns from auxiliary data about this defense before seeing any message."""
        return {}

    def accounting(self, exposure: Exposure) -> dict[str, float | str]:
        """Formal privacy of what one client sent, record by record; empty without a guarantee."""
        return {}
