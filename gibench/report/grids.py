"""Markdown tables and folded parts."""

from __future__ import annotations

from collections.abc import Iterable

TEXTS = {"checkpoint", "defense", "attack", "at", "leak", "status", "notes", "about"}
TEXTS |= {"target", "against", "attacker", "verdict", "MSE verdict", "knob"}
"""Columns of words; all others hold numbers."""


def grid(heads: list[str], lines: Iterable[list[str]]) -> str:
    """A table with its numbers to the right."""
    rule = ["---" if head in TEXTS else "---:" for head in heads]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *lines])


def folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
