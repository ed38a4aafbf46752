"""The leaderboard's numbers, from invented rows with known answers."""

import numpy as np
import pandas as pd
import pytest
import synthetic_results as made

from gibench.leaderboard import COLUMNS, aggregate

REQUIRED = {"dataset", "model", "checkpoint", "batch", "defense", "attack", "adaptive", "n", "utility", "utility_raw"}
REQUIRED |= {"mse", "psnr", "psnr_low", "psnr_high", "ssim", "attacker_accuracy", "floor_psnr", "undefended_psnr"}
REQUIRED |= {"status", "reason"}
DP, PRUNE = "dpsgd(sigma=0.1)", "prune(p=0.9)"


def pick(table: pd.DataFrame, defense: str, attack: str, checkpoint: str = "final") -> pd.Series:
    found = table[(table.defense == defense) & (table.attack == attack) & (table.checkpoint == checkpoint)]
    assert len(found) == 1
    return found.iloc[0]


def test_means_pool_seeds_and_victims() -> None:
    table = aggregate(made.results(made.cells(seeds=(0, 1, 2))))
    assert list(table.columns) == COLUMNS
    assert set(COLUMNS) >= REQUIRED
    row = pick(table, DP, "adaptive_matching")
    assert (row.n, row.psnr, row.floor_psnr, row.undefended_psnr) == (30, pytest.approx(18), 15, pytest.approx(30))
    assert row.psnr_low < 18 < row.psnr_high
    assert row.utility == pytest.approx(0.87)  # mean of .85, .87 and .89
    assert row.utility_raw == pytest.approx(0.75)
    assert (row.epsilon, row.adaptive) == (5.5, True)
    assert row.mse == pytest.approx(np.mean([10 ** -(level / 10) for level in range(16, 21)]))
    assert pick(table, "none", "prior_only").psnr == 15


def test_seconds_are_those_of_the_cells_however_many_rows_they_have() -> None:
    table = aggregate(made.results(made.cells(seeds=(0, 1, 2), batch=4)))
    assert pick(table, DP, "adaptive_matching").seconds == pytest.approx(3 * 2)  # three cells of two seconds
    assert pick(table, DP, "worst").seconds == pytest.approx(3 * 3 * 2)


def test_share_of_images_over_half_ssim() -> None:
    def crossing(cell: dict, victim: int, image: int) -> float:
        if cell["attack"] == "prior_only":
            return 27.0 if victim == 0 else 10.0  # an SSIM of .54 or .2
        return 26.0 if victim < 3 or (cell["attack"] == "adaptive_matching" and victim == 9) else 25.0  # .52 or .5

    planned = made.cells()
    frame = made.rows(planned, victims=20, psnr=crossing)
    bad = (frame.attack == "inverting_gradients") & (frame.victim == 1)
    table = aggregate(made.results(planned, made.fail(frame, bad)))
    shares = [pick(table, DP, a).ssim_over_half for a in (*made.ATTACKS, "oblivious", "worst")]
    assert shares == pytest.approx([1 / 20, 2 / 20, 4 / 20, 2 / 20, 4 / 20])


def test_worst_takes_the_best_attack_of_each_image() -> None:
    def crossing(cell: dict, victim: int, image: int) -> float:
        strong = {"inverting_gradients": victim < 4, "adaptive_matching": victim >= 7}
        return 15.0 if cell["attack"] == "prior_only" else 25.0 if strong[cell["attack"]] else 5.0

    planned = made.cells()
    table = aggregate(made.results(planned, made.rows(planned, psnr=crossing)))
    assert pick(table, DP, "inverting_gradients").psnr == pytest.approx((4 * 25 + 6 * 5) / 10)
    assert pick(table, DP, "oblivious").psnr == pytest.approx((4 * 25 + 6 * 15) / 10)
    assert pick(table, DP, "worst").psnr == pytest.approx((7 * 25 + 3 * 15) / 10)
    assert pick(table, DP, "worst").mse == pytest.approx((7 * 10**-2.5 + 3 * 10**-1.5) / 10)
    assert pick(table, DP, "worst").adaptive
    assert not pick(table, DP, "oblivious").adaptive


def test_worst_is_never_below_any_attack() -> None:
    rng = np.random.default_rng(0)
    planned = made.cells(batch=3)
    table = aggregate(made.results(planned, made.rows(planned, psnr=lambda *_: float(rng.normal(20, 5)))))
    for _, part in table.groupby(["checkpoint", "defense"]):
        worst = part[part.attack == "worst"].iloc[0]
        assert worst.n == 30
        for score in ("psnr", "ssim", "attacker_accuracy", "identified"):
            assert (part[score] <= worst[score] + 1e-12).all()
        assert (part.mse >= worst.mse - 1e-12).all()


def test_an_attack_that_met_one_seed_of_three_is_not_diluted_by_the_others() -> None:
    """Else a defense would gain by every seed that the strongest attack did not get."""
    planned = [c for c in made.cells(seeds=(0, 1, 2)) if c["attack"] != "adaptive_matching" or c["seed"] == 1]
    table = aggregate(made.results(planned))
    worst, oblivious = (pick(table, DP, name) for name in ("worst", "oblivious"))
    assert (worst.n, worst.psnr) == (10, pytest.approx(18))
    assert (oblivious.n, oblivious.psnr) == (30, pytest.approx(15))
    assert pick(table, DP, "inverting_gradients").n == 30


def test_a_failed_victim_is_scored_at_its_floor() -> None:
    planned = made.cells()
    frame = made.rows(planned, victims=40)
    bad = (frame.defense == DP) & (frame.attack == "adaptive_matching") & (frame.victim == 3)
    row = pick(aggregate(made.results(planned, made.fail(frame, bad))), DP, "adaptive_matching")
    assert (row.status, row.n) == ("ok", 40)
    assert row.psnr == pytest.approx(18 - 3 / 40)  # victim 3 has 16 dB from the prior instead of 19 dB


def test_over_five_percent_failed_victims_fail_the_row_but_still_count_for_the_worst() -> None:
    planned = made.cells()
    frame = made.rows(planned, victims=20)
    attack = (frame.defense == DP) & (frame.attack == "adaptive_matching") & (frame.checkpoint == "final")
    one, two = (made.fail(frame, attack & (frame.victim < k), "loss is nan") for k in (1, 2))
    assert pick(aggregate(made.results(planned, one)), DP, "adaptive_matching").status == "ok"
    table = aggregate(made.results(planned, two))
    row = pick(table, DP, "adaptive_matching")
    assert (row.status, row.n) == ("failed", 0)
    assert row.reason == "2 of 20 victims failed: loss is nan"
    assert np.isnan(row.psnr)
    worst = pick(table, DP, "worst")
    assert (worst.status, worst.reason) == ("ok", "adaptive_matching failed")
    assert worst.psnr == pytest.approx(18 - 2 * 3 / 20)


def test_failed_victims_without_a_floor_fail_the_row() -> None:
    planned = made.cells(defenses=[DP])
    frame = made.rows(planned, victims=40)
    bad = (frame.attack != "inverting_gradients") & (frame.victim == 0)
    row = pick(aggregate(made.results(planned, made.fail(frame, bad))), DP, "adaptive_matching")
    assert row.status == "failed"
    assert "prior_only has no score" in row.reason


def test_skipped_missing_and_failed_cells_are_rows() -> None:
    planned = made.cells()
    frame = made.rows(planned)
    for cell in planned:
        if cell["attack"] == "adaptive_matching" and cell["defense"] == "none":
            cell.update(status="skipped", reason="nothing to adapt to")
    whole = (frame.cell == f"ihc-{DP}-0-final-adaptive_matching") & (frame.victim == 0)
    frame = made.fail(frame, whole, "out of memory")
    frame.loc[whole, ["victim", "image"]] = np.nan
    gone = (frame.defense == "none") & (frame.attack == "adaptive_matching") | (frame.defense == PRUNE)
    gone |= (frame.cell == f"ihc-{DP}-0-final-adaptive_matching") & ~whole
    table = aggregate(made.results(planned, frame[~gone]))
    states = {
        ("none", "adaptive_matching"): ("skipped", "nothing to adapt to"),
        (DP, "adaptive_matching"): ("failed", "out of memory"),
        (PRUNE, "inverting_gradients"): ("missing", "no result yet"),
    }
    for (defense, attack), expected in states.items():
        row = pick(table, defense, attack)
        assert (row.status, row.reason) == expected
        assert row.n == 0
        assert row[["psnr", "mse", "ssim", "seconds"]].isna().all()
    assert pick(table, "none", "worst").reason == ""  # a pair that was skipped by design lacks nothing
    assert pick(table, PRUNE, "worst").status == "missing"
    assert pick(table, DP, "worst").reason == "adaptive_matching failed"


def test_a_failed_client_fails_its_cells() -> None:
    planned = made.cells()
    clients = made.clients(planned)
    clients.loc[clients.defense == DP, ["status", "reason", "utility"]] = ["failed", "diverged", np.nan]
    frame = made.rows([cell for cell in planned if cell["defense"] != DP])
    row = pick(aggregate(made.results(planned, frame, clients=clients)), DP, "worst")
    assert row.status == "failed"
    assert np.isnan(row.utility)
    table = aggregate(made.results(planned, frame, clients=clients))
    assert pick(table, DP, "prior_only").reason == "its client failed: diverged"


def test_some_seeds_missing_is_said() -> None:
    planned = made.cells(seeds=(0, 1, 2))
    frame = made.rows([cell for cell in planned if cell["seed"] < 2])
    row = pick(aggregate(made.results(planned, frame)), DP, "adaptive_matching")
    assert (row.status, row.n, row.reason) == ("ok", 20, "1 of 3 cells missing")


def test_order_is_that_of_the_suite_whatever_the_order_of_the_rows() -> None:
    planned = made.cells(checkpoints=("final", "init"), defenses=(PRUNE, DP, "none"))
    table = aggregate(made.results(planned, made.rows(planned).sample(frac=1, random_state=0)))
    assert list(dict.fromkeys(table.checkpoint)) == ["init", "final"]
    assert list(dict.fromkeys(table.defense)) == ["none", DP, PRUNE]
    assert list(table.attack[:5]) == [*made.ATTACKS, "oblivious", "worst"]


def test_short_names_keep_the_planned_order() -> None:
    planned = made.cells(datasets=("medmnist(flag='retinamnist')", "mnist"))
    suite = made.SUITE | {"datasets": ["retinamnist", "mnist"]}
    found = made.Results(made.rows(planned), made.clients(planned), {"suite": suite, "protocol": 1, "cells": planned})
    assert list(dict.fromkeys(aggregate(found).dataset)) == ["medmnist(flag='retinamnist')", "mnist"]


def test_rows_of_another_run_in_the_folder_do_not_count() -> None:
    planned = made.cells()
    other = [cell | {"cell": f"other-{cell['cell']}"} for cell in made.cells()]
    frame = pd.concat([made.rows(planned), made.rows(other, psnr=lambda *_: 90.0)])
    pd.testing.assert_frame_equal(aggregate(made.results(planned, frame)), aggregate(made.results(planned)))
    unknown = made.Results(made.rows(other), made.clients(other), {"suite": made.SUITE, "protocol": 1, "cells": []})
    assert len(aggregate(unknown)) == 30


def test_nothing_gives_an_empty_table_with_all_columns() -> None:
    table = aggregate(made.nothing())
    assert table.empty
    assert list(table.columns) == COLUMNS


def test_worst_takes_what_the_members_of_an_ensemble_found() -> None:
    planned = made.cells(defenses=["none"], checkpoints=["final"])
    frame = made.rows(planned)
    ensemble = frame["attack"] == "adaptive_matching"
    frame.loc[ensemble, "worst_psnr"] = 44.0
    frame.loc[ensemble, "worst_ssim"] = 0.99
    table = aggregate(made.results(planned, frame))
    assert pick(table, "none", "worst").psnr == pytest.approx(44.0)
    assert pick(table, "none", "worst").ssim == pytest.approx(0.99)
    assert pick(table, "none", "adaptive_matching").psnr == pytest.approx(30.0)  # what it handed over
    assert pick(table, "none", "worst").n == 10


def test_flags_of_rows_reach_the_table_each_once() -> None:
    planned = made.cells(defenses=["none"], checkpoints=["final"])
    frame = made.rows(planned)
    ensemble = frame["attack"] == "adaptive_matching"
    frame.loc[ensemble, "flags"] = "masked; below_floor: idlg"
    table = aggregate(made.results(planned, frame))
    assert pick(table, "none", "adaptive_matching")["flags"] == "masked; below_floor: idlg"
    assert pick(table, "none", "inverting_gradients")["flags"] == ""


def test_an_oblivious_attack_that_beats_every_aware_one_is_flagged() -> None:
    planned = made.cells(checkpoints=["final"])
    table = aggregate(made.results(planned))
    assert not table["flags"].str.contains("oblivious_wins").any()

    def swapped(cell: dict[str, object], victim: int, image: int) -> float:
        level = made.usual(cell, victim, image)
        if cell["defense"] == "prune(p=0.9)":
            level += 10 if cell["attack"] == "inverting_gradients" else -10
        return level

    table = aggregate(made.results(planned, made.rows(planned, psnr=swapped)))
    assert pick(table, "prune(p=0.9)", "worst")["flags"] == "oblivious_wins"
    assert pick(table, "dpsgd(sigma=0.1)", "worst")["flags"] == ""


def test_clients_trained_in_different_ways_are_different_settings() -> None:
    planned = made.cells(defenses=["none"], checkpoints=["final"])
    other = [cell | {"cell": f"{cell['cell']}-avg", "training": "fedavg(4 x 0.05)"} for cell in planned]
    both = planned + other
    frame = made.rows(both, psnr=lambda cell, victim, image: made.usual(cell, victim, image) - 5 * ("training" in cell))
    table = aggregate(made.results(both, frame))
    matching = table[table["attack"] == "inverting_gradients"]
    assert matching.set_index("training")["psnr"].to_dict() == {
        "fedsgd": pytest.approx(30.0),
        "fedavg(4 x 0.05)": pytest.approx(25.0),
    }
