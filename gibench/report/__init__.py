"""Reports: results in, text out; they read rows and nothing else. `gibench.report.picture` draws a cell."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

from gibench.errors import suggest
from gibench.report.exports import as_csv, as_json
from gibench.report.markdown import as_markdown
from gibench.report.terminal import as_terminal, print_terminal

if TYPE_CHECKING:
    from gibench.store import Results

__all__ = ["FORMATS", "print_terminal", "render"]

FORMATS: MappingProxyType[str, Callable[[Results], str]] = MappingProxyType(
    {"terminal": as_terminal, "markdown": as_markdown, "csv": as_csv, "json": as_json}
)


def render(results: Results, form: str) -> str:
    """The report in one of the formats. Raises InputError for any other, with those that exist."""
    if form not in FORMATS:
        raise suggest("report format", form, list(FORMATS))
    return FORMATS[form](results)
