"""Data inside a page: JSON that no text in it can break out of, with equal texts written once."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def embedded(value: Any) -> Markup:
    """JSON for a script element: what could end the element or start a comment is written as an escape."""
    return Markup(json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).translate(UNSAFE))


class Pool:
    """Texts and objects by number: the page refers to each by its place in `items`."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, item: Any) -> int:
        key = json.dumps(item, sort_keys=True, default=str)
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(item)
        return self._places[key]
