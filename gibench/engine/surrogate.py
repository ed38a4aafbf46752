"""The attacker's own images as the model would see them: what a learned prior has to know about."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gibench.draws import Draws
from gibench.engine.search import as_gradient
from gibench.message import mean_message, rounds_seen
from gibench.types import Batch, Match, View, same_guess, same_image

PUBLIC = Draws(("public prior",))
"""What a prior of images is learned with: it depends on the images alone, so that all cells share one."""


def searched_images(view: View, match: Match, draws: Draws) -> Tensor:
    """(n, c, h, w): auxiliary images of the kind that the search looks for.

    A match with an `input_map` puts the defense into the simulation, so that raw images are searched for. Without
    one the search finds what the model saw, which is what the known defense makes of an image.
    """
    assert view.aux is not None
    if view.defense is None or match.input_map is not same_image:
        return view.aux.x
    return seen_by_model(view, view.aux.x, draws)


def seen_by_model(view: View, x: Tensor, draws: Draws) -> Tensor:
    """Raw images (n, c, h, w) -> what the known defense lets the model see, fresh randomness for each."""
    assert view.defense is not None
    alone = Batch(x.unsqueeze(1), torch.zeros(len(x), 1, dtype=torch.long, device=x.device))
    return view.defense.images(alone, draws.of(range(len(x)))).x.squeeze(1)


def at_rest(view: View) -> View:
    """One message that points uphill: the mean of all that were observed."""
    return as_gradient(replace(view, update=mean_message([view.update, *view.rounds]), rounds=()))


def rehearsal(view: View, batch: Batch, draws: Draws) -> View:
    """The view, `at_rest`, that clients holding `batch` would give, averaged over as many rounds as were observed."""
    assert view.defense is not None
    clients = draws.of(range(len(batch.y)))
    messages = rounds_seen(view.model, view.defense, batch, clients, 1 + len(view.rounds), view.local, cut=view.cut)
    labels = None if view.labels is None else batch.y
    return at_rest(replace(view, update=mean_message(messages), rounds=(), labels=labels, bn=None))


def aux_batches(view: View, most: int, draws: Draws) -> Batch:
    """At most `most` batches of the victims' size, drawn from the auxiliary images."""
    assert view.aux is not None
    b = view.shape[0]
    order = draws.permutation(len(view.aux.y))[0][: min(most, len(view.aux.y) // b) * b].to(view.aux.y.device)
    return Batch(view.aux.x[order].unflatten(0, (-1, b)), view.aux.y[order].unflatten(0, (-1, b)))


def without_post(match: Match) -> Match:
    """The match that leaves what was found as it is, for those who undo the defense themselves."""
    return replace(match, post=same_guess)
