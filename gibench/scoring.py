"""From guesses to rows: one-to-one matching within a batch, then every metric per image."""

from __future__ import annotations

from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from gibench.judge import identified, judged_right
from gibench.metrics.mse import MSE
from gibench.metrics.psnr import PSNR
from gibench.metrics.ssim import SSIM
from gibench.types import Batch, Guess

COMPARED = {"mse": MSE(), "psnr": PSNR(), "ssim": SSIM()}


def match_images(truth: Tensor, guess: Tensor) -> Tensor:
    """For each victim the order of guesses that minimises the total squared error, (v, b) indices into the guesses."""
    v, b = truth.shape[:2]
    if b == 1:
        return torch.zeros(v, 1, dtype=torch.long, device=truth.device)
    cost = (truth.unsqueeze(2) - guess.unsqueeze(1)).square().flatten(3).mean(3).nan_to_num(1e9)
    return torch.stack([torch.as_tensor(linear_sum_assignment(c.cpu().numpy())[1]) for c in cost]).to(truth.device)


def score(
    victims: Batch, sent: Batch, guess: Guess, index: Tensor, judge: nn.Module, gallery: Tensor, tuned: str
) -> tuple[list[dict[str, Any]], Tensor]:
    """One row per victim image, and the reconstructions in the order of the truths, (v, b, c, h, w).

    A victim whose guess or loss is not finite gets null metrics and the reason.
    """
    v, b = victims.y.shape
    order = match_images(victims.x, guess.x)
    x = torch.stack([images[chosen] for images, chosen in zip(guess.x, order, strict=True)])
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
        outcome = (
            {"status": "failed", "reason": guess.reason or "matching loss or image not finite"}
            if lost
            else {"status": "ok"}
        )
        kept = {name: None if lost and not name.endswith("_change") else column[i] for name, column in values.items()}
        place = {"victim": i // b, "image": i % b, "test_index": int(index.flatten()[i])}
        rows.append({**place, **kept, "gallery": len(gallery), "steps": guess.steps, "tuned": tuned, **outcome})
    return rows, x


def _overlap(truth: Tensor, guess: Tensor) -> Tensor:
    """Share of a batch's labels that were found, as multisets, (v,)."""
    classes = int(max(truth.max(), guess.max())) + 1
    counts = [torch.nn.functional.one_hot(labels, classes).sum(1) for labels in (truth, guess.to(truth))]
    return 1 - (counts[0] - counts[1]).abs().sum(1).double() / (2 * truth.shape[1])
