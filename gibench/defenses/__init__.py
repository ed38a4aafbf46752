"""Defenses: hooks at the places where a client may act, and the attack that knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, ClassVar, Literal, Self, cast

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.message import mean_message
from gibench.registry import Entry
from gibench.types import Batch, Images, Local, Match, Memory, Params, Update, View

Source = Literal["aux", "client", "federated"]
"""Whose images a defense learns from: auxiliary ones, the clients' own, pooled by someone whom they trust, or the
clients' own where they are, so that only weights are joined."""

Place = Literal["data", "model", "gradient", "protocol"]
PLACES: tuple[Place, ...] = ("data", "model", "gradient", "protocol")
"""Where a defense acts, in the order in which a client passes them."""


GRADIENT_HOOKS = ("gradient", "keep", "message", "withheld", "local", "cohort", "received", "observed", "sealed")
"""Hooks that act on gradients and weight changes; those on images, network and weights act on activations, too."""


@dataclass(frozen=True)
class Exposure:
    """How often the most exposed client's images were used."""

    images: int  # of the smallest client
    all_images: int  # of all clients together
    batch: int  # expected images per round
    rounds: int
    local_steps: int  # gradient steps on the same images within a round

    @property
    def rate(self) -> float:
        """The probability with which an image takes part in a round."""
        return min(1.0, self.batch / self.images)


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Defense(Entry):
    """A defense overrides the hooks that it needs; every default does nothing.

    Rules: hooks return new tensors and never write into their input; randomness comes from `draws` alone and is
    fresh at every call; a parameter that is not shared becomes None.
    """

    place: ClassVar[Place]
    knob = ""  # the field that sets the strength
    sweep: ClassVar[tuple[float, ...]] = ()  # of the knob, from weakest to strongest
    knob_scale: ClassVar[Literal["log", "complement"]] = "log"  # even steps: of log(knob), or of log(1 - knob)
    neutral: ClassVar[str] = ""  # the spec with which it does nothing; empty: there is none
    oblivious_suffices: ClassVar[str] = ""  # why knowing it gives an attacker nothing; empty: `match` does
    match_needs: ClassVar[frozenset[str]] = frozenset()  # what simulating it takes beyond its spec
    variants: ClassVar[tuple[str, ...]] = ()  # further ways to attack it, see `variant`
    stochastic: ClassVar[bool] = False  # two messages about the same batch differ
    relabels: ClassVar[bool] = False  # the model learns other labels than the client's
    mixes: ClassVar[bool] = False  # its `images` puts several of a client's images into one
    learns_from = "aux"  # the images that `fit` is given, one of `Source`
    sampling: ClassVar[Literal["shuffle", "poisson"]] = "shuffle"  # how a client picks a round's images

    # Learned public state; not a setting. Filled by `fit`.
    state: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    @property
    def level(self) -> float | None:
        """The value of the knob; None where there is no knob."""
        return float(getattr(self, self.knob)) if self.knob else None

    @property
    def strength(self) -> float | None:
        """The value of the knob, its sign such that more is stronger; None where there is no knob."""
        level = self.level
        return level if level is None or self.sweep[-1] >= self.sweep[0] else -level

    @property
    def family(self) -> str:
        """The spec without its knob: all strengths of one defense share it."""
        return self.written(never=self.knob)

    def at(self, level: float) -> Self:
        """The same defense with its knob there; rounded where the knob counts something."""
        counts = isinstance(getattr(self, self.knob), int)
        turned: dict[str, Any] = {self.knob: round(level) if counts else float(level)}
        return replace(self, **turned)

    def learn(self, sources: Mapping[Source, Images], draws: Draws) -> Self:
        """`fit` on the images that this defense asks for."""
        return self.fit(sources[cast(Source, self.learns_from)], draws)

    def fit(self, images: Images, draws: Draws) -> Self:
        """Learn public state, once, before any training."""
        return self

    def planned(self, exposure: Exposure) -> Self:
        """Learn what follows from how often images will be used, such as the noise that a privacy budget asks for."""
        return self

    def start(self, net: nn.Module, public: Images, draws: Draws) -> Mapping[str, Tensor]:
        """Protocol: weights by name from which training starts instead of the net's random ones."""
        return {}

    def frozen(self, names: Iterable[str]) -> frozenset[str]:
        """Protocol: which of a model's parameters nobody trains after `start`, so that they are not sent."""
        return frozenset()

    def images(self, batch: Batch, draws: Draws) -> Batch:
        """Data: what the model sees instead of the client's images."""
        return batch

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        """Data: what the trained model sees in use, where nothing leaves the client."""
        return self.images(batch, draws)

    def network(self, net: nn.Module) -> nn.Module:
        """Model: the architecture that is trained instead."""
        return net

    def weights(self, net: nn.Module, draws: Draws, memory: Memory) -> Params | None:
        """Model: the weights of each member of `draws` to compute at, {name: (v, *shape)}; None: the net's."""
        return None

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        """Gradient: one step's gradient; `params` as in `gibench.gradients.mean_gradient`."""
        return mean_gradient(net, batch, params=params)

    def keep(self, update: Update, local: Local | None, memory: Memory) -> None:
        """Protocol: what a client keeps in `memory` of its own update before `message`; a gradient without `local`."""

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        """Gradient: what leaves the client. `memory` is what each client kept from earlier rounds, empty at first."""
        return update

    def withheld(self, names: Sequence[str]) -> frozenset[str]:
        """Protocol: which of a model's parameters never leave the client."""
        return frozenset()

    def local(self, local: Local | None) -> Local | None:
        """Protocol: the local training before a message, given the one that the suite asks for."""
        return local

    @property
    def cohort(self) -> int | None:
        """Protocol: how many clients' messages reach the server only as their sum; None: each alone."""
        return None

    def received(self, messages: Update, draws: Draws) -> Update:
        """Protocol: what the server gets from n clients, (n, *shape) -> (*shape); each has its own stream of draws."""
        return {name: None if m is None else m.mean(0) for name, m in messages.items()}

    def observed(self, messages: Update, draws: Draws) -> Update:
        """Protocol: what the attacker sees of a cohort's messages; as a rule what the server gets."""
        return self.received(messages, draws)

    @property
    def sealed(self) -> str:
        """Protocol: why the attacker sees nothing of any message, so that only a prior can answer; empty: it does."""
        return ""

    def upload_bytes(self, update: Update) -> float:
        """Mean size of one client's message, given some; 4 bytes for every entry that is shared."""
        return float(sum(4 * g[0].numel() for g in update.values() if g is not None))

    def merged(self, messages: list[Update]) -> Update:
        """What several messages about one batch and model tell together to someone who knows this defense."""
        return mean_message(messages)

    def match(self, view: View) -> Match:
        """The adaptive attack: how someone who knows this defense simulates it."""
        return Match()

    def variant(self, name: str, view: View) -> Match:
        """One of `variants`: another simulation, which an attacker may prefer to `match`."""
        raise KeyError(name)

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        """What the attacker learns from auxiliary data about this defense before seeing any message."""
        return {}

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        """Why it cannot serve such a model, image (c, h, w) or number of clients; empty if it can.

        The net may live on the meta device: its layers may be looked at, its weights not.
        """
        return ""

    def bypassed(self) -> str:
        """Why it has nothing to act on in split learning, where no gradient leaves the client; empty if it has."""
        own = (hook for hook in GRADIENT_HOOKS if getattr(type(self), hook) is not getattr(Defense, hook))
        return "protects gradients; split learning sends activations" if next(own, "") else ""

    def lacks(self) -> str:
        """What must be installed before it can run here, as one line; empty: nothing."""
        return ""

    def accounting(self, exposure: Exposure) -> dict[str, float | str]:
        """Formal privacy of what one client sent, record by record; empty without a guarantee."""
        return {}
