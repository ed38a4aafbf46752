"""Accuracy against leak: a point per defense, and a line along those that none beats in both."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibench.leaderboard.columns import UNDEFENDED
from gibench.report.best import front
from gibench.report.figures.canvas import ACCENT, COLOURS, OTHER, blank, dressed
from gibench.report.headline import Line
from gibench.report.tables import Table

WIDE, HIGH = 0.3, 0.045  # what a name takes of the axes


def tradeoff(table: Table, matched: Collection[str] = ()) -> Figure | None:
    """x: accuracy in percent, y: gain of the worst case over the floor in dB with its interval; None for no points.

    matched: the defenses that meet a target of utility, drawn as diamonds.
    """
    lines = [line for line in table.lines if line.leak != "floor" and not math.isnan(line.gain + line.utility)]
    if len(lines) < 2:
        return None
    figure, (axis,) = blank(6.4, 4.2)
    best = [line for line, first in zip(lines, front(lines), strict=True) if first]
    for line in lines:
        colour = COLOURS.get(line.leak, OTHER)
        empty = line.leak == "unproven" or line.name == UNDEFENDED
        error = [[line.worst - line.low], [line.high - line.worst]] if not math.isnan(line.low + line.high) else None
        axis.errorbar(
            100 * line.utility,
            line.gain,
            yerr=error,
            fmt="D" if line.name in matched else "o",
            color=colour,
            markerfacecolor="white" if empty else colour,
            markersize=5,
            elinewidth=0.8,
            label=line.name,
        )
    if len(best) > 1:
        ordered = sorted(best, key=lambda line: line.utility)
        x, y = [100 * line.utility for line in ordered], [line.gain for line in ordered]
        axis.step(x, y, where="pre", color=ACCENT, linewidth=1, linestyle="--", zorder=1, label="front")
    _names(axis, best + [line for line in lines if line not in best])
    dressed(axis, table.title, "accuracy of the model, %", "gain over the floor, dB")
    axis.margins(x=0.12)
    return figure


def _names(axis: Axes, lines: Sequence[Line]) -> None:
    """A name is written where none of those before it is in its way; the order is that of importance."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    taken: list[tuple[float, float]] = []
    for line in lines:
        x, y = (100 * line.utility - left) / (right - left), (line.gain - low) / (high - low)
        if all(abs(x - other) > WIDE or abs(y - height) > HIGH for other, height in taken):
            taken.append((x, y))
            before = x > 1 - WIDE
            place: dict[str, Any] = {"xytext": (-6 if before else 6, 3), "textcoords": "offset points", "fontsize": 6.5}
            place |= {"parse_math": False, "ha": "right" if before else "left"}
            axis.annotate(line.name, (100 * line.utility, line.gain), **place)
