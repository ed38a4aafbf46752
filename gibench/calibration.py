"""Matched utility: every defense at the strength that has the utility which a suite names as a target.

Its knob is swept, a curve fitted to the utilities on the validation part, solved for the target, and the defense
trained there again with other seeds: only what these confirm is compared. Everything follows from the clients whose
utility is known, so that a run goes on from whatever is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, Literal, cast

from gibench.curve import Curve, OutOfReach, Point
from gibench.datasets import Dataset
from gibench.defenses import Defense
from gibench.errors import InputError
from gibench.grid import Client
from gibench.models import Model
from gibench.registry import build, expand
from gibench.suite import Suite, Targets

TRIES = 5  # levels that are trained at to meet a target
STABLE = 0.02
"""A defense's own spread over seeds excuses a distance from the target up to this, or to the undefended spread if that
is larger: where some trainings fail and others do not, their mean meets nothing."""


@dataclass(frozen=True)
class Solution:
    """What became of one target for one family of defenses: a line of the results' `matches`.

    cheaper: it has more utility than the target even at its strongest, which is attacked, though not ranked.
    """

    dataset: str
    model: str
    training: str
    family: str
    target: str
    measure: str
    goal: float | None
    status: Literal["matched", "cheaper", "unreachable", "pending", "failed"]
    reason: str = ""
    knob: str = ""
    value: float | None = None
    defense: str = ""
    utility: float | None = None  # on the validation part, mean over the suite's seeds
    spread: float | None = None  # their standard deviation


@dataclass(frozen=True)
class Known:
    """Utility on the validation part of the clients that were trained, and why others failed, by id."""

    utilities: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Calibration:
    """The state of all targets of a suite."""

    tried: dict[str, Client] = field(default_factory=dict)  # still to be trained for a curve, by id
    verified: dict[str, Client] = field(default_factory=dict)  # and at a solved level, to be attacked if it is right
    matches: dict[tuple[str, ...], Solution] = field(default_factory=dict)
    curves: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    entries: dict[str, Defense] = field(default_factory=dict)  # the solved defenses by spec

    def chosen(self, block: Suite, dataset: Dataset, model: Model) -> list[Defense]:
        """The defenses to attack: what meets a target, and at their strongest those that cost less."""
        names = families(block)
        place = (dataset.spec(), model.spec(), block.training.describe())
        met = [s for key, s in self.matches.items() if key[:3] == place and s.family in names]
        return [self.entries[s.defense] for s in met if s.defense]

    def describe(self) -> dict[str, Any]:
        """What the results' grid says of targets and curves."""
        return {"matches": [asdict(s) for s in self.matches.values()], "curves": list(self.curves.values())}


def calibrate(suite: Suite, known: Known) -> Calibration:
    """As far as the known clients go; asks for the next ones. A suite without targets needs none."""
    found = Calibration()
    if suite.match is None:
        return found
    for block in suite.blocks():
        for dataset in (cast(Dataset, build("datasets", spec)) for spec in block.datasets):
            for model in (cast(Model, build("models", spec)) for spec in block.models):
                _Place(suite, block, dataset, model, known, found).solve(suite.match)
    return found


def families(block: Suite) -> dict[str, list[Defense]]:
    """The members of every family, as its list names them or else the defense's own sweep; `none` is in no family.

    A defense without a knob, or with a single value of it that is not the default, is a family of one.
    """
    grouped: dict[str, list[Defense]] = {}
    for spec in block.defenses:
        for entry in cast(list[Defense], expand("defenses", spec)):
            if entry.spec() != "none":
                grouped.setdefault(entry.family, []).append(entry)
    return {name: _members(given) for name, given in grouped.items()}


def _members(given: list[Defense]) -> list[Defense]:
    first = given[0]
    free = len(given) == 1 and first.knob and first == cast(Defense, build("defenses", first.family))
    return [first.at(level) for level in first.sweep] if free else given


@dataclass(frozen=True)
class _Place:
    """One dataset, model and training."""

    suite: Suite
    block: Suite
    dataset: Dataset
    model: Model
    known: Known
    found: Calibration

    def solve(self, targets: Targets) -> None:
        none = cast(Defense, build("defenses", "none"))
        bare = self._ask(none, list(dict.fromkeys([*self.suite.sweep_seeds(), *self.suite.seeds])), self.found.tried)
        swept = {name: self._fitting(listed) for name, listed in families(self.block).items()}
        points = {name: self._sweep(members) for name, members in swept.items()}
        for name, known in points.items():
            if known:
                self._keep_curve(name, swept[name], Curve(known, swept[name][0].knob_scale))
        for label, (name, members) in product(targets.labels(), swept.items()):
            goal: float | str | None = bare if isinstance(bare, str) else None
            if isinstance(bare, Point):
                chance = 1 / self.dataset.classes if targets.measure == "accuracy" else 0.5
                goal = targets.goal(label, bare.mean, chance)
            most = max(STABLE, bare.spread) if isinstance(bare, Point) else STABLE
            self.found.matches[*self._where, name, label] = self._meet(name, label, goal, most, members, points[name])

    def _fitting(self, listed: list[Defense]) -> list[Defense]:
        """The members that can serve here: a sweep may hold more layers or clients than there are."""
        problems = {member.spec(): self._client(member, 0).problem for member in listed}
        if all(problems.values()):
            raise InputError(f"{listed[0]} on {self.dataset} with {self.model}: {problems[listed[0].spec()]}")
        return [member for member in listed if not problems[member.spec()]]

    @property
    def _where(self) -> tuple[str, str, str]:
        return self.dataset.spec(), self.model.spec(), self.block.training.describe()

    def _sweep(self, members: list[Defense]) -> list[Point] | None:
        """The points of a sweep without those that failed; None while some are not known."""
        asked = [self._ask(member, self.suite.sweep_seeds(), self.found.tried) for member in members]
        return None if None in asked else [point for point in asked if isinstance(point, Point)]

    def _meet(
        self, name: str, label: str, goal: float | str | None, most: float, members: list[Defense], sweep: Any
    ) -> Solution:
        def end(status: Any, reason: str = "", **more: Any) -> Solution:
            aim = None if isinstance(goal, str) else goal
            return Solution(*self._where, name, label, self._measure, aim, status, reason, members[0].knob, **more)

        if isinstance(goal, str):
            return end("failed", goal)
        if goal is None or sweep is None:
            return end("pending", "its knob is being swept")
        points: list[Point] = list(sweep)
        if lacking := members[0].lacks():
            return end("failed", lacking)
        if not points:
            return end("failed", "every training of its sweep failed")
        over: list[bool] = []  # whether the levels that were tried have more than the goal
        for _ in range(TRIES):
            level = _level(points, members, goal, halved=over[-2:] in ([True, True], [False, False]))
            beyond = isinstance(level, OutOfReach)
            if isinstance(level, OutOfReach):
                if not level.costs_less:
                    return end("unreachable", level.reason)
                level = max(points, key=lambda point: point.strength).level
            solved = members[0] if members[0].level is None else members[0].at(level)
            point = self._ask(solved, self.suite.seeds, self.found.verified)
            if not isinstance(point, Point):
                return end("failed", point) if point else end("pending", f"{solved} is being trained to verify it")
            met = abs(point.mean - goal) <= min(point.tolerance, most)
            if met or (beyond and point.mean > goal):
                self.found.entries[solved.spec()] = solved
                found: dict[str, Any] = {"value": solved.level, "defense": solved.spec()}
                return end("matched" if met else "cheaper", utility=point.mean, spread=point.spread, **found)
            points.append(point)
            over.append(point.mean > goal)
        return end("unreachable", f"unreachable (nearest {points[-1].mean:.3f} at {solved})")

    def _ask(self, defense: Defense, seeds: list[int], wanted: dict[str, Client]) -> Point | str | None:
        """The utilities of a defense; a text if a training failed, None while one is not known, but then wanted."""
        if problem := defense.lacks():
            return problem
        asked = [self._client(defense, seed) for seed in seeds]
        lacking = [c for c in asked if c.id not in self.known.utilities]
        for client in lacking:
            if client.id in self.known.failures:
                return f"{defense} seed {client.seed}: {self.known.failures[client.id]}"
        wanted |= {client.id: client for client in lacking}
        if lacking:
            return None
        utilities = tuple(self.known.utilities[client.id] for client in asked)
        return Point(defense.level or 0.0, defense.strength or 0.0, utilities)

    def _client(self, defense: Defense, seed: int) -> Client:
        block = self.block
        caps = (block.client_images, block.aux_images)
        return Client(self.dataset, self.model, defense, seed, block.training, *caps)

    def _keep_curve(self, name: str, members: list[Defense], curve: Curve) -> None:
        dataset, model, training = self._where
        points = [
            {
                "value": point.level,
                "defense": (members[0] if members[0].level is None else members[0].at(point.level)).spec(),
                "utility": list(point.utilities),
                "fitted": fitted,
            }
            for point, fitted in zip(curve.points, curve.fitted, strict=True)
        ]
        head = {"dataset": dataset, "model": model, "training": training, "family": name}
        rest = {"knob": members[0].knob, "measure": self._measure, "points": points}
        self.found.curves[*self._where, name] = head | rest

    @property
    def _measure(self) -> str:
        assert self.suite.match is not None
        return self.suite.match.measure


def _level(points: list[Point], members: list[Defense], goal: float, halved: bool) -> float | OutOfReach:
    """The level of the knob; a family of one has but its own utility."""
    if len(members) > 1:
        return Curve(points, members[0].knob_scale).level(goal, halved)
    only = points[0]
    if abs(only.mean - goal) <= only.tolerance:
        return only.level
    return OutOfReach(f"unreachable (it has {only.mean:.3f} and nothing to turn)", costs_less=only.mean > goal)
