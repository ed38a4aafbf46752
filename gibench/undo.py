"""How an attacker who knows a defense of images undoes it: networks that learned altered image -> raw image.

The attack first inverts to the image that the model saw; what then comes back is brought to the raw image by the
better of two families of inverse networks, trained afresh on auxiliary images and fresh randomness. What is undone in
closed form comes `first`, in training as in the attack; it acts on (n, c, h, w).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gibench.draws import Draws
from gibench.learned.inverter import best_inverter, learn_inverters
from gibench.learned.latent import each
from gibench.message import Hooks
from gibench.types import Batch, Images, View, same_guess


def study_images(
    defense: Hooks, aux: Images, draws: Draws, first: Callable[[Tensor], Tensor] = same_guess
) -> dict[str, Tensor]:
    """Inverse networks of a defense's `images` hook."""

    def altered(x: Tensor, own: Draws) -> Tensor:
        labels = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)
        with torch.no_grad():
            return first(defense.images(Batch(x.unsqueeze(1), labels), own.of(range(len(x)))).x.squeeze(1))

    return learn_inverters(aux.x, altered, draws)


def undoing(view: View, first: Callable[[Tensor], Tensor] = same_guess) -> Callable[[Tensor], Tensor]:
    """Images as the model saw them (v, b, c, h, w) -> raw ones, by what `study_images` learned."""
    inverse = best_inverter(view.studied, *view.shape[1:3])
    return each(lambda x: inverse(first(x)))
