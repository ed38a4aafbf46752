"""What the page knows of a defense from its spec: its family, where it acts and what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from gibench.leaderboard.columns import entry
from gibench.registry import summands

Entries = Mapping[str, Mapping[str, Mapping[str, Any]]]


def family(spec: str) -> str:
    """`a(x=1) + b` -> `a + b`; empty for no spec."""
    return " + ".join(_names(spec))


def place(spec: str, entries: Entries) -> str:
    """Where its parts act, each place once; unknown parts are left out."""
    return " + ".join(dict.fromkeys(_known(spec, entries, "place")))


def summary(spec: str, entries: Entries) -> str:
    return " + ".join(_known(spec, entries, "summary"))


def broken(spec: str) -> Markup:
    """A spec that may go on in the next line after a bracket or a comma."""
    return Markup("<wbr>").join(re.split(r"(?<=[(,])", spec))


def _names(spec: str) -> list[str]:
    return [entry(part) for part in summands(spec)] if spec else []


def _known(spec: str, entries: Entries, what: str) -> list[str]:
    known = entries.get("defenses", {})
    return [known[name][what] for name in _names(spec) if name in known]
