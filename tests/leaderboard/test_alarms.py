"""Planted faults are flagged and honest results are not: the bound of differential privacy, and the order of knobs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic_results as made

from gibench.bounds import gaussian
from gibench.leaderboard import aggregate
from gibench.leaderboard.alarms import with_alarms
from gibench.report import render

DP, WEAK, STRONG = (f"dpsgd(sigma={sigma})" for sigma in (0.1, 0.03, 0.3))


def board(
    defenses: tuple[str, ...] = ("none", DP),
    level: Callable[[dict[str, Any], int, int], float] = made.usual,
    victims: int = 10,
    mu: float = 1.0,
    **cell: Any,
) -> pd.DataFrame:
    return aggregate(results(defenses, level, victims, mu, **cell))


def results(defenses: tuple[str, ...], level: Any, victims: int, mu: float, **cell: Any) -> made.Results:
    planned = [one | cell for one in made.cells(defenses=defenses, checkpoints=["final"], batch=cell.get("batch", 1))]
    clients = made.clients(planned)
    clients["gdp_mu"] = clients["gdp_mu"] * mu
    rows = made.rows(planned, victims, psnr=level).assign(rounds=cell.get("rounds", 1))
    return made.results(planned, rows, clients=clients)


def leaks(share: float = 1.0) -> Callable[[dict[str, Any], int, int], float]:
    """The first victims are rebuilt by every attack whatever the defense; a PSNR over 25 dB counts as identified."""
    return lambda cell, victim, image: 15.0 if cell["attack"] == "prior_only" or victim >= share * 100 else 30.0


def flagged(table: pd.DataFrame, flag: str) -> list[tuple[str, str]]:
    found = table[table["flags"].str.contains(flag)]
    return list(zip(found["defense"], found["attack"], strict=True))


def test_noise_that_was_accounted_and_not_added_beats_the_bound() -> None:
    table = board(level=leaks())
    assert flagged(table, "beats_bound") == [(DP, "inverting_gradients"), (DP, "adaptive_matching")]
    flags = table[(table["defense"] == DP) & (table["attack"] == "adaptive_matching")]["flags"].iloc[0]
    assert flags == "beats_bound: 100.0% identified, at most 14.6% possible"


def test_the_report_says_it() -> None:
    shown = render(results(("none", DP), leaks(), 10, 1.0), "terminal")
    assert "adaptive_matching: beats_bound: 100.0% identified" in " ".join(shown.split())
    assert "bound 15%" in shown
    assert "beats_bound" in render(results(("none", DP), leaks(), 10, 1.0), "terminal", "attack")
    assert "bound" not in render(made.results(made.cells(defenses=["none"])), "terminal").split("How to read it")[0]


def test_honest_results_raise_nothing() -> None:
    assert flagged(board(), "beats_bound") == []  # nothing identified
    assert flagged(board(level=leaks(), mu=math.inf), "beats_bound") == []  # no noise, and none claimed
    assert flagged(board(level=leaks(0.1), victims=100), "beats_bound") == []  # 10 % where 14.6 % are possible


def test_chance_is_no_fault() -> None:
    """All of a few victims, or a few of many, may be identified by luck where the bound is near."""
    nearly_all = float(gaussian(0.02, 3.5))
    assert 0.9 < nearly_all < 0.95
    assert flagged(board(level=leaks(), victims=20, mu=3.5), "beats_bound") == []
    assert flagged(board(level=leaks(0.2), victims=100), "beats_bound") == []  # 20 % beside 14.6 %
    assert len(flagged(board(level=leaks(0.3), victims=100), "beats_bound")) == 2


@pytest.mark.parametrize("share", [0.0183, 0.15, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("victims", [8, 32, 100])
def test_an_attack_exactly_at_the_bound_is_rarely_flagged(share: float, victims: int) -> None:
    hits = np.random.default_rng(0).binomial(victims, share, size=400) / victims
    row = board()[lambda t: (t["defense"] == DP) & (t["attack"] == "adaptive_matching")].assign(flags="")
    many = pd.concat([row] * len(hits), ignore_index=True)
    many = many.assign(identified=hits, rero_bound=share, victims=victims)
    assert with_alarms(many)["flags"].ne("").mean() <= 0.025


def test_seeds_attack_the_same_victims_and_are_not_more_of_them() -> None:
    planned = made.cells(defenses=[DP], checkpoints=["final"], seeds=range(5))
    table = aggregate(made.results(planned))
    assert table["victims"].unique().tolist() == [10]
    assert table["n"].unique().tolist() == [50]


def bound_of(**cell: Any) -> float:
    table = board(**cell)
    found = table[table["defense"] == DP]["rero_bound"].unique()
    assert len(found) == 1
    return float(found[0])


def test_the_bound_is_that_of_what_the_attacker_was_given() -> None:
    gallery = 100
    assert bound_of(labels="inferred") == pytest.approx(float(gaussian(1 / gallery, 1.0)))
    assert bound_of(labels="given") == pytest.approx(float(gaussian(2 / gallery, 1.0)))  # of two classes one is left
    assert bound_of(labels="inferred", rounds=4) == pytest.approx(float(gaussian(1 / gallery, 2.0)))
    assert bound_of(labels="inferred", batch=4) == pytest.approx(float(gaussian(4 / (gallery - 3), 1.0)))
    assert np.isnan(bound_of(threat="E+kp"))  # exact batch statistics come without noise
    assert np.isnan(bound_of(threat="Z"))  # of another version: nothing is known of it
    assert board()[lambda t: t["defense"] == "none"]["rero_bound"].isna().all()


def by_sigma(**levels: float) -> Callable[[dict[str, Any], int, int], float]:
    psnr = {WEAK: levels["weak"], DP: levels["middle"], STRONG: levels["strong"], "none": 40.0}
    return lambda cell, victim, image: (
        15.0 if cell["attack"] == "prior_only" else psnr[cell["defense"]] + victim % 5 / 2
    )


def test_a_stronger_knob_that_leaks_more_is_flagged() -> None:
    sweep = ("none", WEAK, DP, STRONG)
    honest = board(sweep, by_sigma(weak=30, middle=25, strong=20))
    assert flagged(honest, "knob") == []
    swapped = board(sweep, by_sigma(weak=20, middle=25, strong=24))
    assert flagged(swapped, "knob") == [(DP, "worst"), (STRONG, "worst")]
    assert swapped[swapped["flags"].str.contains("knob")]["flags"].unique().tolist() == [
        f"knob: leaks more than {WEAK}"
    ]
    assert flagged(board(sweep, by_sigma(weak=25, middle=25.1, strong=20)), "knob") == []  # within the intervals


def test_only_settings_that_differ_in_the_knob_alone_are_compared() -> None:
    other = "dpsgd(sigma=0.3, clip=9.0)"
    level = by_sigma(weak=20, middle=20, strong=20)
    table = board(
        (DP, other), lambda c, v, i: 30.0 if c["defense"] == other and v else level(c | {"defense": DP}, v, i)
    )
    assert flagged(table, "knob") == []
    pair = ("prune(p=0.9)", "dpsgd(sigma=0.95)")
    table = board(pair, lambda c, v, i: 30.0 if "dpsgd" in c["defense"] and v else level(c | {"defense": DP}, v, i))
    assert flagged(table, "knob") == []


def test_an_incomplete_weaker_setting_is_no_evidence_against_a_stronger_one() -> None:
    planned = made.cells(defenses=[WEAK, STRONG], checkpoints=["final"])
    rows = made.rows(planned, psnr=by_sigma(weak=20, middle=25, strong=30))
    assert flagged(aggregate(made.results(planned, rows)), "knob") == [(STRONG, "worst")]
    gone = (rows["defense"] == WEAK) & (rows["attack"] == "adaptive_matching")
    assert flagged(aggregate(made.results(planned, rows[~gone])), "knob") == []


def test_results_without_accounting_or_strength_are_read() -> None:
    planned = made.cells()
    clients = made.clients(planned).drop(columns=["gdp_mu", "classes", "strength"])
    table = aggregate(made.results(planned, clients=clients))
    assert table[["rero_bound", "strength"]].isna().all(axis=None)
    assert (table["flags"] == "").all()
