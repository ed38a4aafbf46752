"""From guesses to rows: one-to-one matching within a batch, then every metric per image."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from gibench.engine.assignment import in_order_of
from gibench.judge import identified, judged_right
from gibench.metrics.mse import MSE
from gibench.metrics.psnr import PSNR
from gibench.metrics.ssim import SSIM
from gibench.types import Batch, Guess

COMPARED = {"mse": MSE(), "psnr": PSNR(), "ssim": SSIM()}


BETTER = {"mse": min, "attacker_accuracy": max, "identified": max, "label_accuracy": max, "psnr": max, "ssim": max}
"""Which of two scores of one image is better for the attacker."""


def score(
    victims: Batch, sent: Batch, guess: Guess, index: Tensor, judge: nn.Module, gallery: Tensor, tuned: str
) -> tuple[list[dict[str, Any]], Tensor]:
    """One row per victim image, and the reconstructions in the order of the truths, (v, b, c, h, w).

    A victim whose guess or loss is not finite gets null metrics and the reason. The row of an ensemble also holds
    `worst_*`, of every score the best that any member reached on this image, and `members`, the PSNR of each.
    """
    rows, x = _rows(victims, sent, guess, index, judge, gallery)
    others = {name: _rows(victims, sent, own, index, judge, gallery)[0] for name, own in guess.members.items()}
    for i, row in enumerate(rows):
        row |= {"steps": guess.steps, "tuned": tuned}
        if others:
            here = [own for own in (row, *(member[i] for member in others.values())) if own["status"] == "ok"]
            row |= {f"worst_{k}": better((own[k] for own in here), default=None) for k, better in BETTER.items()}
            row["members"] = json.dumps({name: member[i]["psnr"] for name, member in others.items()})
    return rows, x


def _rows(
    victims: Batch, sent: Batch, guess: Guess, index: Tensor, judge: nn.Module, gallery: Tensor
) -> tuple[list[dict[str, Any]], Tensor]:
    v, b = victims.y.shape
    x = in_order_of(victims.x, guess.x)
    failed = ~(x.flatten(1).isfinite().all(1) & guess.loss.isfinite())
    x = torch.where(failed[:, None, None, None, None], torch.zeros_like(x), x)
    flat = {"": (victims.x, x), "_sent": (sent.x, x), "_change": (victims.x, sent.x)}
    columns = {
        name + of: metric.compare(a.flatten(0, 1).double(), g.flatten(0, 1).double())
        for of, (a, g) in flat.items()
        for name, metric in COMPARED.items()
    }
    columns["attacker_accuracy"] = judged_right(judge, x.flatten(0, 1), victims.y.flatten())
    columns["identified"] = identified(gallery, x.flatten(0, 1), index.flatten())
    columns["label_accuracy"] = _overlap(victims.y, guess.labels).repeat_interleave(b)
    columns["loss"] = guess.loss.double().repeat_interleave(b)
    values = {name: column.cpu().tolist() for name, column in columns.items()}
    rows = []
    for i in range(v * b):
        lost = bool(failed[i // b])
        outcome = {"status": "failed", "reason": _reason(guess, i // b)} if lost else {"status": "ok"}
        kept = {name: None if lost and not name.endswith("_change") else column[i] for name, column in values.items()}
        number = int(index.flatten()[i])
        place = {"victim": number // b, "image": i % b, "test_index": number}
        rows.append({**place, **kept, "gallery": len(gallery), **outcome})
    return rows, x


def _reason(guess: Guess, victim: int) -> str:
    return (guess.reasons[victim] if guess.reasons else "") or "matching loss or image not finite"


def _overlap(truth: Tensor, guess: Tensor) -> Tensor:
    """Share of a batch's labels that were found, as multisets, (v,)."""
    classes = int(max(truth.max(), guess.max())) + 1
    counts = [torch.nn.functional.one_hot(labels, classes).sum(1) for labels in (truth, guess.to(truth))]
    return 1 - (counts[0] - counts[1]).abs().sum(1).double() / (2 * truth.shape[1])
