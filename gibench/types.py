"""The nouns that the layers pass to each other: frozen, no behaviour.

Every tensor carries a leading victim axis: `v` independent inversion problems move together. Images live in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from gibench.defenses import Defense
    from gibench.draws import Draws

Update = dict[str, Tensor | None]
"""A message of v clients: one tensor (v, *parameter shape) per parameter name, None where the client does not share
it. Under split learning the activations alone, under their name: {ACTIVATIONS: (v, b, *features)}."""

Kind = Literal["gradient", "delta", "activations"]
"""What a message is made of: one step's gradient, a weight change, or what the client's first layers make of images."""

ACTIVATIONS = "activations"


Params = dict[str, Tensor]
"""Weights of every victim's or client's own, {name: (v, *shape)}."""

Memory = dict[str, Tensor]
"""What every client keeps from one round to the next, (clients, ...) by name; a defense's hooks read and replace it."""

Extra = Mapping[str, Tensor]
"""Unknowns of a search beside the images, (v, ...) by name."""


def victims(update: Update) -> int:
    """How many victims an update speaks of."""
    return next(len(g) for g in update.values() if g is not None)


@dataclass(frozen=True)
class Images:
    """A plain set of labelled images: x (n, c, h, w) in [0, 1], y (n,) integers."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Batch:
    """What v clients hold in one step: x (v, b, c, h, w) and y (v, b) classes, or (v, b, k) probabilities.

    Under Poisson sampling b varies: `weight` (v, b) is 1 where a place is filled and 0 where it is padding, and
    `size` is the expected number of images. `noise` is what the net's random layers use for these images, by layer
    (v, b, ...); a layer without any shows its mean behaviour (`gibench.noise`).
    """

    x: Tensor
    y: Tensor
    weight: Tensor | None = None
    size: int | None = None
    noise: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Local:
    """How a FedAvg client trains before it sends its weight change; public, so the attacker may know it."""

    epochs: int
    lr: float
    momentum: float


@dataclass(frozen=True)
class View:
    """The threat model, whole: what is not here the attacker cannot see."""

    model: nn.Module  # as the server sent it, in the mode in which the client uses it
    update: Update  # the observed message
    kind: Kind
    shape: tuple[int, int, int, int]  # (b, c, h, w) of one victim
    classes: int
    labels: Tensor | None = None  # (v, b), where the threat model gives them
    aux: Images | None = None  # surrogate data, disjoint from clients and victims
    defense: Defense | None = None  # the mechanism and its public state; never its randomness
    studied: Mapping[str, Tensor] = field(default_factory=dict)  # what Defense.study learned before any message
    local: Local | None = None
    rounds: tuple[Update, ...] = ()  # further messages about the same batch and model
    bn: Mapping[str, tuple[Tensor, Tensor]] | None = None  # BatchNorm layer -> the batch's (mean, variance), (v, ch)
    clients: int = 1  # whose messages this is the mean of; each holds an even share of the batch
    cut: int | None = None  # split learning: the client's part of the model ends there, see `gibench.split`
    planted: bool = False  # the model is the attack's own choice (active server), see Attack.plant


@dataclass(frozen=True)
class Guess:
    """What an attack hands over: x (v, b, c, h, w), labels (v, b), its own matching loss (v,) and the steps it took.

    A victim whose loss is not finite has failed; `reasons` says why, one text per victim, where the attack knows.
    """

    x: Tensor
    labels: Tensor
    loss: Tensor
    steps: int
    reasons: tuple[str, ...] = ()
    members: Mapping[str, Guess] = field(default_factory=dict)  # what each attack of an ensemble answered


def same_update(update: Update, draws: Draws) -> Update:
    return update


def same_image(x: Tensor, draws: Draws) -> Tensor:
    return x


def same_guess(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Range:
    """Images that a known decoder can make: (v, b, c, h, w) to codes (v, b, ...) and back."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Match:
    """How a defense is attacked by someone who knows it: the attacker's simulation of it and what to do afterwards."""

    distance: Literal["cos", "l2", "l1"] = "cos"  # between the simulated and the observed message
    labels: Literal["given", "inferred", "joint"] = "given"  # inferred even where given; joint: searched with the image
    linear: bool = True  # the last bias arrives exactly, so that linear matching holds
    mask: Update | None = None  # entries to compare, or factors before comparing; None compares all that are shared
    weight: Mapping[str, float] | None = None  # of a parameter's entries in the distance, 1 if absent, 0 leaves it out
    size: float = 0.0  # weight of the simulated message's squared norm, relative to the observed one's
    input_map: Callable[[Tensor, Draws], Tensor] = same_image  # raw image -> what the model sees, fresh randomness
    example: Callable[[Update], Update] | None = None  # acts on each image's own gradient before the mean
    extra: Callable[[Draws], Extra] | None = None  # where further unknowns start; needs `gradient`, which reads them
    gradient: Callable[[nn.Module, Batch, Extra, Draws], Update] | None = None  # in place of the mean gradient
    penalty: Callable[[Extra], Tensor] | None = None  # on the further unknowns, (v,)
    transform: Callable[[Update, Draws], Update] = same_update  # acts on the simulated mean gradient
    draws: int = 1  # fresh randomness averaged per step (EOT)
    post: Callable[[Tensor], Tensor] = same_guess  # after inversion: (v, b, c, h, w) -> same shape
    range: Range | None = None  # where the search stays, moving codes instead of pixels
    rounds: Literal["mean", "apart"] = "mean"  # average several messages, or invert each and average the images
