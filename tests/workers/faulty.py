"""Attacks that fail in every way a job can fail. Importable by worker processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pydantic.dataclasses import dataclass

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.registry import build
from gibench.types import Guess, View


@dataclass(frozen=True)
class Faulty(Attack):
    """`how`: raise, die, or die once (leaving a mark in the file `how` names)."""

    how: str = "raise"

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        if self.how == "raise":
            raise MemoryError("no room for 3 images\nsecond line")
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        mark = Path(self.how)
        if not mark.exists():
            mark.touch()
            os._exit(3)
        return build("attacks", "prior_only").reconstruct(view, draws)
