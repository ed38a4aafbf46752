"""Targets: what is trained for them, when they count as met, and that a run solves them by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gibench.calibration import TRIES, Calibration, Known, calibrate, families
from gibench.errors import InputError
from gibench.grid import Client, cells
from gibench.registry import build, expand, names
from gibench.runner import make_plan, run
from gibench.stack import stacked
from gibench.store import Store, read_results
from gibench.suite import Suite

SUITE = Suite(
    name="matched",
    datasets=["digits"],
    models=["lenet"],
    defenses=["none", "noise(sigma=[0, 1e-3, 1e-2, 1e-1])"],
    attacks=["prior_only"],
    checkpoints=["init"],
    seeds=[0, 1],
    victims=2,
    match={"drop": [0.0, 0.1]},  # type: ignore[arg-type]
)


def suite(**changes: object) -> Suite:
    return Suite.model_validate({**SUITE.model_dump(), **changes})


def law(client: Client, drop: float = 0.0, apart: float = 0.0) -> float:
    """Utility falls by 0.1 per decade of sigma beyond 1e-3; seeds of the sweep and of the verification may differ by
    `drop`, and those of the verification from each other."""
    level = client.defense.level
    lost = 0.0 if not level else max(0.0, 0.1 * (math.log10(level) + 3))
    return 0.9 - lost - (drop + apart * (-1) ** client.seed if client.seed < 1000 and level else 0.0)


def settled(
    suite: Suite, drop: float = 0.0, fail: str = "", apart: float = 0.0, law: Callable[..., float] = law
) -> tuple[Calibration, list[list[Client]]]:
    """Ask and answer until nothing is asked for."""
    utilities: dict[str, float] = {}
    failures: dict[str, str] = {}
    asked = []
    for _ in range(10):
        found = calibrate(suite, Known(utilities, failures))
        open_clients = [c for c in {**found.tried, **found.verified}.values() if c.id not in failures]
        if not open_clients:
            return found, asked
        asked.append(open_clients)
        for client in open_clients:
            if client.defense.spec() == fail:
                failures[client.id] = "training diverged"
            else:
                utilities[client.id] = law(client, drop, apart)
    raise AssertionError("never settled")


def test_a_target_is_solved_verified_with_other_seeds_and_only_then_attacked() -> None:
    found, asked = settled(SUITE)
    assert {c.seed for c in asked[0] if c.defense.spec() != "none"} == {1000, 1001}
    assert {c.seed for c in asked[1]} == {0, 1}, "verified with the suite's own seeds"
    easy, hard = found.matches.values()
    assert (easy.target, easy.status, easy.value) == ("drop 0", "matched", 1e-3)
    assert (hard.target, hard.status, hard.value, hard.goal) == ("drop 0.1", "matched", 1e-2, pytest.approx(0.8))
    chosen = found.chosen(SUITE, build("datasets", "digits"), build("models", "lenet"))  # type: ignore[arg-type]
    assert [d.spec() for d in chosen] == ["noise(sigma=0.001)", "noise(sigma=0.01)"]
    grid = cells(SUITE, found.chosen)
    assert {(c.client.defense.spec(), c.client.seed) for c in grid} == {
        (spec, seed) for spec in ("none", "noise(sigma=0.001)", "noise(sigma=0.01)") for seed in (0, 1)
    }


def test_before_it_is_solved_only_the_undefended_client_is_attacked() -> None:
    found = calibrate(SUITE, Known({}))
    assert {s.status for s in found.matches.values()} == {"pending"}
    assert {c.client.defense.spec() for c in cells(SUITE, found.chosen)} == {"none"}


def test_a_level_that_is_not_confirmed_is_solved_again_and_at_last_given_up() -> None:
    found, asked = settled(suite(match={"drop": [0.1]}), drop=0.03)
    (once,) = found.matches.values()
    assert 3 <= len(asked) <= 1 + TRIES, "the sweep, the first level, corrections"
    assert once.status == "matched"
    assert once.value not in {asked[1][0].defense.level, None}, "not the first one"
    found, asked = settled(suite(match={"drop": [0.1]}), drop=0.3)
    assert len(asked) <= 1 + TRIES
    (lost,) = found.matches.values()
    assert (lost.status, lost.defense, lost.value) == ("unreachable", "", None)


def test_trainings_that_fail_now_and_then_are_no_excuse_for_a_utility_that_is_not_there() -> None:
    found, asked = settled(suite(match={"drop": [0.1]}), drop=0.04, apart=0.1)
    (line,) = found.matches.values()
    assert line.goal == pytest.approx(0.8)
    assert len(asked) > 2, "its seeds are 0.2 apart, 0.04 from the target on average: that is not taken"
    assert line.status == "matched"
    assert abs(line.utility - line.goal) <= 0.02 < line.spread  # type: ignore[operator]


def test_what_cannot_be_reached_is_a_line_of_its_own_and_no_cell() -> None:
    found, _ = settled(suite(match={"reach": [0.95]}))
    (over,) = found.matches.values()
    assert (over.status, over.reason) == ("unreachable", "unreachable (best 0.900)")
    assert {c.client.defense.spec() for c in cells(SUITE, found.chosen)} == {"none"}


def test_what_costs_less_than_asked_is_attacked_at_its_strongest_with_the_suites_seeds() -> None:
    found, asked = settled(suite(match={"reach": [0.2]}))
    (line,) = found.matches.values()
    assert (line.status, line.reason, line.value) == ("cheaper", "", 0.1)
    assert line.utility == pytest.approx(0.7)
    assert {(c.defense.spec(), c.seed) for c in asked[-1]} == {("noise(sigma=0.1)", 0), ("noise(sigma=0.1)", 1)}
    assert {c.client.defense.spec() for c in cells(SUITE, found.chosen)} == {"none", "noise(sigma=0.1)"}


def test_the_strongest_may_turn_out_to_cost_enough_with_the_suites_seeds() -> None:
    found, _ = settled(suite(match={"reach": [0.65]}), drop=0.1)
    (line,) = found.matches.values()
    assert line.status == "matched"
    assert line.value < 0.1, "solved again, between the strongest and what is weaker"  # type: ignore[operator]


def test_where_utility_bends_a_second_miss_on_the_same_side_halves_what_is_left() -> None:
    """Utility straight in the knob bends in its logarithm: lines from the far end alone leave it at .83 after four."""

    def straight(client: Client, *_: float) -> float:
        return 0.9 - 0.35 * (client.defense.level or 0.0)

    bent = suite(defenses=["noise(sigma=[0.01, 1])"], match={"reach": [0.8]})
    found, asked = settled(bent, law=straight)
    (line,) = found.matches.values()
    assert line.status == "matched"
    assert len(asked) <= 4


def test_a_retained_gain_counts_from_chance() -> None:
    found, _ = settled(suite(match={"retain": [0.5]}))
    (line,) = found.matches.values()
    assert line.goal == pytest.approx(0.1 + 0.5 * 0.8)


def test_a_training_that_fails_leaves_its_point_out_and_one_that_must_verify_fails_the_target() -> None:
    found, _ = settled(SUITE, fail="noise(sigma=0.1)")
    assert {s.status for s in found.matches.values()} == {"matched"}
    (curve,) = found.curves.values()
    assert [point["value"] for point in curve["points"]] == [0.0, 1e-3, 1e-2]
    found, _ = settled(suite(defenses=["noise(sigma=[1e-3, 1e-1])"], match={"drop": [0.1]}), fail="noise(sigma=0.01)")
    (line,) = found.matches.values()
    assert line.status == "failed"
    assert "training diverged" in line.reason


def test_a_defense_with_nothing_to_turn_is_matched_only_where_it_stands() -> None:
    found, _ = settled(suite(defenses=["noise(sigma=0.1)"], match={"drop": [0.0, 0.2]}))
    away, there = found.matches.values()
    assert (away.status, away.reason) == ("unreachable", "unreachable (it has 0.700 and nothing to turn)")
    assert (there.status, there.defense) == ("matched", "noise(sigma=0.1)")


def test_families_are_swept_as_listed_or_by_their_own_sweep() -> None:
    listed = families(suite(defenses=["none", "dpsgd(sigma=[0.1, 0.2])", "prune", "noise(sigma=0.5)", "ats"]))
    assert [d.level for d in listed["dpsgd"]] == [0.1, 0.2]
    assert len(listed["prune"]) == 7
    assert len(listed["noise"]) == 1
    kinds = families(suite(defenses=['latent_perturb(kind="bottleneck")', "latent_perturb"]))
    assert {name: members[0].knob for name, members in kinds.items()} == {
        'latent_perturb(kind="bottleneck")': "beta",
        "latent_perturb": "rho",
    }


@pytest.mark.parametrize("name", [name for name in names("defenses") if name != "none"])
def test_every_defense_can_be_turned_and_keeps_its_family(name: str) -> None:
    defense = build("defenses", name)
    for level in defense.sweep:  # type: ignore[attr-defined]
        turned = defense.at(level)  # type: ignore[attr-defined]
        assert turned.level == level
        assert turned.family == defense.family  # type: ignore[attr-defined]
        assert build("defenses", turned.spec()) == turned


def test_a_stack_is_turned_at_its_last_knob() -> None:
    parts = [build("defenses", "prune(p=0.5)"), build("defenses", "dpsgd")]
    both = stacked(parts)  # type: ignore[arg-type]
    assert both.family == "prune(p=0.5) + dpsgd"
    assert both.at(0.25).spec() == "prune(p=0.5) + dpsgd(sigma=0.25)"
    assert expand("defenses", both.at(0.25).spec()) == [both.at(0.25)]


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ({}, "a target is needed"),
        ({"drop": [1.5]}, "less than 1"),
        ({"reach": [0.9], "measure": "f1"}, "'accuracy' or 'auc'"),
        ({"drop": [0.1, 0.1]}, "listed twice"),
    ],
)
def test_bad_targets_are_one_line(match: dict, told: str, tmp_path: Path) -> None:
    from gibench.suite import load_suite

    file = tmp_path / "bad.toml"
    file.write_text('datasets = ["digits"]\nmodels = ["lenet"]\ndefenses = ["noise"]\nattacks = ["prior_only"]\n')
    with pytest.raises(InputError) as caught:
        load_suite(str(file), {"match": match})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_of_targets_names_drops() -> None:
    assert suite(match=[0.01]).match == suite(match={"drop": [0.01]}).match
    assert suite(match=[]).match is None


def test_a_run_solves_its_targets_by_itself_and_a_second_one_finds_nothing_to_do(tmp_path: Path) -> None:
    real = suite(
        defenses=["dpsgd(sigma=[0.01, 10])"],
        seeds=[0],
        match={"drop": [0.2]},
        client_images=64,
        aux_images=60,
        tune_images=1,
        training={"clients": 4, "epochs": 8, "batch": 4},
    )
    summary = run(real, tmp_path, workers=1, device="cpu")
    assert not summary.failed
    grid = json.loads((tmp_path / "grid.json").read_text())
    (line,) = grid["matches"]
    assert line["status"] in ("matched", "unreachable")
    results = read_results(tmp_path)
    assert results.clients["utility_val"].notna().all()
    planned = {cell["client"] for cell in grid["cells"]}
    assert len(results.clients) > len(planned), "the sweep is kept, but not attacked"
    if line["status"] == "matched":
        own = results.clients.set_index("defense").loc[line["defense"]]
        assert own["utility_val"] == line["utility"]
        assert abs(line["utility"] - line["goal"]) <= 0.005
    assert not make_plan(real, Store(tmp_path)).jobs
    (curve,) = grid["curves"]
    assert [point["value"] for point in curve["points"]] == [0.01, 10.0]
