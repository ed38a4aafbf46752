"""What a privacy budget buys: what attacks find, what the bound allows them, and the accuracy that is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibench.leaderboard.columns import UNDEFENDED, WORST
from gibench.report.figures.canvas import ACCENT, COLOURS, OTHER, blank, dressed
from gibench.report.tables import Table

FEWEST = 3  # budgets that make a curve


def budgets(table: Table) -> Figure | None:
    """Over epsilon, three panels: PSNR of the worst case at the checkpoint that leaks most, with floor and undefended
    level; the share of images identified there, and its bound; accuracy. None for fewer than three finite budgets."""
    points = budgeted(table)
    if len(points) < FEWEST:
        return None
    figure, (leak, share, utility) = blank(6.4, 6.4, rows=3)
    x = [point["epsilon"] for point in points]
    low, high = ([abs(p["psnr"] - p[f"psnr_{end}"]) for p in points] for end in ("low", "high"))
    known = not any(math.isnan(value) for value in low + high)
    leak.errorbar(x, _of(points, "psnr"), yerr=[low, high] if known else None, fmt="o-", color=ACCENT, label="worst")
    leak.plot(x, _of(points, "floor_psnr"), ":", color=OTHER, label="floor")
    share.plot(x, _percent(points, "identified"), "o-", color=ACCENT, label="identified")
    share.plot(x, _percent(points, "rero_bound"), "--", color=COLOURS["HIGH"], label="bound")
    utility.plot(x, _percent(points, "utility"), "o-", color=ACCENT, label="accuracy")
    bare = _worst(table, UNDEFENDED)
    if bare:
        for axis, value in ((leak, bare["psnr"]), (utility, 100 * bare["utility"])):
            axis.axhline(value, color=OTHER, linewidth=0.8, linestyle="--", label="undefended")
    titles = (table.title, "", "")
    ups = ("PSNR, dB", "share of images, %", "accuracy, %")
    for axis, title, up in zip((leak, share, utility), titles, ups, strict=True):
        _finished(axis, title, up)
    return figure


def budgeted(table: Table) -> list[dict[str, Any]]:
    """The worst-case row of each defense with a finite epsilon and a score, by epsilon."""
    rows = (_worst(table, name) for name in table.rows["defense"].unique())
    return sorted((row for row in rows if row and 0 < row["epsilon"] < math.inf), key=lambda row: row["epsilon"])


def _worst(table: Table, defense: str) -> dict[str, Any]:
    rows = table.rows[(table.rows["attack"] == WORST) & (table.rows["defense"] == defense)].dropna(subset="psnr")
    found: dict[str, Any] = {} if rows.empty else rows.loc[rows["psnr"].idxmax()].to_dict()
    return found


def _of(points: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [float(point[name]) for point in points]


def _percent(points: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [100 * value for value in _of(points, name)]


def _finished(axis: Axes, title: str, up: str) -> None:
    axis.set_xscale("log")
    dressed(axis, title, "epsilon of the training", up)
    axis.legend(fontsize=7, frameon=False)
