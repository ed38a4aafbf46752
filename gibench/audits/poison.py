"""What poisoners send: wrong labels or a trigger in the images, or a message that is scaled or reversed."""

from __future__ import annotations

from dataclasses import replace

from gibench.types import Batch, Update

POISONS = ("label flip", "backdoor", "scaled", "reversed")
PATCH = 4  # pixels along a side of the trigger, white, in the lower right corner
TARGET = 0  # the class that the trigger stands for
FACTORS = {"scaled": 10.0, "reversed": -1.0}


def poisoned_images(name: str, batch: Batch, classes: int) -> Batch:
    """Every label moved to the next class, or the trigger in every image with the target as label."""
    if name == "label flip":
        return replace(batch, y=(batch.y + 1) % classes)
    if name == "backdoor":
        x, y = batch.x.clone(), batch.y.clone()
        x[..., -PATCH:, -PATCH:] = 1
        return replace(batch, x=x, y=y.fill_(TARGET))
    return batch


def poisoned_message(name: str, update: Update) -> Update:
    """Ten times the message, or the message against its direction."""
    factor = FACTORS.get(name, 1.0)
    return {name: None if g is None else factor * g for name, g in update.items()}
