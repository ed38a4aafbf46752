"""Accuracy against leak: a point per defense, and a line along those that none beats in both."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from gibench.leaderboard.columns import UNDEFENDED
from gibench.report.best import front
from gibench.report.figures.canvas import ACCENT, COLOURS, OTHER, blank, dressed, in_lines
from gibench.report.headline import HIGH_DB, Line
from gibench.report.tables import Table

LETTERS = 26  # of a name before it goes on in the next line
FAR = 3 * HIGH_DB  # a gain beyond which small ones would lie on top of each other
PLACES = ((6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 6, "center", "bottom"), (0, -6, "center", "top"))
"""Where a name may stand beside its point: offset in typographic points, alignment."""


def tradeoff(table: Table, matched: Collection[str] = ()) -> Figure | None:
    """x: accuracy in percent, y: gain of the worst case over the floor in dB with its interval; None for no points.

    y is linear up to HIGH_DB and logarithmic beyond where there are gains beyond FAR. matched: the defenses that meet
    a target of utility, drawn as diamonds; dotted is the accuracy that needs no client. Colours are those of the leak;
    a hollow point proves nothing.
    """
    known = [line for line in table.lines if not math.isnan(line.gain + line.utility)]
    lines = [line for line in known if line.leak != "floor"]
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
    for floor in (line for line in known if line.leak == "floor"):
        axis.axvline(100 * floor.utility, color=OTHER, linewidth=0.8, linestyle=":", zorder=0)
        said: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (2, -2), "textcoords": "offset points"}
        axis.annotate("auxiliary images alone", (100 * floor.utility, 1), va="top", fontsize=6, color=OTHER, **said)
    dressed(axis, table.title, "accuracy of the model, %", "gain over the floor, dB")
    axis.margins(x=0.12, y=0.12)
    if (most := max(line.gain for line in lines)) > FAR:
        axis.set_yscale("symlog", linthresh=HIGH_DB, linscale=2)
        ticks = [*range(math.ceil(HIGH_DB) + 1), 10, 20, 40, 80]
        axis.set_yticks([tick for tick in ticks if tick < 1.2 * most], minor=False)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    _names(figure, axis, best + [line for line in lines if line not in best])
    return figure


def _names(figure: Figure, axis: Axes, lines: Sequence[Line]) -> None:
    """A name is written where nothing that stands already is in its way; the order is that of importance."""
    figure.draw_without_rendering()  # settles where everything is
    inside = axis.get_window_extent()
    spots = [axis.transData.transform((100 * line.utility, line.gain)) for line in lines]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in spots]
    for line in lines:
        for dx, dy, across, up in PLACES:
            text = axis.annotate(
                in_lines(line.name, LETTERS),
                (100 * line.utility, line.gain),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=across,
                va=up,
                multialignment="left",
                fontsize=6.5,
                parse_math=False,
            )
            text.set_in_layout(False)
            box = text.get_window_extent()
            if inside.containsx(box.x0) and inside.containsx(box.x1) and not any(box.overlaps(b) for b in taken):
                taken.append(box)
                break
            text.remove()
