"""AutoInversion: every attack that the view permits, rehearsed on auxiliary images; nothing to tune or to mistune.

After the idea of AutoAttack (Croce & Hein, ICML 2020, arXiv 2003.01690): a fixed ensemble instead of one hand-tuned
attack.
"""

from __future__ import annotations

from dataclasses import dataclass as plain
from dataclasses import replace
from typing import ClassVar, Literal, cast

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.attacks import Attack
from gibench.bn import statistics_of
from gibench.draws import Draws
from gibench.engine.assignment import in_order_of
from gibench.engine.chunks import joined_views
from gibench.engine.explain import matching_loss, unlearned
from gibench.message import Hooks, rounds_seen
from gibench.registry import build
from gibench.types import ACTIVATIONS, Batch, Guess, Images, Kind, View

REHEARSAL = 1 << 40  # members of the streams that rehearsal images draw from; no victim has such a number
TIE_DB = 1.0  # members within this much of the best rehearsed one are told apart by their matching loss


@plain(frozen=True)
class Budget:
    """What one preset buys."""

    steps: int
    epochs: int
    images: int  # rehearsed

    def members(self) -> list[str]:
        """The ensemble, controls first; which of them take part is up to the view."""
        n = self.steps
        few = [
            "prior_only",
            "analytic_fc",
            "spear",
            f"idlg(steps={n}, restarts=1)",
            f"inverting_gradients(steps={n})",
            f"adaptive_matching(steps={n})",
            f'adaptive_matching(steps={n}, distance="cos")',
            f'adaptive_matching(steps={n}, distance="l2")',
            f"bn_matching(steps={n})",
            f"fedavg_matching(steps={n})",
            f"lti(epochs={self.epochs}, lr=2e-3)",
            f'inverse_network(at="features", epochs={self.epochs})',
            f"activation_matching(steps={n})",
            f"adaptive_activation_matching(steps={n})",
            f'inverse_network(at="activations", epochs={self.epochs})',
        ]
        return few if n < 1000 else [*few, f"gradinversion(steps={n})", "vae_prior"]


BUDGETS = {"quick": Budget(120, 10, 6), "std": Budget(1000, 30, 16), "full": Budget(4000, 60, 16)}


@dataclass(frozen=True)
class AutoInversion(Attack):
    """The only field is the budget. Two answers come back: `x`, per victim the candidate that the attacker would hand
    over, and `members`, what every attack of the ensemble found, of which scoring takes the best per image.

    The attacker plays the whole game on auxiliary images under the defense and the checkpoint that it knows, with the
    truth in hand; that chooses the weight of the prior and ranks the members. Members within 1 dB of the best are told
    apart, victim by victim, by how well their candidate explains the message through the simulated defense. Without
    auxiliary data weights of priors take a moderate value and the matching loss alone decides.
    """

    citation: ClassVar[str] = (
        "gibench; after Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse "
        "parameter-free attacks, ICML 2020, arXiv 2003.01690"
    )
    adaptive: ClassVar[bool] = True
    reads: ClassVar[frozenset[Kind]] = frozenset({"gradient", "delta", "activations"})
    budget: Literal["quick", "std", "full"] = "std"

    def reconstruct(self, view: View, draws: Draws) -> Guess:
        b = view.shape[0]
        n = min(max(BUDGETS[self.budget].images // b, 4), BUDGETS[self.budget].images)
        if view.aux is None or len(view.aux.y) < 4 * n * b:
            return self._unrehearsed(view, draws)
        kept, held = len(view.aux.y) - n * b, slice(len(view.aux.y) - n * b, None)
        truth = Batch(view.aux.x[held].unflatten(0, (n, b)), view.aux.y[held].unflatten(0, (n, b)))
        view = replace(view, aux=Images(view.aux.x[:kept], view.aux.y[:kept]))
        streams = draws.of(range(REHEARSAL, REHEARSAL + n))
        stage = _rehearsal(view, truth, streams)
        both, everyone = joined_views(stage, view), draws.of((*streams.members, *draws.members))
        answers, marks = {}, {}
        for spec, attack in self._members(view).items():
            if attack.open_fields():
                options = attack.candidates()
                tried = attack.rehearse(stage, options, streams.at("rehearse", spec))
                scores = [_mean_psnr(truth.x, guess.x) for guess in tried]
                attack = replace(attack, **options[scores.index(max(scores))])  # type: ignore[type-var]
            guess = attack.reconstruct(both, everyone.at(spec))
            marks[spec] = _mean_psnr(truth.x, guess.x[:n])
            answers[spec] = _part(guess, slice(n, None))
        best = max(marks.values())
        leading = [spec for spec, mark in marks.items() if mark >= best - TIE_DB]
        return self._chosen(view, answers, leading, draws)

    def _unrehearsed(self, view: View, draws: Draws) -> Guess:
        answers = {}
        for spec, attack in self._members(view).items():
            middle = {name: values[(len(values) - 1) // 2 - 1] for name, values in attack.open_fields().items()}
            answers[spec] = replace(attack, **middle).reconstruct(view, draws.at(spec))  # type: ignore[type-var]
        return self._chosen(view, answers, list(answers), draws)

    def _members(self, view: View) -> dict[str, Attack]:
        """The attacks whose needs the view grants, that can handle the model, and every way to attack its defense."""
        found, budget = {}, BUDGETS[self.budget]
        variants = () if view.defense is None else view.defense.variants
        further = [f'adaptive_matching(steps={budget.steps}, variant="{name}")' for name in variants]
        for spec in [*budget.members(), *further]:
            attack = cast(Attack, build("attacks", spec))
            if not attack.hindrance(view) and not _same_distance(attack, view):
                found[spec] = attack
        if not found:
            raise ValueError("auto: no attack can use so little as this view grants; it takes the batch size at least")
        return found

    @staticmethod
    def _chosen(view: View, answers: dict[str, Guess], leading: list[str], draws: Draws) -> Guess:
        losses = torch.stack([matching_loss(view, answers[spec], draws.at("judge")) for spec in leading])
        pick = losses.nan_to_num(torch.inf).argmin(0).tolist()
        handed = [_part(answers[leading[k]], slice(i, i + 1)) for i, k in enumerate(pick)]
        steps = sum(guess.steps for guess in answers.values())
        rows = torch.arange(len(pick), device=losses.device)
        loss = losses[torch.tensor(pick, device=losses.device), rows]
        x, labels = torch.cat([g.x for g in handed]), torch.cat([g.labels for g in handed])
        return Guess(x, labels, loss, steps, members=answers)


def _rehearsal(view: View, truth: Batch, draws: Draws) -> View:
    """What the server would see of images that the attacker knows, made by the defense as far as it is known."""
    known = view.defense is not None and not unlearned(view)
    defense = view.defense if known and view.defense is not None else build("defenses", "none")
    rounds = 1 + len(view.rounds)
    made = rounds_seen(view.model, cast(Hooks, defense), truth, draws.at("round"), rounds, view.local, cut=view.cut)
    shared = [{name: None if view.update[name] is None else g for name, g in message.items()} for message in made]
    bn = None
    if view.bn is not None:
        with torch.no_grad():
            bn = statistics_of(view.model, truth.x)
    labels = None if view.labels is None else truth.y
    return replace(view, update=shared[0], rounds=tuple(shared[1:]), labels=labels, bn=bn)


def _same_distance(attack: Attack, view: View) -> bool:
    """Whether its distance is the one that the defense names anyway, which another member uses."""
    named = getattr(attack, "distance", "match")
    return view.kind != ACTIVATIONS and view.defense is not None and named == view.defense.match(view).distance


def _part(guess: Guess, part: slice) -> Guess:
    reasons = guess.reasons[part] if guess.reasons else ()
    return Guess(guess.x[part], guess.labels[part], guess.loss[part], guess.steps, reasons)


def _mean_psnr(truth: Tensor, guess: Tensor) -> float:
    error = (truth - in_order_of(truth, guess)).square().flatten(2).mean(2).nan_to_num(1.0)
    return float((-10 * error.clamp(min=1e-10).log10()).mean())
