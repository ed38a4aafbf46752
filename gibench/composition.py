"""Two adaptive attacks as one: how someone who knows both of two stacked defenses simulates and undoes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor

from gibench.draws import Draws
from gibench.types import Match, Update, same_guess, same_image, same_update

LABELS = ("given", "inferred", "joint")  # from what a defense leaves readable to what it does not


def composed(first: Match, then: Match) -> Match:
    """The attack on both, `first` acting before `then`: simulated in this order, undone in the other."""

    def inputs(x: Tensor, draws: Draws) -> Tensor:
        return then.input_map(first.input_map(x, draws.at(0)), draws.at(1))

    def transform(update: Update, draws: Draws) -> Update:
        return then.transform(first.transform(update, draws.at(0)), draws.at(1))

    weight = dict(first.weight or {})
    weight |= {name: weight.get(name, 1.0) * w for name, w in (then.weight or {}).items()}
    gradient = first if first.gradient is not None else then
    neither = first.input_map is same_image and then.input_map is same_image
    plain = first.transform is same_update and then.transform is same_update
    return Match(
        distance=then.distance if then.distance != "cos" else first.distance,
        labels=max(first.labels, then.labels, key=LABELS.index),
        linear=first.linear and then.linear,
        mask=_both(first.mask, then.mask),
        weight=weight or None,
        size=max(first.size, then.size),
        input_map=same_image if neither else inputs,
        example=first.example or then.example,
        extra=gradient.extra,
        gradient=gradient.gradient,
        penalty=gradient.penalty,
        transform=same_update if plain else transform,
        draws=max(first.draws, then.draws),
        range=first.range or then.range,
        rounds="apart" if "apart" in (first.rounds, then.rounds) else "mean",
        post=_chain(then.post, first.post),
    )


def _both(a: Update | None, b: Update | None) -> Update | None:
    if a is None or b is None:
        return b if a is None else a
    return {name: None if m is None or b[name] is None else m * cast(Tensor, b[name]) for name, m in a.items()}


def _chain(first: Callable[[Tensor], Tensor], then: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if first is same_guess or then is same_guess:
        return then if first is same_guess else first
    return lambda x: then(first(x))
