"""A suite: which grid to run and how clients train; a TOML file plus `key=value` overrides."""

from __future__ import annotations

import tomllib
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from gibench.errors import InputError, suggest
from gibench.registry import first_problem
from gibench.suite_files import find_suite
from gibench.threat import capabilities
from gibench.types import Local

Count = Annotated[int, Field(ge=1)]
Place = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _no_repeats(values: list[Any]) -> list[Any]:
    repeated = {value for value in values if values.count(value) > 1}
    if repeated:
        raise ValueError(f"{sorted(repeated)[0]!r} is listed twice")
    return values


def _known_threats(threats: list[str]) -> list[str]:
    for threat in threats:
        try:
            capabilities(threat)
        except InputError as error:
            raise ValueError(str(error)) from None
    return threats


Different = AfterValidator(_no_repeats)
Specs = Annotated[list[str], Field(min_length=1), Different]
Attacks = Annotated[list[str], Different]
Threats = Annotated[list[str], Field(min_length=1), AfterValidator(_known_threats), Different]
Checkpoints = Annotated[list[Literal["init", "early", "final"]], Field(min_length=1), Different]
Batches = Annotated[list[Annotated[int, Field(ge=1, le=16)]], Field(min_length=1), Different]
Seeds = Annotated[list[Place], Field(min_length=1), Different]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Training(Strict):
    """Federated training of one client model; every client takes part in every round.

    `split` is split learning: a client sends the activations of its first layers. The gradient that comes back through
    the cut is that of the whole net, so that weights change as in FedSGD.
    """

    protocol: Literal["fedsgd", "fedavg", "split"] = "fedsgd"
    clients: Count = 64
    alpha: Rate | None = None  # Dirichlet label skew over the clients; None splits evenly at random
    batch: Count = 1  # images per client and round
    epochs: Count = 10  # passes over all clients' images
    optimizer: Literal["adam", "sgd"] | None = None  # the server's; None: adam, but sgd for fedavg
    lr: Rate | None = None  # the server's; None: 0.002, but 1 for fedavg
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0  # the server's, with sgd
    local_epochs: Count = 1  # fedavg: steps on the round's images before the weight change is sent
    local_lr: Rate = 0.05
    local_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    cut: Count = 1  # split: the client's part ends with this one of the layers with weights

    @model_serializer(mode="wrap")
    def _what_counts(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without split learning there is no cut, in identities neither."""
        return {name: value for name, value in written(self).items() if name != "cut" or self.protocol == "split"}

    def local(self) -> Local | None:
        """The local training of a FedAvg client; None for FedSGD and split learning."""
        if self.protocol != "fedavg":
            return None
        return Local(self.local_epochs, self.local_lr, self.local_momentum)

    def cut_at(self) -> int | None:
        """Where split learning cuts the net; None without it."""
        return self.cut if self.protocol == "split" else None

    def describe(self) -> str:
        """What a client's message is made of: `fedsgd`, `fedavg` with local steps and rate, `split` with its cut."""
        if self.protocol == "split":
            return f"split(cut {self.cut})"
        return self.protocol if self.protocol == "fedsgd" else f"fedavg({self.local_epochs} x {self.local_lr:g})"


Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Level = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Targets(Strict):
    """Utilities on the validation part at which defenses are compared, each at the strength that has just this one."""

    drop: Annotated[list[Share], Different] = []  # so much below the undefended utility
    retain: Annotated[list[Level], Different] = []  # this share of the undefended gain over chance
    reach: Annotated[list[Level], Different] = []  # this much, whatever the undefended utility
    measure: Literal["accuracy", "auc"] = "accuracy"
    seeds: Seeds | None = None  # of the sweep; None: as many as the suite's, from 1000

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.labels():
            raise ValueError("a target is needed: drop = [0.01], retain = [0.95] or reach = [0.9]")
        return self

    def labels(self) -> list[str]:
        """`drop 0.01`, `retain 0.95`, `reach 0.9`."""
        return [f"{kind} {value:g}" for kind in ("drop", "retain", "reach") for value in getattr(self, kind)]

    def goal(self, label: str, undefended: float, chance: float) -> float:
        """The utility that a target asks for."""
        kind, _, text = label.partition(" ")
        value = float(text)
        if kind == "drop":
            return undefended - value
        return chance + value * (undefended - chance) if kind == "retain" else value


class Block(Strict):
    """A further grid of the same suite; what it leaves out is taken from the suite."""

    title: str | None = None
    datasets: Specs | None = None
    models: Specs | None = None
    defenses: Specs | None = None
    attacks: Attacks | None = None
    audits: Specs | None = None
    checkpoints: Checkpoints | None = None
    batch_sizes: Batches | None = None
    threats: Threats | None = None
    seeds: Seeds | None = None
    rounds: Count | None = None
    victims: Count | None = None
    first_victim: Place | None = None
    training: Training | None = None  # what it leaves out is taken from the suite's, too


def _drops(given: Any) -> Any:
    """`match = [0.01, 0.05]` names drops, `match = []` no target at all."""
    return ({"drop": given} if given else None) if isinstance(given, list) else given


class Suite(Strict):
    """Everything that a run depends on, but for where and on how many workers it runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    version: Count = 1
    summary: str = ""
    title: str = ""  # of this grid's tables, apart from those of further grids; empty: one table for all
    datasets: Specs
    models: Specs
    defenses: Specs
    attacks: Attacks  # prior_only is added; none at all where only audits are wanted
    audits: Specs | None = None
    checkpoints: Checkpoints = ["init", "final"]
    batch_sizes: Batches = [1]
    threats: Threats = ["D+kp"]
    seeds: Seeds = [0]
    victims: Count = 32  # attacked clients per cell, each with a batch
    first_victim: Place = (
        0  # in the test part's stored order; a later one confirms what was chosen on the first victims
    )
    rounds: Count = 1  # messages about the same batch that the attacker sees; more than one needs the flag m
    tune_images: Count = 8
    client_images: Count | None = None  # cap on the clients' images; None: all
    aux_images: Count | None = None  # cap on the auxiliary images; None: all
    training: Training = Training()
    match: Annotated[Targets | None, BeforeValidator(_drops)] = None  # None: every defense as written
    extra: list[Block] = []

    @model_validator(mode="after")
    def _cut_where_split(self) -> Self:
        """A further grid may bring the cut alone, so that this takes the whole suite."""
        given = [self.training, *(block.training for block in self.extra)]
        for own, block in zip(given, self.blocks(), strict=True):
            if own and "cut" in own.model_fields_set and (protocol := block.training.protocol) != "split":
                raise ValueError(f'training.cut is for protocol = "split" alone, and the protocol is "{protocol}"')
        return self

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not all(block.attacks or block.audits for block in self.blocks()):
            raise ValueError("attacks: the list is empty, which only suits a suite or block with audits")
        return self

    def sweep_seeds(self) -> list[int]:
        """The seeds with which knobs are swept: others than those that the solved knobs are verified with."""
        own = self.match.seeds if self.match else None
        return own or [1000 + k for k in range(len(self.seeds))]

    def blocks(self) -> list[Suite]:
        """This suite's own grid and its further ones, each with everything filled in."""
        return [self, *(self._with(block) for block in self.extra)]

    def _with(self, block: Block) -> Suite:
        given = {name: getattr(block, name) for name in block.model_fields_set - {"training"}}
        named = block.training.model_fields_set if block.training else ()
        own = {name: getattr(block.training, name) for name in named}
        return self.model_copy(update={**given, "training": self.training.model_copy(update=own)})


LISTS = ("datasets", "models", "defenses", "attacks", "audits", "checkpoints", "threats")


def load_suite(name: str, overrides: dict[str, Any] | None = None) -> Suite:
    """A suite by its name or by the path of its TOML file, with overrides (`training.epochs` for nested fields)."""
    path = find_suite(name)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a TOML file: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    for key, value in (overrides or {}).items():
        _put(given, key, value)
    given.setdefault("name", path.stem)
    try:
        return Suite.model_validate(given)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "extra_forbidden":
            key = ".".join(str(part) for part in problem["loc"])
            raise suggest("suite key", key, _keys()) from None
        raise InputError(f"suite {path.stem}: {first_problem(error)}") from None


def parse_value(text: str) -> Any:
    """The value of `key=value`: TOML, or a bare word as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if text and text[0] not in "[{\"'":
            return text
        raise InputError(f'cannot read the value {text}; write TOML such as 3, 0.1, true, "text", [1, 2]') from None


def _put(given: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        given = given.setdefault(parent, {})
        if not isinstance(given, dict):
            raise InputError(f"'{key}' cannot be set: '{parent}' is not a table")
    given[last] = [value] if last in LISTS and isinstance(value, str) else value


def _keys() -> list[str]:
    nested: dict[str, type[Strict]] = {"training": Training, "match": Targets}
    own = [name for name in Suite.model_fields if name not in ("training", "extra")]
    return own + [f"{table}.{name}" for table, model in nested.items() for name in model.model_fields]
