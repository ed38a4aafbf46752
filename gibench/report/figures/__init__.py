"""Figures for papers: trade-offs, knobs, distributions over images, and a gallery; equal results give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gibench.errors import suggest
from gibench.leaderboard.points import recorded
from gibench.leaderboard.scores import scores
from gibench.report.figures.budgets import budgets
from gibench.report.figures.canvas import KINDS, saved
from gibench.report.figures.distributions import distributions
from gibench.report.figures.knobs import knobs
from gibench.report.figures.pictures import strips
from gibench.report.figures.tradeoff import tradeoff
from gibench.report.gallery import gallery
from gibench.report.tables import Table, report
from gibench.report.targets import met

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gibench.store import Results

__all__ = ["KINDS", "check_kind", "figures"]


def figures(
    results: Results, kind: str = "svg", read: Callable[[str], Mapping[str, Any]] | None = None
) -> dict[str, bytes]:
    """Files by name. read: a cell's images, for the gallery; without it there is none.

    Per setting `tradeoff`, `distributions`, `gallery` and, over privacy budgets, `budgets`; per dataset and model with
    matched utility `knobs`; what there is nothing to draw for is left out. Raises InputError for an unknown kind of
    file.
    """
    check_kind(kind)
    return {f"{name}.{kind}": saved(figure, kind) for name, figure in _drawn(results, read)}


def check_kind(kind: str) -> None:
    """Raises InputError for a kind of file that cannot be written, with those that can."""
    if kind not in KINDS:
        raise suggest("figure format", kind, list(KINDS))


def _drawn(results: Results, read: Callable[[str], Mapping[str, Any]] | None) -> Iterator[tuple[str, Figure]]:
    shown, matches, scored = report(results), recorded(results), scores(results)
    pictures = list(gallery(results, shown, read)) if read else []
    for number, table in enumerate(shown.tables):
        name = _slug(number, table)
        found = {
            "tradeoff": tradeoff(table, met(table, matches)),
            "distributions": distributions(table, scored),
            "budgets": budgets(table),
            "gallery": strips(table, [place for place in pictures if place.table == number]),
        }
        yield from ((f"{what}-{name}", figure) for what, figure in found.items() if figure is not None)
    for where, figure in knobs(results.grid.get("curves") or [], matches):
        yield f"knobs-{_safe(where)}", figure


def _slug(number: int, table: Table) -> str:
    first = table.rows.iloc[0]
    return _safe(f"{number + 1}-{first['dataset']}-{first['model']}-batch{first['batch']}")


def _safe(name: str) -> str:
    """A file name of letters, digits and dashes alone."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:80]
