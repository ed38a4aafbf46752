"""Reports: results in, text out; they read rows and nothing else. `gibench.report.picture` draws a cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from gibench.errors import suggest
from gibench.report.bibtex import as_bibtex
from gibench.report.by_attack_latex import attacks_as_latex
from gibench.report.by_attack_markdown import attacks_as_markdown
from gibench.report.by_attack_terminal import attacks_as_terminal, print_attacks
from gibench.report.exports import as_csv, as_json
from gibench.report.html import as_html
from gibench.report.latex import as_latex
from gibench.report.markdown import as_markdown
from gibench.report.terminal import as_terminal, print_terminal

if TYPE_CHECKING:
    from rich.console import Console

    from gibench.store import Results

__all__ = [
    "FORMATS",
    "PRINTERS",
    "VIEWS",
    "as_bibtex",
    "as_html",
    "print_attacks",
    "print_terminal",
    "render",
    "renderer",
]

FORMATS: Mapping[str, Callable[[Results], str]] = MappingProxyType(
    {
        "terminal": as_terminal,
        "markdown": as_markdown,
        "csv": as_csv,
        "json": as_json,
        "latex": as_latex,
        "html": as_html,
    }
)
BY_ATTACK: Mapping[str, Callable[[Results], str]] = MappingProxyType(
    {
        "terminal": attacks_as_terminal,
        "markdown": attacks_as_markdown,
        "latex": attacks_as_latex,
        "html": partial(as_html, by="attack"),
    }
)
VIEWS: Mapping[str, Mapping[str, Callable[[Results], str]]] = MappingProxyType(
    {"defense": FORMATS, "attack": {**FORMATS, **BY_ATTACK}}
)
"""What a line of the report is: csv and json have every attack and every defense in either."""

PRINTERS: Mapping[str, Callable[[Results, Console], None]] = MappingProxyType(
    {"defense": print_terminal, "attack": print_attacks}
)


def renderer(form: str, by: str = "defense") -> Callable[[Results], str]:
    """Writes the report in one of the formats. Raises InputError for any other, with those that exist."""
    if by not in VIEWS:
        raise suggest("view of a report", by, list(VIEWS))
    if form not in FORMATS:
        raise suggest("report format", form, list(FORMATS))
    return VIEWS[by][form]


def render(results: Results, form: str, by: str = "defense") -> str:
    """The report in one of the formats, with a line per defense or per attack."""
    return renderer(form, by)(results)
