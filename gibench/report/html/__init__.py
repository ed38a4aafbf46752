"""One page that opens from disk without a network: the tables, what is behind every number, and pictures."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from gibench.leaderboard.points import recorded
from gibench.report.audits import HEADLINE, READING, audit_reports
from gibench.report.html.embedded import embedded
from gibench.report.html.entries import Entries
from gibench.report.html.matched import block
from gibench.report.html.page import page
from gibench.report.html.payload import Source, payload
from gibench.report.matched import matched_report
from gibench.report.tables import report

if TYPE_CHECKING:
    from gibench.store import Results

__all__ = ["Entries", "Source", "as_html"]

SCRIPTS = ("state.js", "tables.js", "plot.js", "pictures.js", "cell.js", "start.js")


def as_html(results: Results, source: Source | None = None, entries: Entries | None = None, by: str = "defense") -> str:
    """The report as one page. Equal arguments give equal bytes.

    source: where single cells say what they come from and images are; without it the page has no machines and pictures.
    entries: what is known of the entries of each kind, by name, as `gibench.listing` has it; without it no places.
    by: "attack" opens the tables with a line per attack from the start.
    """
    shown, entries, audits = report(results), entries or {}, audit_reports(results)
    style, script = _text("page.css"), "\n".join(map(_text, SCRIPTS))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page(results, shown, recorded(results), entries),
            matched=block(matched_report(results), shown.tables, entries),
            audits={"headline": HEADLINE, "reading": READING, "reports": audits},
            data=embedded(payload(results, shown, source)),
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            open=by == "attack",
        )
    )


def _policy(style: str, script: str) -> str:
    """Nothing is loaded from anywhere, and only this page's own script runs."""
    return f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
