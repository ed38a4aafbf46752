"""Attack settings, chosen on the tuning images and then frozen.

An oblivious attack is tuned on the undefended model. An adaptive one rehearses under the defense that it knows, which
it can do without any victim: its prior weight depends on the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from gibench.attacks import Attack
from gibench.draws import Draws
from gibench.engine.assignment import in_order_of
from gibench.metrics.psnr import PSNR
from gibench.types import Batch, View


def tune(attack: Attack, batch: Batch, look: Callable[[Batch], View], draws: Draws) -> dict[str, Any]:
    """The candidate of the attack's open fields with the highest mean PSNR on `batch`, whose images are known."""
    candidates = attack.candidates()
    guesses = attack.rehearse(look(batch), candidates, draws)
    scores = [_mean_psnr(batch.x, guess.x) for guess in guesses]
    return candidates[scores.index(max(scores))]


def settle(attack: Attack, chosen: dict[str, Any]) -> Attack:
    """The attack with its open fields set."""
    return replace(attack, **chosen) if chosen else attack  # type: ignore[type-var]


def _mean_psnr(truth: Tensor, guess: Tensor) -> float:
    x = in_order_of(truth, guess)
    return float(PSNR().compare(truth.flatten(0, 1), x.flatten(0, 1)).nan_to_num(0).mean())
