"""How strong a defense is set, as a number that the leaderboard can compare without building the defense."""

from __future__ import annotations

from gibench.defenses import Defense


def strength(defense: Defense) -> float | None:
    """The value of the knob, its sign such that more is stronger; None where there is no knob, or it is no number."""
    value = getattr(defense, defense.knob, None) if defense.knob else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value if defense.knob_grows else -value)
