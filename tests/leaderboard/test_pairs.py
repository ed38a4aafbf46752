"""Paired differences and Holm's correction, against planted effects and hand-worked numbers."""

from __future__ import annotations

import invented_matches as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibench.leaderboard import matched, pairs
from gibench.leaderboard.pairs import holm


def one(found: made.made.Results, family: str, other: str, metric: str = "psnr", score: str = "worst") -> dict:
    table = pairs(found)
    chosen = table[(table.metric == metric) & (table.score == score) & (table.family == family)]
    return chosen[chosen.other == other].iloc[0].to_dict()


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04; never falling: .02 .03 .06 .06
    assert np.allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert np.allclose(holm(np.array([0.5, np.nan, 0.6])), [1.0, np.nan, 1.0], equal_nan=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_the_step_down_rule_does(p: list[float]) -> None:
    rejected = np.zeros(len(p), dtype=bool)
    for step, i in enumerate(np.argsort(p, kind="stable")):
        if not p[i] * (len(p) - step) <= 0.05:
            break
        rejected[i] = True
    assert np.array_equal(holm(np.array(p)) <= 0.05, rejected)


def test_identical_defenses_tie() -> None:
    found = made.results({"dpsgd": 24.0, "prune": 24.0}, noise=0.0)
    pair = one(found, "dpsgd", "prune")
    assert (pair["difference"], pair["low"], pair["high"], pair["p"]) == (0.0, 0.0, 0.0, 1.0)
    assert not pair["separated"]
    assert list(matched(found).query("status == 'matched'")["rank"]) == [1, 1]


def test_a_planted_gain_is_found_and_ranks_are_shared() -> None:
    found = made.results()
    pair = one(found, "latent_perturb", "dpsgd")
    assert pair["low"] < pair["difference"] < pair["high"] < -5
    assert pair["difference"] == pytest.approx(-6, abs=0.4)
    assert pair["separated"]
    assert pair["n"] == 60
    assert (pair["victims"], pair["seeds"]) == (30, 2)
    assert one(found, "latent_perturb", "dpsgd", score="oblivious")["separated"]
    table = matched(found).set_index("family")
    assert table["rank"].dropna().to_dict() == {"latent_perturb": 1, "dpsgd": 2, "prune": 2, "clip": 4}


def test_pairing_cancels_what_a_victim_adds_to_both() -> None:
    """A difference of 1 dB among victims that spread over 12 dB: seen in pairs, lost in two separate means."""
    found = made.results({"dpsgd": 24.0, "prune": 25.0}, spread=12.0)
    assert one(found, "dpsgd", "prune")["separated"]
    table = matched(found).set_index("family")
    assert table.loc["dpsgd", "psnr_high"] > table.loc["prune", "psnr_low"]
    rows = found.rows.copy()
    swapped = rows.defense == made.FAMILIES["prune"]
    rows.loc[swapped, "victim"] = 29 - rows.loc[swapped, "victim"]
    assert not one(made.with_rows(found, rows), "dpsgd", "prune")["separated"], "unpaired victims tell nothing"


def test_covers_a_true_difference_about_as_often_as_it_says() -> None:
    from gibench.leaderboard.pairs import Leak, pairs_of
    from gibench.leaderboard.points import GROUP

    rng = np.random.default_rng(8)
    planned = made.made.cells(defenses=("none",), checkpoints=("init",))[:1]
    rows = made.made.rows(planned, 40, lambda cell, victim, image: 0.0)
    covered = 0
    for _ in range(150):
        common = rng.normal(size=40)
        images = [rows.assign(psnr=common + shift + rng.normal(size=40)) for shift in (1.0, 0.0)]
        leaks = [Leak(dict.fromkeys(GROUP, "x"), name, {"worst": i}) for name, i in zip("ab", images, strict=True)]
        pair = pairs_of(leaks).set_index("metric").loc["psnr"]
        covered += pair["low"] <= 1.0 <= pair["high"]
    assert 0.89 <= covered / 150 <= 0.99


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Every victim of one seed moves together: two trainings are two, not sixty."""
    found = made.results({"dpsgd": 24.0, "prune": 24.0}, noise=0.3)
    rows = found.rows.copy()
    rows.loc[(rows.defense == made.FAMILIES["dpsgd"]) & (rows.seed == 1), "psnr"] += 5
    pair = one(made.with_rows(found, rows), "dpsgd", "prune")
    assert pair["low"] < 0.5 < 4.5 < pair["high"]
    assert not pair["separated"]


def test_relative_changes_are_of_the_other_mean() -> None:
    pair = one(made.results(noise=0.0), "latent_perturb", "dpsgd", "mse")
    assert pair["relative"] == pytest.approx(pair["mean"] / pair["other_mean"] - 1)
    assert pair["relative"] == pytest.approx(10**0.6 - 1), "6 dB less for every victim"
    assert pair["relative_low"] == pytest.approx(pair["relative_high"])
    assert np.isnan(one(made.results(), "latent_perturb", "dpsgd")["relative"])


def test_one_victim_says_nothing() -> None:
    pair = one(made.results(victims=1), "dpsgd", "prune")
    assert np.isnan([pair["low"], pair["high"], pair["p"], pair["p_holm"]]).all()
    assert not pair["separated"]
