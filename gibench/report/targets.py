"""Where a suite matches utility: which defense meets which target, beside its line in a table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gibench.leaderboard.columns import PLAIN
from gibench.report.headline import Line
from gibench.report.tables import Table
from gibench.report.text import NOTHING, decimals, one_line

if TYPE_CHECKING:
    from gibench.store import Results

MATCHED = "matched"
TEXTS = ("dataset", "model", "family", "target", "measure", "status", "reason", "knob", "defense")


@dataclass(frozen=True)
class Target:
    """One defense family tuned to one target of utility; a number that is not known is NaN.

    goal, utility, spread: on the validation part; defense: the spec under which its cells are recorded, empty where the
    target is not reached, with the reason.
    """

    dataset: str
    model: str
    training: str
    family: str
    target: str
    measure: str
    goal: float
    status: str
    reason: str
    knob: str
    value: float
    defense: str
    utility: float
    spread: float

    @property
    def strength(self) -> str:
        """`sigma = 0.0237`, or a dash where no strength meets the target."""
        return NOTHING if math.isnan(self.value) else f"{self.knob} = {self.value:.6g}"

    @property
    def reached(self) -> str:
        """Utility on the validation part, with its spread over seeds."""
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:.3f}"
        return decimals(self.utility, 3) + spread

    @property
    def outcome(self) -> str:
        return self.status if self.status == MATCHED or not self.reason else self.reason


def targets(results: Results) -> list[Target]:
    """All of them in the grid's order; none for suites that match nothing."""
    return [_target(match) for match in results.grid.get("matches") or []]


def of(table: Table, found: Iterable[Target]) -> list[tuple[Target, Line | None]]:
    """The targets of a table's dataset, model and training, each with the line of the defense that meets it."""
    first = table.rows.iloc[0]
    here = tuple(one_line(first[name]) for name in ("dataset", "model", "training"))
    lines = {line.name: line for line in table.lines if line.leak != "floor"}
    return [
        (target, lines.get(target.defense) if target.defense else None)
        for target in found
        if (target.dataset, target.model, target.training) == here
    ]


def _target(match: dict[str, Any]) -> Target:
    texts = {name: one_line(match.get(name) or "") for name in TEXTS} | {
        "training": one_line(match.get("training") or PLAIN)
    }
    numbers: dict[str, Any] = {name: _number(match.get(name)) for name in ("goal", "value", "utility", "spread")}
    return Target(**numbers | texts)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
