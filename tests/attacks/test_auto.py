"""The ensemble: never below the prior, never fooled by its own ranking, and frank about what went wrong."""

import json
from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks import auto
from gibench.attacks.auto import BUDGETS, AutoInversion, Budget
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.assignment import in_order_of
from gibench.flags import flags
from gibench.judge import gallery_of, judge_net
from gibench.metrics.psnr import PSNR
from gibench.registry import build
from gibench.scoring import score
from gibench.types import Batch, Guess, Images, View

V = 4
AUTO = AutoInversion(budget="quick")
MEMBERS = ["prior_only", "inverting_gradients(steps=80)", "adaptive_matching(steps=80)", "lti(epochs=5, lr=2e-3)"]


class Few(Budget):
    def members(self) -> list[str]:
        return MEMBERS


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "quick", Few(80, 5, 5))


def scene(digits: Parts, defense: str = "none", model: str = "lenet", v: int = V) -> tuple[Batch, View]:
    batch = held(digits.test, v, 1)
    aux = Images(digits.aux.x[:250], digits.aux.y[:250])
    view = seen(net_of(model, 1, 10), batch, 10, build("defenses", defense), labels=False, aux=aux)
    return batch, view


def answered(view: View, attack: AutoInversion = AUTO) -> Guess:
    return attack.answer(view, Draws(("auto",), range(len(view.update["1.weight"]))))


@pytest.fixture(scope="module")
def undefended(digits: Parts) -> tuple[Batch, View, Guess]:
    """One run that several tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "quick", Few(80, 5, 5))
        batch, view = scene(digits)
        return batch, view, answered(view)


def psnr(batch: Batch, guess: Guess) -> torch.Tensor:
    return PSNR().compare(batch.x.flatten(0, 1), in_order_of(batch.x, guess.x).flatten(0, 1))


def raised(view: View, batch: Batch, guess: Guess) -> list[str]:
    each = {"": psnr(batch, guess).tolist()} | {n: psnr(batch, m).tolist() for n, m in guess.members.items()}
    return flags(view, batch, guess, each, Draws(("flags",), range(len(batch.y))))


def test_it_hands_over_what_its_best_member_found(undefended: tuple[Batch, View, Guess]) -> None:
    batch, view, guess = undefended
    assert set(guess.members) == set(MEMBERS)
    each = {name: psnr(batch, member) for name, member in guess.members.items()}
    best = max(each, key=lambda name: float(each[name].mean()))
    assert best != "prior_only"
    assert psnr(batch, guess).mean() > each[best].mean() - 1
    assert psnr(batch, guess).mean() > each["prior_only"].mean() + 8
    assert raised(view, batch, guess) == []


@pytest.mark.parametrize("defense", ["dpsgd(sigma=3)", "prune(p=0.999)"])
def test_it_is_never_below_the_prior(digits: Parts, defense: str) -> None:
    batch, view = scene(digits, defense)
    guess = answered(view)
    floor = psnr(batch, guess.members["prior_only"]).mean()
    assert psnr(batch, guess).mean() >= floor - 0.5


def test_the_worst_of_its_members_is_never_better_than_what_it_hands_over(
    digits: Parts, undefended: tuple[Batch, View, Guess]
) -> None:
    batch, _, guess = undefended
    judge = judge_net(digits, 10, Draws(("judge",)))
    index = torch.arange(V)[:, None]

    def rows(members: dict[str, Guess]) -> list[dict]:
        own = replace(guess, members=members)
        return score(batch, batch, own, index, judge, gallery_of(digits.test), "")[0]

    fewer = dict(list(guess.members.items())[:2])
    for all_of_them, some in zip(rows(dict(guess.members)), rows(fewer), strict=True):
        assert all_of_them["worst_psnr"] >= some["worst_psnr"]  # a further member never lowers it
        assert all_of_them["worst_mse"] <= some["worst_mse"]
        for name, sign in (("psnr", 1), ("ssim", 1), ("mse", -1)):
            assert sign * all_of_them[f"worst_{name}"] >= sign * all_of_them[name]
        assert set(json.loads(all_of_them["members"])) == set(MEMBERS)


def test_it_is_exact_on_a_net_that_begins_with_a_linear_layer(digits: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "quick", Budget(5, 1, 1))
    batch = held(digits.test, 2, 1)
    view = seen(
        net_of("mlp(width=64)", 1, 10), batch, 10, labels=False, aux=Images(digits.aux.x[:64], digits.aux.y[:64])
    )
    guess = AUTO.answer(view, Draws(("auto",), range(2)))
    assert "analytic_fc" in guess.members
    assert psnr(batch, guess).min() > 60


def test_without_auxiliary_images_the_matching_loss_decides(digits: Parts) -> None:
    batch, view = scene(digits)
    guess = answered(replace(view, aux=None, defense=None))
    assert list(guess.members) == ["inverting_gradients(steps=80)"]
    assert psnr(batch, guess).mean() > 25


def test_its_rehearsal_touches_no_victim(digits: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it learns beforehand is the same whoever the victims are."""
    monkeypatch.setitem(globals(), "MEMBERS", ["inverting_gradients(steps=2)", "lti(epochs=1)"])
    _, view = scene(digits, v=2)
    stages = []
    real = auto._rehearsal
    monkeypatch.setattr(auto, "_rehearsal", lambda *args: stages.append(real(*args)) or stages[-1])
    answered(view)
    other = {name: g.flip(0) * 1.5 for name, g in view.update.items()}
    answered(replace(view, update=other))
    first, second = (stage.update for stage in stages)
    assert all(torch.equal(first[name], second[name]) for name in first)


# Every flag is raised by the fault that it is there for.


def test_flag_below_floor_a_search_of_five_steps(digits: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "MEMBERS", ["prior_only", "inverting_gradients(steps=5)"])
    batch, view = scene(digits)
    assert "below_floor: inverting_gradients(steps=5)" in raised(view, batch, answered(view))


def test_flag_unconverged_a_search_that_stopped_early(digits: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "MEMBERS", ["inverting_gradients(steps=5)"])
    batch, view = scene(digits)
    assert "unconverged" in raised(view, batch, answered(view))


def test_flag_unidentified_noise_that_leaves_nothing(digits: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What little the images can do about the noise, a search without a prior does."""
    monkeypatch.setitem(globals(), "MEMBERS", ["adaptive_matching(steps=80, tv=1e-4)"])
    batch, view = scene(digits, "dpsgd(sigma=1)")
    assert "unidentified" in raised(view, batch, answered(view))


def test_flag_masked_a_wrong_mask(digits: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matching looks at the entries that were pruned away; a learned attack does not care."""
    monkeypatch.setitem(globals(), "MEMBERS", ["prior_only", "adaptive_matching(steps=20)", "lti(epochs=15, lr=2e-3)"])
    batch, view = scene(digits, "prune(p=0.9)")
    view = replace(view, aux=Images(digits.aux.x, digits.aux.y))
    true = type(view.defense).match

    def wrong(self: object, view: View) -> object:
        return replace(true(self, view), mask={k: g == 0 for k, g in view.update.items()})

    monkeypatch.setattr(type(view.defense), "match", wrong)
    assert "masked" in raised(view, batch, answered(view))


def test_flag_gap_a_rehearsal_that_misleads(undefended: tuple[Batch, View, Guess]) -> None:
    batch, view, guess = undefended
    misled = replace(guess, x=guess.members["prior_only"].x)
    assert "gap" in raised(view, batch, misled)


def test_flag_failed_more_than_one_victim_in_twenty(digits: Parts) -> None:
    batch, view = scene(digits)
    view = replace(view, update={k: g.clone() for k, g in view.update.items()})
    view.update["1.bias"][0] = torch.nan
    guess = answered(view)
    each = {"": [None, 30.0, 30.0, 30.0]} | {name: [30.0] * V for name in MEMBERS}
    assert "failed" in flags(view, batch, guess, each, Draws(("flags",), range(V)))
