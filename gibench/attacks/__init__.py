"""Attacks: from what the threat model lets the server see to a guess of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from gibench.draws import Draws
from gibench.registry import Entry
from gibench.types import Guess, View


class Attack(Entry):
    """An attack solves all victims of a view together.

    `needs` names the capabilities that the threat model must grant (`gibench.threat`). A field of `tunes` that is
    left at None is chosen from its candidates on the tuning images and then frozen.
    """

    adaptive: ClassVar[bool] = False  # uses what the view tells about the defense
    control: ClassVar[bool] = False  # a reference that runs under every threat model
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        """Images in [0, 1] for every victim of the view."""
        raise NotImplementedError

    def rehearse(self, view: View, candidates: Sequence[dict[str, Any]], draws: Draws) -> list[Guess]:
        """One guess per candidate setting of the open fields, on images that the attacker knows."""
        return [replace(self, **chosen).reconstruct(view, draws) for chosen in candidates]  # type: ignore[type-var]

    def open_fields(self) -> dict[str, tuple[Any, ...]]:
        """The tunable fields that are still to be chosen, with their candidates."""
        return {name: values for name, values in self.tunes.items() if getattr(self, name) is None}
