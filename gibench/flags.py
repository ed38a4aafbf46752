"""What the truth says about an ensemble's run: was the defense strong, or the attack broken? For diagnosis only."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gibench.draws import Draws
from gibench.engine.explain import matching_loss
from gibench.types import Batch, Guess, View

LEARNED = ("lti", "inverse_network", "vae_prior", "gan_prior")
CLEAR_DB = 3.0
SLACK = 1e-2  # of matching loss: an undefended truth has none, and no search ends at exactly none


def flags(view: View, sent: Batch, guess: Guess, psnr: Mapping[str, list[float | None]], draws: Draws) -> list[str]:
    """Warnings about one cell of an ensemble.

    sent: what the model really saw; psnr: of every image, by member and under "" for the candidate handed over.

    failed: more than 5 % of the victims. below_floor: a search ended worse than the prior, so its optimiser failed
    and no privacy was shown. gap: the attacker hands over much less than its best member found. masked: a learned
    attack is far ahead of matching, so gradients are obstructed and the information is still there. unconverged: for
    most victims no candidate explains the message nearly as well as the truth would. unidentified: for most a
    candidate explains it better than the truth, so that the information is really gone.
    """
    means = {name: _mean(values) for name, values in psnr.items()}
    floor = means.get("prior_only", -math.inf)
    searched = {n: m for n, m in means.items() if n and n != "prior_only" and not n.startswith(LEARNED)}
    learned = [m for n, m in means.items() if n.startswith(LEARNED)]
    found = []
    failed = 1 - float(guess.loss.isfinite().double().mean())
    if failed > 0.05:
        found.append("failed")
    found += [f"below_floor: {name}" for name, mean in searched.items() if mean < floor]
    best = [max((p for p in image if p is not None), default=None) for image in zip(*psnr.values(), strict=True)]
    if _mean(best) - means[""] > CLEAR_DB:
        found.append("gap")
    if learned and searched and max(learned) > max(searched.values()) + CLEAR_DB:
        found.append("masked")
    candidates = [matching_loss(view, member, draws) for member in (guess, *guess.members.values())]
    mine = torch.stack(candidates).nan_to_num(torch.inf).amin(0)
    truth = matching_loss(view, Guess(sent.x, sent.y, mine, 0), draws)
    if _most(mine > 2 * truth + SLACK):
        found.append("unconverged")
    if _most(truth > mine + 1e-6):
        found.append("unidentified")
    return found


def _most(flag: Tensor) -> bool:
    return float(flag.double().mean()) > 0.5


def _mean(values: list[float | None]) -> float:
    known = [v for v in values if v is not None and not math.isnan(v)]
    return sum(known) / len(known) if known else -math.inf
