"""Utility against the knob of each defense: what was measured, the fitted line, and the strengths it led to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibench.leaderboard.columns import PLAIN
from gibench.report.figures.canvas import ACCENT, OTHER, blank, dressed
from gibench.report.targets import MATCHED, Target
from gibench.report.text import one_line

ACROSS = 3
DECADES = 30  # knobs whose values differ by a larger factor are drawn on a logarithmic scale


def knobs(curves: Sequence[Mapping[str, Any]], matched: Sequence[Target]) -> Iterator[tuple[str, Figure]]:
    """Per dataset, model and training one figure with a panel per defense, in the grid's order."""
    for where, group in groupby(curves, key=_where):
        panels = list(group)
        columns = min(ACROSS, len(panels))
        rows = math.ceil(len(panels) / columns)
        figure, axes = blank(0.6 + 2.6 * columns, 0.4 + 2.2 * rows, rows, columns)
        for axis, curve in zip(axes, panels, strict=False):
            family = one_line(curve["family"])
            _panel(axis, curve, [t for t in matched if (t.dataset, t.model, t.training, t.family) == (*where, family)])
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.suptitle(" · ".join(where), fontsize=9, x=0.01, ha="left", parse_math=False)
        yield "-".join(where), figure


def _where(curve: Mapping[str, Any]) -> tuple[str, str, str]:
    return one_line(curve["dataset"]), one_line(curve["model"]), one_line(curve.get("training") or PLAIN)


def _panel(axis: Axes, curve: Mapping[str, Any], matched: Sequence[Target]) -> None:
    points = curve.get("points") or []
    values = [float(point["value"]) for point in points]
    seeds = [(value, float(u)) for value, point in zip(values, points, strict=True) for u in point.get("utility") or []]
    fitted = [(value, point["fitted"]) for value, point in zip(values, points, strict=True) if _known(point)]
    if seeds:
        axis.plot(*zip(*seeds, strict=True), ".", color=OTHER, markersize=5, label="measured")
    if fitted:
        axis.plot(*zip(*fitted, strict=True), "-", color=ACCENT, linewidth=1.2, label="fitted")
    for target in matched:
        if not math.isnan(target.goal):
            axis.axhline(target.goal, color=OTHER, linewidth=0.6, linestyle=":")
            place: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "fontsize": 6,
                "parse_math": False,
                "va": "bottom",
            }
            axis.annotate(target.target, (0.01, target.goal), **place)
        if target.status == MATCHED and not math.isnan(target.value + target.utility):
            spread = None if math.isnan(target.spread) else target.spread
            axis.errorbar(target.value, target.utility, yerr=spread, fmt="D", color="#b42318", markersize=5)
    known = [value for value in values + [t.value for t in matched] if value > 0]
    if known and max(known) / min(known) > DECADES:
        axis.set_xscale("symlog", linthresh=min(known)) if min(values, default=1) <= 0 else axis.set_xscale("log")
    across, up = one_line(curve.get("knob") or ""), one_line(curve.get("measure") or "")
    dressed(axis, one_line(curve["family"]), across, up, letters=30)


def _known(point: Mapping[str, Any]) -> bool:
    return isinstance(point.get("fitted"), (int, float)) and not math.isnan(point["fitted"])
