"""What an attacker answers for the images that it did not find."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gibench.types import View


def substitute(view: View) -> Tensor:
    """The mean auxiliary image, or without auxiliary data a grey one, (c, h, w)."""
    if view.aux is not None:
        return view.aux.x.mean(0)
    like = next(g for g in view.update.values() if g is not None)
    return torch.full(view.shape[1:], 0.5).to(like)


def completed(found: Sequence[Tensor], view: View) -> Tensor:
    """(v, b, c, h, w) in [0, 1] from each victim's found images (k, c * h * w), at most b, in the update's dtype."""
    like = next(g for g in view.update.values() if g is not None)
    x = substitute(view).to(like).expand(len(found), *view.shape).clone()
    for images, place in zip(found, x, strict=True):
        place[: len(images)] = images.to(like).view(-1, *view.shape[1:])[: view.shape[0]]
    return x.clamp(0, 1)
