"""Inverse network (Wu et al. 2020): a network learned on auxiliary images maps what the model saw back to the image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.attacks.vae_prior import decoded
from gibench.draws import Draws
from gibench.engine.labels import head, labels_of
from gibench.engine.objective import Plan
from gibench.engine.surrogate import at_rest, aux_batches, rehearsal, searched_images, seen_by_model, without_post
from gibench.errors import InputError
from gibench.learned.decoder import Decoder, Upwards
from gibench.learned.fit import minimise, seeded
from gibench.learned.inverter import best_inverter, learn_inverters
from gibench.types import ACTIVATIONS, Guess, Kind, View

if TYPE_CHECKING:
    from gibench.defenses import Defense


@dataclass(frozen=True)
class InverseNetwork(AdaptiveMatching):
    """`at = "image"`: matching finds what the model saw, and the better of two families undoes the known defense.

    `at = "features"`: one image's message holds the last layer's input h, as dW_c = db_c h; a decoder maps what is
    left of h in simulated messages back to the image, without any search. This is the paper's attack on split
    learning, cut before the last layer.
    Paper: the smashed value is read off an update, as nobody sends it here, and h is divided by its length, which
    pruning and noise would change most.

    `at = "activations"`: the paper's attack itself, on what a client of split learning sends at any cut.
    """

    citation: ClassVar[str] = (
        "Wu, Zhang, Ding, Nguyen, Yu, Pan, Wong: Evaluation of inference attack models for deep learning on medical "
        "data, 2020, arXiv 2011.00177"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"batch_size", "aux_data", "defense_spec"})
    reads: ClassVar[frozenset[Kind]] = frozenset({"gradient", "delta", "activations"})
    at: Literal["image", "features", "activations"] = "image"
    epochs: Annotated[int, Field(ge=1)] = 30

    def readable(self) -> frozenset[Kind]:
        sent: frozenset[Kind] = frozenset({"activations"})
        return sent if self.at == ACTIVATIONS else self.reads - sent

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        mixed = self.at == "features" and batch > 1
        return f"reads the features of one image per message; a batch of {batch} mixes them" if mixed else ""

    def unmatched(self, defense: Defense, net: nn.Module) -> str:
        kept = defense.withheld([name for name, _ in net.named_parameters()])
        if self.at == "features" and f"{head(net)}.weight" in kept:
            return f"reads the last weight's gradient, which {defense.entry_name()} withholds"
        return super().unmatched(defense, net)

    def open_fields(self) -> dict[str, tuple[Any, ...]]:
        """Without a search there is nothing to tune."""
        return super().open_fields() if self.at == "image" else {}

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        return super().reconstruct(view, draws) if self.at == "image" else self._decode(view, draws)

    def plan(self, view: View) -> Plan:
        plan = super().plan(view)
        return replace(plan, match=without_post(plan.match))

    def invert(self, view: View, tv: float | Tensor, draws: Draws) -> Guess:
        assert view.aux is not None
        guess = super().invert(view, tv, draws)
        once = draws.of((0,)).at("learn")
        if torch.equal(searched_images(view, self.plan(view).match, once.at("images")), view.aux.x):
            return guess  # the search is for raw images: nothing to undo

        def seen(x: Tensor, own: Draws) -> Tensor:  # as often as the victims were observed
            further = [seen_by_model(view, x, own.at("round", r)) for r in range(len(view.rounds))]
            return torch.stack([seen_by_model(view, x, own), *further]).mean(0)

        learned = learn_inverters(view.aux.x, seen, once, self.epochs)
        net = best_inverter(learned, *view.shape[1:3])
        with torch.no_grad():
            return replace(guess, x=decoded(net, guess.x).clamp(0, 1))

    def _decode(self, view: View, draws: Draws) -> Guess:
        assert view.aux is not None
        once = draws.of((0,)).at("learn")
        known = aux_batches(view, len(view.aux.y), once.at("pairs"))
        x, (c, side) = known.x.flatten(0, 1), view.shape[1:3]

        def seen(time: int) -> Tensor:
            return _read(rehearsal(view, known, once.at("messages", time)))

        first = seen(0)
        centre, spread = _spread(first)
        form = tuple(first.shape[1:])
        net = seeded(
            once.at("decoder"), lambda: Decoder(form, c, side) if self.at == ACTIVATIONS else Upwards(form[0], c, side)
        ).to(x)
        again = 8 if view.defense is not None and view.defense.stochastic else 1
        kept = (torch.stack([first, *(seen(time) for time in range(1, again))]) - centre) / spread
        if isinstance(net, Decoder):
            net.solve(kept, x)

        def loss(chosen: Tensor, step: Draws) -> Tensor:
            which = torch.randint(len(kept), chosen.shape, generator=step.generator()).to(chosen)
            return F.mse_loss(net(kept[which, chosen]), x[chosen])

        size = 16 if self.at == ACTIVATIONS else 64
        minimise(net.parameters(), loss, len(x), epochs=self.epochs, lr=2e-3, draws=once.at("fit"), size=size)
        view = at_rest(view)
        with torch.no_grad():
            guess = net((_read(view) - centre) / spread).clamp(0, 1).view(-1, *view.shape)
        return Guess(guess, labels_of(view, view.update), torch.zeros(len(guess)).to(guess), self.epochs)


def _read(view: View) -> Tensor:
    """What a message tells of every image, (images, *features)."""
    seen = view.update.get(ACTIVATIONS)
    return _features(view) if seen is None else seen.flatten(0, 1)


def _spread(features: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and spread by which features are normalised, for maps a channel at a time."""
    if features.dim() == 2:
        return features.mean(0), features.std(0).mean()
    return features.mean((0, 2, 3), keepdim=True)[0], features.std((0, 2, 3), keepdim=True)[0].clamp(min=1e-6)


def _features(view: View) -> Tensor:
    """(v, features) of length 1: the last layer's input, least squares over the rows, weighed by the bias.

    Where the bias is not there or pruned to zeros, the true class's row shows the direction, turned about.
    """
    name = head(view.model)
    weight, bias = view.update[f"{name}.weight"], view.update.get(f"{name}.bias")
    if weight is None:
        raise InputError("inverse_network: reads the last weight's gradient, which the client does not share")
    row = F.one_hot(labels_of(view, view.update)[:, 0], view.classes).to(weight)
    bias = -row if bias is None else torch.where((bias != 0).any(1, keepdim=True), bias, -row)
    return _unit(torch.einsum("vk,vkf->vf", _unit(bias), weight))


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1. A confident example's gradient can be so small that its square is nothing."""
    tiny = x.norm(dim=1, keepdim=True) < 1e-15
    x = torch.where(tiny, x / x.abs().amax(1, keepdim=True).clamp(min=1e-44), x)
    return F.normalize(x, dim=1, eps=1e-30)
