"""Utility against the knob of each defense: what was measured, the fitted line, and the strengths it led to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibench.leaderboard.columns import PLAIN
from gibench.leaderboard.points import TRAINED
from gibench.report.figures.canvas import ACCENT, OTHER, blank, dressed
from gibench.report.text import one_line

ACROSS = 3
DECADES = 30  # knobs whose values differ by a larger factor are drawn on a logarithmic scale


def knobs(curves: Sequence[Mapping[str, Any]], matches: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Per dataset, model and training one figure with a panel per defense, in the grid's order.

    matches: all targets as they were recorded.
    """
    asked: dict[tuple[str, ...], list[dict[Any, Any]]] = {}
    for match in matches.to_dict("records"):
        asked.setdefault(tuple(one_line(match[name]) for name in (*TRAINED, "family")), []).append(match)
    for where, group in groupby(curves, key=_where):
        panels = list(group)
        columns = min(ACROSS, len(panels))
        rows = math.ceil(len(panels) / columns)
        figure, axes = blank(0.6 + 2.6 * columns, 0.4 + 2.2 * rows, rows, columns)
        for axis, curve in zip(axes, panels, strict=False):
            _panel(axis, curve, asked.get((*where, one_line(curve["family"])), []))
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.suptitle(" · ".join(where), fontsize=9, x=0.01, ha="left", parse_math=False)
        yield "-".join(where), figure


def _where(curve: Mapping[str, Any]) -> tuple[str, str, str]:
    return one_line(curve["dataset"]), one_line(curve["model"]), one_line(curve.get("training") or PLAIN)


def _panel(axis: Axes, curve: Mapping[str, Any], matches: Sequence[Mapping[Any, Any]]) -> None:
    points = curve.get("points") or []
    values = [float(point["value"]) for point in points]
    seeds = [(value, float(u)) for value, point in zip(values, points, strict=True) for u in point.get("utility") or []]
    fitted = [(value, point["fitted"]) for value, point in zip(values, points, strict=True) if _known(point)]
    if seeds:
        axis.plot(*zip(*seeds, strict=True), ".", color=OTHER, markersize=5, label="measured")
    if fitted:
        axis.plot(*zip(*fitted, strict=True), "-", color=ACCENT, linewidth=1.2, label="fitted")
    for match in matches:
        goal, value, reached, spread = (match[name] for name in ("goal", "value", "utility_val", "spread"))
        if not math.isnan(goal):
            axis.axhline(goal, color=OTHER, linewidth=0.6, linestyle=":")
            place: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "fontsize": 6,
                "parse_math": False,
                "va": "bottom",
            }
            axis.annotate(one_line(match["target"]), (0.01, goal), **place)
        if match["status"] == "matched" and not math.isnan(value + reached):
            error = None if math.isnan(spread) else spread
            axis.errorbar(value, reached, yerr=error, fmt="D", color="#b42318", markersize=5)
    known = [value for value in values + [match["value"] for match in matches] if value > 0]
    if known and max(known) / min(known) > DECADES:
        axis.set_xscale("symlog", linthresh=min(known)) if min(values, default=1) <= 0 else axis.set_xscale("log")
    across, up = one_line(curve.get("knob") or ""), one_line(curve.get("measure") or "")
    dressed(axis, one_line(curve["family"]), across, up, letters=30)


def _known(point: Mapping[str, Any]) -> bool:
    return isinstance(point.get("fitted"), (int, float)) and not math.isnan(point["fitted"])
