"""A suite's grid: every client to train and every cell to attack, each with an identity made of all its settings."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol, cast

import torch
from torch import nn

from gibench.attacks import Attack
from gibench.datasets import Dataset
from gibench.defenses import Defense
from gibench.errors import InputError
from gibench.models import Model
from gibench.registry import build, expand
from gibench.split import uncuttable
from gibench.suite import Suite, Training
from gibench.threat import capabilities, missing
from gibench.types import Kind, Local

PROTOCOL = 1  # raised when the meaning of results changes; results of two protocols never share a folder


@dataclass(frozen=True)
class Client:
    """One federated training under one defense."""

    dataset: Dataset
    model: Model
    defense: Defense
    seed: int
    training: Training
    client_images: int | None
    aux_images: int | None

    @cached_property
    def id(self) -> str:
        return digest(self.identity())

    @property
    def entry(self) -> Defense:
        """Whose work this is."""
        return self.defense

    @cached_property
    def skeleton(self) -> nn.Module:
        """The net without its weights: layers and shapes."""
        return _skeleton(self.dataset, self.model, self.defense)

    @property
    def local(self) -> Local | None:
        """The local training before a message, as suite and defense have it; None: the message is a gradient."""
        return self.defense.local(self.training.local())

    @property
    def cut(self) -> int | None:
        """Where split learning cuts the net; None: the message is about all of it."""
        return self.training.cut_at()

    @property
    def kind(self) -> Kind:
        """What its messages are made of."""
        if self.cut is not None:
            return "activations"
        return "gradient" if self.local is None else "delta"

    @property
    def problem(self) -> str:
        """Why this defense cannot serve this model, dataset, protocol or number of clients; empty if it can."""
        shape = (self.dataset.channels, self.dataset.side, self.dataset.side)
        apart = "" if self.cut is None else uncuttable(self.skeleton, self.cut) or self.defense.bypassed()
        return apart or self.defense.unfit(self.skeleton, shape, self.training.clients)

    def identity(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "dataset": self.dataset.identity(),
            "model": self.model.identity(),
            "defense": self.defense.identity(),
            "seed": self.seed,
            "training": self.training.model_dump(),
            "client_images": self.client_images,
            "aux_images": self.aux_images,
        }

    def describe(self) -> dict[str, Any]:
        """The columns that name this client in results."""
        return {
            "client": self.id,
            "dataset": self.dataset.spec(),
            "model": self.model.spec(),
            "defense": self.defense.spec(),
            "seed": self.seed,
            "training": self.training.describe(),
        }


@dataclass(frozen=True)
class Cell:
    """One attack on one client at one checkpoint under one threat model."""

    client: Client
    undefended: Client  # the same training without a defense
    checkpoint: str
    batch: int
    threat: str
    rounds: int
    attack: Attack
    victims: int
    tune_images: int
    first_victim: int = 0

    @cached_property
    def id(self) -> str:
        return digest(self.identity())

    @property
    def entry(self) -> Attack:
        """Whose work this is."""
        return self.attack

    @property
    def rehearsal(self) -> Client:
        """The client on which open settings are tuned: an adaptive attack's own, otherwise the undefended one."""
        return self.client if self.attack.adaptive else self.undefended

    @property
    def clients(self) -> list[Client]:
        """The clients that must have been trained."""
        return [self.client, self.rehearsal] if self.attack.open_fields() else [self.client]

    @property
    def skip(self) -> str:
        """Why this pair cannot run here, under its threat model or on this model; empty if it can."""
        if lacking := self.client.defense.lacks():
            return lacking
        if self.attack.control:
            return ""
        if self.client.defense.sealed:
            return self.client.defense.sealed
        needs = self.attack.required() | (self.client.defense.match_needs if self.attack.adaptive else frozenset())
        return (
            self.attack.misread(self.client.kind)
            or missing(needs, self.threat)
            or self.attack.unfit(self.client.skeleton, self.images, self.client.kind)
            or self.attack.unmatched(self.client.defense, self.client.skeleton)
        )

    @property
    def images(self) -> int:
        """Images behind one observed message: a batch, or those of a whole cohort that is only seen summed."""
        return self.batch * (self.client.defense.cohort or 1)

    def identity(self) -> dict[str, Any]:
        return {
            "client": self.client.id,
            "checkpoint": self.checkpoint,
            "batch": self.batch,
            "threat": self.threat,
            "rounds": self.rounds,
            "attack": self.attack.identity(),
            "victims": self.victims,
            "tune_images": self.tune_images if self.attack.open_fields() else None,
            **({"first_victim": self.first_victim} if self.first_victim else {}),
        }

    def describe(self) -> dict[str, Any]:
        """The columns that name this cell in results."""
        return {
            "cell": self.id,
            **self.client.describe(),
            "checkpoint": self.checkpoint,
            "batch": self.batch,
            "threat": self.threat,
            "labels": "given" if "labels" in capabilities(self.threat) else "inferred",
            "rounds": self.rounds,
            "attack": self.attack.spec(),
            "adaptive": self.attack.adaptive,
        }


Chosen = Callable[[Suite, Dataset, Model], list[Defense]]
"""The defenses of a block of a suite on a dataset and a model."""


def as_written(block: Suite, dataset: Dataset, model: Model) -> list[Defense]:
    """Every defense at every strength that the suite lists, anywhere the same."""
    return cast(list[Defense], entries("defenses", block.defenses))


def cells(suite: Suite, chosen: Chosen = as_written) -> list[Cell]:
    """Every cell in the order in which it should run; `none` and `prior_only` are always among them, but for blocks
    that name no attack at all.

    Raises InputError for the first entry that cannot be built.
    """
    found: dict[str, Cell] = {}
    for block in suite.blocks():
        for cell in _block(block, chosen):
            found.setdefault(cell.id, cell)
    return list(found.values())


def titles(suite: Suite, chosen: Chosen = as_written) -> dict[str, list[str]]:
    """The titles of the blocks that every cell is in, by its id; empty where no block has one."""
    found: dict[str, list[str]] = {}
    for block in suite.blocks():
        if block.title:
            for cell in _block(block, chosen):
                found.setdefault(cell.id, []).append(block.title)
    return found


class Work(Protocol):
    """What needs trained clients: cells and examinations."""

    @property
    def clients(self) -> list[Client]: ...


def clients(work: Sequence[Work]) -> list[Client]:
    """The clients that these cells or examinations need, each once."""
    return list({client.id: client for one in work for client in one.clients}.values())


def trained(block: Suite, chosen: Chosen = as_written) -> Iterator[tuple[Client, Client]]:
    """Every client of a block with the undefended one of the same training; `none` is always among them."""
    datasets = cast(list[Dataset], entries("datasets", block.datasets))
    models = cast(list[Model], entries("models", block.models))
    none = cast(Defense, build("defenses", "none"))
    for dataset, model, seed in itertools.product(datasets, models, block.seeds):
        shared = (seed, block.training, block.client_images, block.aux_images)
        defenses = {defense.spec(): defense for defense in [none, *chosen(block, dataset, model)]}
        under = {spec: Client(dataset, model, defense, *shared) for spec, defense in defenses.items()}
        for client in under.values():
            if client.problem:
                raise InputError(f"{client.defense} on {dataset} with {model}: {client.problem}")
        yield from ((client, under["none"]) for client in under.values())


def _block(suite: Suite, chosen: Chosen) -> list[Cell]:
    if not suite.attacks:
        return []
    attacks = cast(list[Attack], entries("attacks", ["prior_only", *suite.attacks]))
    settings = list(itertools.product(suite.checkpoints, suite.batch_sizes, suite.threats))
    found = []
    for client, undefended in trained(suite, chosen):
        for (checkpoint, batch, threat), attack in itertools.product(settings, attacks):
            seen = (checkpoint, batch, threat, suite.rounds, attack)
            found.append(Cell(client, undefended, *seen, suite.victims, suite.tune_images, suite.first_victim))
    return found


@cache
def _skeleton(dataset: Dataset, model: Model, defense: Defense) -> nn.Module:
    shape = (dataset.channels, dataset.side, dataset.classes)
    if type(defense).network is Defense.network:
        return _undefended(model, *shape)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return defense.network(model.build(*shape))


@cache
def _undefended(model: Model, *shape: int) -> nn.Module:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return model.build(*shape)


def entries(kind: str, specs: list[str]) -> list[Any]:
    """Entries in the order written, each once; a name's own `prior_only(...)` or `none` replaces the one added."""
    return list(_entries(kind, tuple(specs)))


@cache
def _entries(kind: str, specs: tuple[str, ...]) -> tuple[Any, ...]:
    """The same for every dataset, model and seed of a block."""
    return tuple({entry.spec(): entry for spec in specs for entry in expand(kind, spec)}.values())


def digest(identity: dict[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
