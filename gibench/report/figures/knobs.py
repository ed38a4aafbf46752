"""Utility against the knob of each defense: what was measured, the fitted line, and the strengths it led to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, groupby
from typing import Any

import numpy as np
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
    for side, match in zip(cycle((0.01, 0.99, 0.5)), matches, strict=False):  # near ones do not hide each other
        goal, value, reached, spread = (match[name] for name in ("goal", "value", "utility_val", "spread"))
        if not math.isnan(goal):
            axis.axhline(goal, color=OTHER, linewidth=0.6, linestyle=":")
            place: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "fontsize": 6,
                "parse_math": False,
                "va": "bottom",
                "ha": {0.01: "left", 0.99: "right"}.get(side, "center"),
            }
            axis.annotate(one_line(match["target"]), (side, goal), **place)
        if match["status"] == "matched" and not math.isnan(value + reached):
            error = None if math.isnan(spread) else spread
            axis.errorbar(value, reached, yerr=error, fmt="D", color="#b42318", markersize=5)
    _scaled(axis, values + [match["value"] for match in matches if not math.isnan(match["value"])])
    across, up = one_line(curve.get("knob") or ""), one_line(curve.get("measure") or "")
    dressed(axis, one_line(curve["family"]), across, up, letters=30)


def _scaled(axis: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale for knobs over decades, of the share that is left where they come close to 1."""
    known = sorted({abs(value) for value in values if value})
    if not known:
        return
    low, high = known[0], known[-1]
    if high / low > DECADES:
        decades = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
        if min(values) > 0:
            axis.set_xscale("log")
            return
        axis.set_xscale("symlog", linthresh=low)
        axis.set_xticks([0.0, *decades[len(decades) % 2 :: 2]] if len(decades) > 4 else [0.0, *decades])
        axis.set_xlim(-low / 3, high * 2)
    elif high < 1 and 1 - high < 1 / DECADES:
        axis.set_xscale(
            "function", functions=(lambda x: -np.log10(1 - np.minimum(x, 1 - 1e-9)), lambda y: 1 - 10.0**-y)
        )
        axis.set_xticks([1 - 10.0**-k for k in range(math.ceil(-math.log10(1 - high)) + 1)])
        axis.set_xlim(-0.2, 1 - (1 - high) / 2)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:.6g}")
    axis.minorticks_off()


def _known(point: Mapping[str, Any]) -> bool:
    return isinstance(point.get("fitted"), (int, float)) and not math.isnan(point["fitted"])
