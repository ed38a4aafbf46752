"""The attacker's own images as the model would see them: what a learned prior has to know about."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gibench.draws import Draws
from gibench.engine.search import as_gradient
from gibench.message import make_message, mean_message, transmitted
from gibench.types import Batch, Match, View, same_guess, same_image


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
    return transmitted(view.defense, alone, draws.of(range(len(x))), view.local).x.squeeze(1)


def at_rest(view: View) -> View:
    """One message that points uphill: the mean of all that were observed."""
    return as_gradient(replace(view, update=mean_message([view.update, *view.rounds]), rounds=()))


def rehearsal(view: View, batch: Batch, draws: Draws) -> View:
    """The view, `at_rest`, that clients holding `batch` would give, averaged over as many rounds as were observed."""
    assert view.defense is not None
    clients = draws.of(range(len(batch.y)))
    rounds = range(1 + len(view.rounds))
    messages = [make_message(view.model, view.defense, batch, clients.at(r), view.local) for r in rounds]
    labels = None if view.labels is None else batch.y
    return at_rest(replace(view, update=mean_message(messages), rounds=(), labels=labels, bn=None))


def aux_batches(view: View, most: int, draws: Draws) -> Batch:
    """At most `most` batches of the victims' size, drawn from the auxiliary images."""
    assert view.aux is not None
    b = view.shape[0]
    order = draws.permutation(len(view.aux.y))[0][: min(most, len(view.aux.y) // b) * b].to(view.aux.y.device)
    return Batch(view.aux.x[order].unflatten(0, (-1, b)), view.aux.y[order].unflatten(0, (-1, b)))


def aligned(truth: Tensor, guess: Tensor) -> Tensor:
    """The truths (v, b, c, h, w) of every batch in the order of the guesses that they fit best."""
    if truth.shape[1] == 1:
        return truth
    cost = (guess.unsqueeze(2) - truth.unsqueeze(1)).square().flatten(3).mean(3)
    order = torch.stack([torch.as_tensor(linear_sum_assignment(c.cpu().numpy())[1]) for c in cost]).to(truth.device)
    return torch.stack([images[chosen] for images, chosen in zip(truth, order, strict=True)])


def without_post(match: Match) -> Match:
    """The match that leaves what was found as it is, for those who undo the defense themselves."""
    return replace(match, post=same_guess)
