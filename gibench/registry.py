"""Entries and how they are found: one file, one entry; the file's name is the name that users type.

An entry is a frozen dataclass whose fields are all its settings. `name(field=value, ...)` is its spec; the argument
list is read as a TOML inline table and checked against the fields, so nothing is ever evaluated. A list given for a
scalar field is a sweep and makes one entry per value. Other packages add entries through entry points of the group
`gibench.<kind>`.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import pkgutil
import re
import sys
import tomllib
import typing
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

import pydantic

from gibench.errors import InputError, nearest, suggest


class Entry:
    """Base of datasets, models, defenses, attacks, metrics and audits. Subclasses are frozen pydantic dataclasses."""

    citation: ClassVar[str] = ""
    version: ClassVar[int] = 1  # raised when the meaning of an entry changes; part of every identity
    named: ClassVar[bool] = True  # users type its file's name
    later: ClassVar[frozenset[str]] = frozenset()  # settings that came after results: in identities unless at default
    needs: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def entry_name(cls) -> str:
        return cls.__module__.rsplit(".", 1)[-1]

    @classmethod
    def summary(cls) -> str:
        return (sys.modules[cls.__module__].__doc__ or "").strip().splitlines()[0]

    def settings(self) -> dict[str, Any]:
        """Every hyper-parameter with its value, defaults filled in."""
        return {f.name: getattr(self, f.name) for f in _settings(type(self))}

    def identity(self) -> dict[str, Any]:
        """What a result depends on: name, version and all settings."""
        unset = {f.name for f in _settings(type(self)) if f.name in self.later and getattr(self, f.name) == f.default}
        kept = {name: value for name, value in self.settings().items() if name not in unset}
        return {"name": self.entry_name(), "version": self.version, **kept}

    def spec(self) -> str:
        """The text that builds this entry again: the settings that differ from their defaults, and the knob always."""
        return self.written(always=getattr(self, "knob", ""))

    def written(self, always: str = "", never: str = "") -> str:
        """Name and the settings that differ from their defaults, with one `always` and one `never` among them."""
        shown = [
            f"{f.name}={_toml(value)}"
            for f in _settings(type(self))
            if ((value := getattr(self, f.name)) != f.default or f.name == always) and f.name != never
        ]
        return f"{self.entry_name()}({', '.join(shown)})" if shown else self.entry_name()

    def __str__(self) -> str:
        return self.spec()


E = TypeVar("E", bound=Entry)

_END = "end_of_the_arguments"
STACKED_BY = {"defenses": "gibench.stack"}  # kinds whose entries add up, and who makes one of several
KINDS = {
    "datasets": "dataset", "models": "model", "defenses": "defense", "attacks": "attack", "metrics": "metric",
    "audits": "audit",
}  # fmt: skip


def names(kind: str) -> list[str]:
    """All names of a kind, short names included, sorted."""
    return sorted(_found(kind))


def entry_class(kind: str, name: str) -> type[Entry]:
    """The class behind a name. Raises InputError with the nearest name for a misspelt one."""
    return _lookup(kind, name)[0]


def build(kind: str, spec: str) -> Entry:
    """One entry from its spec. Raises InputError for anything that is not exactly one valid entry."""
    entries = expand(kind, spec)
    if len(entries) != 1:
        raise InputError(f"{spec}: a list of values is a sweep of {len(entries)} {kind}; one is wanted here")
    return entries[0]


def expand(kind: str, spec: str) -> list[Entry]:
    """All entries of a spec: one, or the product of its sweeps in the order written. `a + b` stacks defenses."""
    specs = summands(spec)
    if len(specs) == 1:
        return _expand_one(kind, spec)
    if not all(one.strip() for one in specs):
        raise InputError(f"'{spec}': a {KINDS[kind]} is missing beside a +; write a + b")
    if kind not in STACKED_BY:
        raise InputError(f"{spec}: {kind} cannot be added up with +; only defenses can")
    stacked = importlib.import_module(STACKED_BY[kind]).stacked
    return [stacked(list(parts)) for parts in itertools.product(*(_expand_one(kind, one) for one in specs))]


def summands(spec: str) -> list[str]:
    """The parts between pluses that stand outside of parentheses and quotes."""
    parts, depth, quoted = [""], 0, ""
    for char in spec:
        if quoted:
            quoted = "" if char == quoted else quoted
        elif char in "\"'":
            quoted = char
        depth += 0 if quoted else (char == "(") - (char == ")")
        if char == "+" and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _expand_one(kind: str, spec: str) -> list[Entry]:
    name, given = parse(spec)
    cls, preset = _lookup(kind, name)
    fields = {f.name: f for f in _settings(cls)}
    for key in given:
        if key not in fields:
            hint = nearest(key, list(fields))
            raise InputError(f"{name} has no field '{key}'{hint}; its fields are: {', '.join(fields) or 'none'}")
    for key in given.keys() & preset.keys():
        raise InputError(f"{spec}: '{name}' stands for {key}={preset[key]!r}; the field cannot be given again")
    given = preset | given
    sweeps = {k: v for k, v in given.items() if isinstance(v, list) and not _takes_list(cls, k)}
    for key, values in sweeps.items():
        if not values:
            raise InputError(f"{spec}: the sweep over '{key}' is empty; give at least one value")
    return [
        _construct(cls, spec, given | dict(zip(sweeps, choice, strict=True)))
        for choice in itertools.product(*sweeps.values())
    ]


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """`name(a=1, b=[2, 3])` -> ("name", {"a": 1, "b": [2, 3]})."""
    match = re.fullmatch(r" *([A-Za-z_]\w*) *(?:\((.*)\))? *", spec)
    if not match:
        raise InputError(f"{spec!r} is not a spec; write name or name(field=value, ...)")
    name, arguments = match.group(1), (match.group(2) or "").strip()
    end = f"{arguments}, {_END} = 0" if arguments else f"{_END} = 0"
    try:
        given = tomllib.loads(f"given = {{ {end} }}")["given"]
        given.pop(_END)  # lost where a brace or a comment in the arguments cut them short
        return name, given
    except (tomllib.TOMLDecodeError, KeyError):
        raise InputError(
            f"'{spec}': cannot read '{arguments}'; write field=value, ... in TOML (1e-3, true, \"text\", [1, 2])"
        ) from None


def fields_of(kind: str, name: str) -> list[dict[str, Any]]:
    """Name, type and default of every setting of an entry, for listings; a short name has defaults of its own."""
    cls, preset = _lookup(kind, name)
    hints = typing.get_type_hints(cls)
    return [
        {
            "name": f.name,
            "type": _type_name(hints[f.name]),
            "default": preset.get(f.name, None if f.default is dataclasses.MISSING else f.default),
        }
        for f in _settings(cls)
    ]


def first_problem(error: pydantic.ValidationError) -> str:
    """A validation error as one line: field, what is allowed, what was given."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {text[0].lower() + text[1:]} (given: {problem['input']!r})" if where else text


def _construct(cls: type[Entry], spec: str, given: dict[str, Any]) -> Entry:
    try:
        entry = cls(**given)
    except pydantic.ValidationError as error:
        raise InputError(f"{spec}: {first_problem(error)}") from None
    for name, value in given.items():
        built = getattr(entry, name)
        if any(isinstance(value, kind) != isinstance(built, kind) for kind in (bool, str)):
            wanted = _type_name(typing.get_type_hints(cls)[name])
            raise InputError(f"{spec}: {name}: input should be a valid {wanted} (given: {value!r})")
    return entry


def _lookup(kind: str, name: str) -> tuple[type[Entry], dict[str, Any]]:
    found = _found(kind)
    if name not in found:
        raise suggest(KINDS[kind], name, sorted(found))
    cls, preset = found[name]()
    return cls, preset


Loader = Callable[[], tuple[type[Entry], dict[str, Any]]]


@cache
def _found(kind: str) -> dict[str, Loader]:
    """Every name of a kind with what loads it. Modules of the folder that define no entry are shared parts."""
    package = importlib.import_module(f"gibench.{kind}")
    found: dict[str, Loader] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"gibench.{kind}.{info.name}")
        for cls in _entries_in(vars(module).values(), module.__name__):
            found[info.name] = lambda cls=cls: (cls, {})  # type: ignore[misc]
            for short, preset in getattr(module, "SHORT_NAMES", {}).items():
                found[short] = lambda cls=cls, preset=preset: (cls, preset)  # type: ignore[misc]
    for point in entry_points(group=f"gibench.{kind}"):
        found.setdefault(point.name, lambda point=point: (point.load(), {}))  # type: ignore[misc]
    return found


def _entries_in(values: typing.Iterable[Any], module: str) -> Iterator[type[Entry]]:
    for value in values:
        if isinstance(value, type) and issubclass(value, Entry) and value.__module__ == module and value.named:
            yield value


def _settings(cls: type[Entry]) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if f.init and f.repr]  # type: ignore[arg-type]


def _takes_list(cls: type[Entry], field: str) -> bool:
    return typing.get_origin(typing.get_type_hints(cls)[field]) in (list, tuple)


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(value) for value in typing.get_args(hint))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value)
