"""One-to-one matching of guessed and true images within a batch, whose order no message gives away."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match_images(truth: Tensor, guess: Tensor) -> Tensor:
    """For each victim the order of guesses that minimises the total squared error, (v, b) indices into the guesses."""
    v, b = truth.shape[:2]
    if b == 1:
        return torch.zeros(v, 1, dtype=torch.long, device=truth.device)
    cost = (truth.unsqueeze(2) - guess.unsqueeze(1)).square().flatten(3).mean(3).nan_to_num(1e9)
    return torch.stack([torch.as_tensor(linear_sum_assignment(c.cpu().numpy())[1]) for c in cost]).to(truth.device)


def in_order_of(truth: Tensor, guess: Tensor) -> Tensor:
    """The guesses (v, b, c, h, w) in the order of the truths."""
    return torch.stack([x[order] for x, order in zip(guess, match_images(truth, guess), strict=True)])
