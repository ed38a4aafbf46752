"""The one error that a user's mistake raises."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class InputError(Exception):
    """A mistake of the user, told in one line: what was wrong and what is allowed."""


def suggest(what: str, name: str, allowed: Sequence[str]) -> InputError:
    """The error for an unknown name, with the nearest one that exists and all that are allowed."""
    return InputError(f"unknown {what} '{name}'{nearest(name, allowed)}; allowed: {', '.join(allowed) or 'none'}")


def nearest(name: str, allowed: Sequence[str]) -> str:
    """`, did you mean 'x'?` where a name comes near, otherwise nothing."""
    near = difflib.get_close_matches(name, allowed, n=1)
    return f", did you mean '{near[0]}'?" if near else ""
