"""Attacks: from what the threat model lets the server see to a guess of the images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from gibench.draws import Draws
from gibench.errors import InputError
from gibench.registry import Entry
from gibench.split import smashed
from gibench.types import ACTIVATIONS, Guess, Images, Kind, Update, View

if TYPE_CHECKING:
    from gibench.defenses import Defense


class Attack(Entry):
    """An attack solves all victims of a view together.

    `needs` names the capabilities that the threat model must grant (`gibench.threat`), `reads` the kinds of message
    that it can be about. A field of `tunes` that is
    left at None is chosen from its candidates on the tuning images and then frozen.
    """

    adaptive: ClassVar[bool] = False  # uses what the view tells about the defense
    control: ClassVar[bool] = False  # a reference that runs under every threat model
    reads: ClassVar[frozenset[Kind]] = frozenset({"gradient", "delta"})
    tunes: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        """Images in [0, 1] for every victim of the view, whose messages are finite and complete."""
        raise NotImplementedError

    def required(self) -> frozenset[str]:
        """The capabilities that this attack asks for at its settings: all or some of `needs`."""
        return self.needs

    def readable(self) -> frozenset[Kind]:
        """The kinds of message that this attack reads at its settings: all or some of `reads`."""
        return self.reads

    def misread(self, kind: Kind) -> str:
        """Why such a message tells this attack nothing; empty if it reads it."""
        read = " or a ".join(sorted(self.readable() - {ACTIVATIONS}, reverse=True))
        wanted = f"a {read}" if read else ACTIVATIONS
        return "" if kind in self.readable() else f"reads {wanted}; the client sends {_article(kind)}"

    def unfit(self, net: nn.Module, batch: int, kind: str) -> str:
        """Why this attack cannot handle such a model, batch size or kind of message; empty if it can.

        The net may live on the meta device: its layers may be looked at, its weights not.
        """
        return ""

    def unmatched(self, defense: Defense, net: nn.Module) -> str:
        """Why this attack has nothing to work with under the defense; empty if it has. `net` as in `unfit`."""
        return ""

    def plant(self, net: nn.Module, shape: tuple[int, ...], aux: Images | None, draws: Draws) -> nn.Module:
        """The model that an active server sends instead of `net`, for batches of `shape` (b, c, h, w).

        Returns a new net and leaves the given one alone. Such attacks need `active_server`.
        """
        return net

    def hindrance(self, view: View) -> str:
        """Why this attack cannot answer this view; empty if it can."""
        needs = self.required()
        if self.adaptive and view.defense is not None:
            needs = needs | view.defense.match_needs
        against = "" if view.defense is None else self.unmatched(view.defense, view.model)
        fits = self.unfit(view.model, view.shape[0], view.kind)
        return self.misread(view.kind) or _lacking(needs, view) or fits or against

    def answer(self, view: View, draws: Draws) -> Guess:
        """`reconstruct` behind its checks.

        Raises InputError, naming the attack, for a view that lacks what it needs, a model that it cannot handle,
        labels out of range, and an update with missing, additional or misshapen tensors. A victim whose update holds
        NaN or infinities fails alone: its loss is NaN and its reason says so.
        """
        problem = (
            self.misread(view.kind)
            or _lacking(self.required(), view)
            or self.unfit(view.model, view.shape[0], view.kind)
            or ("" if view.defense is None else self.unmatched(view.defense, view.model))
            or _malformed(view, self.control)
        )
        if problem:
            raise InputError(f"{self.entry_name()}: {problem}")
        broken = torch.stack([_broken(update) for update in (view.update, *view.rounds)]).any(0)
        if not bool(broken.any()):
            return self.reconstruct(view, draws)
        mended = replace(
            view, update=_zeroed(view.update, broken), rounds=tuple(_zeroed(u, broken) for u in view.rounds)
        )
        guess = self.reconstruct(mended, draws)
        known = guess.reasons or ("",) * len(broken)
        reasons = tuple(
            "the update holds NaN or infinite values" if bad else reason
            for bad, reason in zip(broken.tolist(), known, strict=True)
        )
        return replace(guess, loss=torch.where(broken, torch.nan, guess.loss), reasons=reasons)

    def rehearse(self, view: View, candidates: Sequence[dict[str, Any]], draws: Draws) -> list[Guess]:
        """One guess per candidate setting of the open fields, on images that the attacker knows."""
        return [replace(self, **chosen).reconstruct(view, draws) for chosen in candidates]  # type: ignore[type-var]

    def open_fields(self) -> dict[str, tuple[Any, ...]]:
        """The tunable fields that are still to be chosen, with their candidates."""
        return {name: values for name, values in self.tunes.items() if getattr(self, name) is None}

    def candidates(self) -> list[dict[str, Any]]:
        """Every combination of the open fields' candidates."""
        fields = self.open_fields()
        return [dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())]


def _lacking(needs: frozenset[str], view: View) -> str:
    """What the view does not hold of what is needed. A batch size of a view is always there."""
    held = {
        "labels": view.labels is not None,
        "aux_data": view.aux is not None,
        "defense_spec": view.defense is not None,
        "defense_params": view.defense is not None and bool(view.defense.state or view.studied),
        "bn_stats": view.bn is not None,
        "local_hparams": view.local is not None or view.kind != "delta",
        "active_server": view.planted,
    }
    lacking = sorted(need for need in needs if not held.get(need, True))
    return f"needs {', '.join(lacking)}, which this view does not hold" if lacking else ""


def _malformed(view: View, blind: bool) -> str:
    """What is wrong with the view; `blind`: an attack that looks at no update."""
    wanted, what = _expected(view)
    if view.labels is not None and not bool(((view.labels >= 0) & (view.labels < view.classes)).all()):
        return f"labels must lie in 0..{view.classes - 1}, got {int(view.labels.min())}..{int(view.labels.max())}"
    victims = {len(g) for update in (view.update, *view.rounds) for g in update.values() if g is not None}
    victims |= set() if view.labels is None else {len(view.labels)}
    if len(victims) > 1:
        counts = ", ".join(map(str, sorted(victims)))
        return f"the update's tensors or the labels disagree on the number of victims: {counts}"
    for update in (view.update, *view.rounds):
        if absent := wanted.keys() - update.keys():
            return f"the update lacks the {what} '{min(absent)}' (None marks one that is not shared)"
        if extra := update.keys() - wanted.keys():
            return f"the update holds '{min(extra)}', which is no {what} of the model"
        for name, g in update.items():
            if g is None:
                continue
            if g.shape[1:] != wanted[name].shape:
                return f"'{name}' has the shape {tuple(g.shape)}; wanted is (victims, *{tuple(wanted[name].shape)})"
            if g.dtype != wanted[name].dtype:
                return f"'{name}' is {g.dtype}; the model's {what} is {wanted[name].dtype}"
        if not blind and all(g is None for g in update.values()):
            return f"the update shares no {what} at all"
    return ""


def _expected(view: View) -> tuple[dict[str, Tensor], str]:
    """A tensor of the shape and the type that each of the update's has behind its victims, and what it is called."""
    if view.kind != ACTIVATIONS:
        return dict(view.model.named_parameters()), "parameter"
    assert view.cut is not None
    with torch.no_grad():
        like = next(view.model.parameters())
        return {ACTIVATIONS: smashed(view.model, like.new_zeros(view.shape), view.cut)}, "activation"


def _article(kind: Kind) -> str:
    return kind if kind == ACTIVATIONS else f"a {kind}"


def _broken(update: Update) -> Tensor:
    """Victims whose update is not finite, (v,); one False where nothing is shared."""
    bad = [~g.flatten(1).isfinite().all(1) for g in update.values() if g is not None]
    return torch.stack(bad).any(0) if bad else torch.zeros(1, dtype=torch.bool)


def _zeroed(update: Update, broken: Tensor) -> Update:
    return {
        name: None if g is None else torch.where(broken.view(-1, *[1] * (g.dim() - 1)), torch.zeros_like(g), g)
        for name, g in update.items()
    }
