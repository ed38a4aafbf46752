"""Which defenses of a table leak least: those that no other clearly beats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gibench.leaderboard.columns import UNDEFENDED
from gibench.report.headline import Line

RULE = (
    "bold: the least gain of all defenses whose leak is proven and complete, and those whose 95 % intervals overlap "
    "with that of the least"
)


def best(lines: Sequence[Line]) -> list[bool]:
    """For every line whether it is among the best, by the rule above. The undefended line and the floor never are."""
    spans = [_gain_span(line) for line in lines]
    rivals = [i for i, line in enumerate(lines) if _competes(line)]
    if not rivals:
        return [False] * len(lines)
    least = min(rivals, key=lambda i: lines[i].gain)
    low, high = spans[least]
    return [i in rivals and spans[i][0] <= high and low <= spans[i][1] for i in range(len(lines))]


def front(lines: Sequence[Line]) -> list[bool]:
    """For every line whether no other line has at least its accuracy and at most its gain, and one of them better."""
    known = [
        i
        for i, line in enumerate(lines)
        if line.leak not in ("floor", "unproven") and not line.incomplete and not math.isnan(line.gain + line.utility)
    ]

    def beaten(i: int) -> bool:
        mine = (-lines[i].utility, lines[i].gain)
        return any(
            (-lines[k].utility, lines[k].gain) != mine and -lines[k].utility <= mine[0] and lines[k].gain <= mine[1]
            for k in known
        )

    return [i in known and not beaten(i) for i in range(len(lines))]


def _competes(line: Line) -> bool:
    """What is incomplete is a lower bound, and what is unproven is no evidence: neither can be best."""
    return (
        line.name != UNDEFENDED
        and line.leak not in ("floor", "unproven")
        and not line.incomplete
        and not math.isnan(line.gain)
    )


def _gain_span(line: Line) -> tuple[float, float]:
    """The interval of the worst case, as gain over the same floor; one number where there is no interval."""
    floor = line.worst - line.gain
    if math.isnan(line.low) or math.isnan(line.high):
        return line.gain, line.gain
    return line.low - floor, line.high - floor
