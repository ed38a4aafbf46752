"""Several defenses at once, `a + b`: each hook runs through all parts in the order written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.composition import composed
from gibench.defenses import PLACES, Defense, Exposure, Place, Source
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.types import Batch, Images, Local, Match, Memory, Params, Update, View


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Stack(Defense):
    """State and memory of part i are kept under the names `i/...`."""

    named: ClassVar[bool] = False
    given: tuple[Defense, ...] = ()

    @cached_property
    def parts(self) -> list[Defense]:
        """The defenses, each with its own learned state."""
        return [replace(part, state=_under(i, self.state)) for i, part in enumerate(self.given)]

    @property
    def place(self) -> Place:  # type: ignore[override]
        """The last that a message passes."""
        return self.given[-1].place

    @property
    def neutral(self) -> str:  # type: ignore[override]
        parts = [part.neutral for part in self.given]
        return " + ".join(parts) if all(parts) else ""

    @property
    def oblivious_suffices(self) -> str:  # type: ignore[override]
        parts = [part.oblivious_suffices for part in self.given]
        return "; ".join(parts) if all(parts) else ""

    @property
    def relabels(self) -> bool:  # type: ignore[override]
        return any(part.relabels for part in self.given)

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        return any(part.mixes for part in self.given)

    @property
    def knob(self) -> str:  # type: ignore[override]
        """That of the last part which has one: the others stay as written."""
        return self._turned.knob

    @property
    def sweep(self) -> tuple[float, ...]:  # type: ignore[override]
        return self._turned.sweep

    @property
    def knob_scale(self) -> Literal["log", "complement"]:  # type: ignore[override]
        return self._turned.knob_scale

    @property
    def level(self) -> float | None:
        return self._turned.level

    @property
    def family(self) -> str:
        return " + ".join(part.family if part is self._turned else part.spec() for part in self.given)

    def at(self, level: float) -> Self:
        return replace(self, given=tuple(part.at(level) if part is self._turned else part for part in self.given))

    @property
    def _turned(self) -> Defense:
        return next((part for part in reversed(self.given) if part.knob), self.given[-1])

    @property
    def citation(self) -> str:  # type: ignore[override]
        return "; ".join(part.citation for part in self.given)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return any(part.stochastic for part in self.given)

    @property
    def sampling(self) -> Literal["shuffle", "poisson"]:  # type: ignore[override]
        return "poisson" if any(part.sampling == "poisson" for part in self.given) else "shuffle"

    @property
    def match_needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset[str]().union(*(part.match_needs for part in self.given))

    @property
    def variants(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(name for part in self.given for name in part.variants))

    @property
    def cohort(self) -> int | None:
        return next((part.cohort for part in self.given if part.cohort is not None), None)

    def settings(self) -> dict[str, Any]:
        return {"parts": [part.identity() for part in self.given]}

    def spec(self) -> str:
        return " + ".join(part.spec() for part in self.given)

    def learn(self, sources: Mapping[Source, Images], draws: Draws) -> Self:
        """Each learns on the images that it asks for, as the parts before it show them."""
        asked = {part.learns_from for part in self.given}
        sources = {name: images for name, images in sources.items() if name in asked}
        fitted = []
        for i, part in enumerate(self.given):
            fitted.append(part.learn(sources, draws.at(i)))
            sources = {name: _shown(fitted[-1], images, draws.at("shown", i)) for name, images in sources.items()}
        return replace(self, state=_joined(part.state for part in fitted))

    def fit(self, images: Images, draws: Draws) -> Self:
        """All on the same images, whatever they ask for."""
        return self.learn({"aux": images, "client": images, "federated": images}, draws)

    def planned(self, exposure: Exposure) -> Self:
        return replace(self, state=_joined(part.planned(exposure).state for part in self.parts))

    def start(self, net: nn.Module, public: Images, draws: Draws) -> Mapping[str, Tensor]:
        started = (part.start(net, public, draws.at(i)) for i, part in enumerate(self.parts))
        return reduce(lambda found, weights: {**found, **weights}, started, dict[str, Tensor]())

    def frozen(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset[str]().union(*(part.frozen(names) for part in self.given))

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        """Each is studied on what the parts before it make of auxiliary images: so it is undone, last part first."""
        found = []
        for i, part in enumerate(self.parts):
            found.append(part.study(aux, draws.at(i)))
            aux = _shown(part, aux, draws.at("shown", i))
        return _joined(found)

    def images(self, batch: Batch, draws: Draws) -> Batch:
        return reduce(lambda b, part: part[1].images(b, draws.at(part[0])), enumerate(self.parts), batch)

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        return reduce(lambda b, part: part[1].inference(b, draws.at(part[0])), enumerate(self.parts), batch)

    def network(self, net: nn.Module) -> nn.Module:
        return reduce(lambda n, part: part.network(n), self.parts, net)

    def weights(self, net: nn.Module, draws: Draws, memory: Memory) -> Params | None:
        changing = [(i, part) for i, part in enumerate(self.parts) if _overrides(part, "weights")]
        for i, part in changing:  # at most one does, see `stacked`
            with _own(memory, i) as kept:
                return part.weights(net, draws.at(i), kept)
        return None

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        memory = {} if memory is None else memory
        for i, part in enumerate(self.parts):
            if _overrides(part, "gradient"):
                with _own(memory, i) as kept:
                    return part.gradient(net, batch, draws.at(i), params, kept)
        return super().gradient(net, batch, draws, params, memory)

    def keep(self, update: Update, local: Local | None, memory: Memory) -> None:
        for i, part in enumerate(self.parts):
            with _own(memory, i) as kept:
                part.keep(update, local, kept)

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        for i, part in enumerate(self.parts):
            with _own(memory, i) as kept:
                update = part.message(update, draws.at(i), kept)
        return update

    def withheld(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset[str]().union(*(part.withheld(names) for part in self.given))

    def local(self, local: Local | None) -> Local | None:
        return reduce(lambda asked, part: part.local(asked), self.given, local)

    def received(self, messages: Update, draws: Draws) -> Update:
        for i, part in enumerate(self.parts):
            if _overrides(part, "received"):
                return part.received(messages, draws.at(i))
        return super().received(messages, draws)

    def observed(self, messages: Update, draws: Draws) -> Update:
        for i, part in enumerate(self.parts):
            if _overrides(part, "observed"):
                return part.observed(messages, draws.at(i))
        return self.received(messages, draws)

    @property
    def sealed(self) -> str:
        return next((part.sealed for part in self.given if part.sealed), "")

    def bypassed(self) -> str:
        return next((why for part in self.given if (why := part.bypassed())), "")

    def lacks(self) -> str:
        return next((lacking for part in self.given if (lacking := part.lacks())), "")

    def upload_bytes(self, update: Update) -> float:
        own = [part for part in self.parts if _overrides(part, "upload_bytes")]
        return own[-1].upload_bytes(update) if own else super().upload_bytes(update)

    def merged(self, messages: list[Update]) -> Update:
        own = [part for part in self.parts if _overrides(part, "merged")]
        return own[-1].merged(messages) if own else super().merged(messages)

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        return next((problem for part in self.given if (problem := part.unfit(net, shape, clients))), "")

    def accounting(self, exposure: Exposure) -> dict[str, float | str]:
        """Hooks after a gradient with a guarantee only process what it gave out, or what the client has never seen; of
        those before it each image must be altered by itself, or one image would act through others."""
        if self.mixes:
            return {}
        return reduce(lambda known, part: known | part.accounting(exposure), self.parts, dict[str, float | str]())

    def match(self, view: View) -> Match:
        """Every part's simulation at its place; what is undone after the inversion is undone in reverse order."""
        return self.variant("match", view)

    def variant(self, name: str, view: View) -> Match:
        """The parts that know this variant take it, the others their own match."""
        found = []
        for i, part in enumerate(self.parts):
            own = replace(view, defense=part, studied=_under(i, view.studied))
            found.append(part.variant(name, own) if name in part.variants else part.match(own))
        return reduce(composed, found)


def stacked(parts: list[Defense]) -> Defense:
    """One defense of several. Raises InputError for an order or a combination that cannot work."""
    spec = " + ".join(part.spec() for part in parts)
    for before, after in pairwise(parts):
        if PLACES.index(before.place) > PLACES.index(after.place):
            raise InputError(
                f"{spec}: '{after.entry_name()}' acts on the {after.place} and cannot come after "
                f"'{before.entry_name()}', which acts on the {before.place}; the order is {', '.join(PLACES)}"
            )
    for hook, what in EXCLUSIVE.items():
        both = [part.entry_name() for part in parts if _overrides(part, hook)]
        if len(both) > 1:
            raise InputError(
                f"{spec}: {' and '.join(repr(name) for name in both)} both {what}; a stack takes one of them"
            )
    return Stack(given=tuple(parts))


EXCLUSIVE = {
    "gradient": "compute the gradient of a step",
    "weights": "choose the weights that a client computes at",
    "received": "decide what the server receives",
    "local": "set the local training",
    "start": "choose the weights that training starts from",
}
"""Hooks that only one part of a stack may have, and what it does there."""


def _shown(part: Defense, images: Images, draws: Draws) -> Images:
    """Images as a defense of images would show them, with the labels that they have."""
    if not _overrides(part, "images"):
        return images
    alone = Batch(images.x.unsqueeze(1), images.y.unsqueeze(1))
    return Images(part.images(alone, draws.of(range(len(images.y)))).x.squeeze(1), images.y)


def _overrides(part: Defense, hook: str) -> bool:
    return getattr(type(part), hook) is not getattr(Defense, hook)


def _under(i: int, named: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{i}/"): value for name, value in named.items() if name.startswith(f"{i}/")}


def _joined(parts: Any) -> dict[str, Any]:
    return {f"{i}/{name}": value for i, named in enumerate(parts) for name, value in named.items()}


@contextmanager
def _own(memory: Memory, i: int) -> Iterator[Memory]:
    """What part i of a stack remembers, written back under its name."""
    kept: Memory = _under(i, memory)
    yield kept
    memory |= _joined([*({} for _ in range(i)), kept])
