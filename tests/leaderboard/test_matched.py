"""Rows at matched utility: the right cells, the worst checkpoint, and nothing invented where nothing is known."""

from __future__ import annotations

import invented_matches as made
import pandas as pd
import pytest
import synthetic_results as plain

from gibench.leaderboard import aggregate, compare, matched, pairs
from gibench.leaderboard.matched import MATCHED
from gibench.leaderboard.pairs import PAIRS


def test_suites_without_matches_have_no_rows() -> None:
    found = plain.results(plain.cells())
    assert matched(found).empty
    assert list(matched(found).columns) == MATCHED
    assert list(pairs(found).columns) == PAIRS


def test_a_row_is_the_leaderboard_at_the_worst_checkpoint() -> None:
    found = made.results()
    table, board = matched(found).set_index("family"), aggregate(found)
    for family, spec in [*made.FAMILIES.items(), ("none", "none")]:
        row = table.loc[family]
        same = board[(board.defense == spec) & (board.checkpoint == "init")].set_index("attack")
        assert row["checkpoint"] == "init"
        for name in ("psnr", "psnr_low", "mse", "ssim", "attacker_accuracy", "n", "floor_psnr", "undefended_psnr"):
            assert row[name] == same.loc["worst", name], name
        assert row["oblivious_psnr"] == same.loc["oblivious", "psnr"]
        assert row["utility"] == same.loc["worst", "utility"]
    assert table.loc["prior_only", "psnr"] == table.loc["none", "floor_psnr"]
    assert table.loc["prior_only", "utility"] == 0.7, "of a classifier that learned from auxiliary images alone"
    assert table.loc["none", "utility_val"] == pytest.approx(0.92)
    assert (table.loc["dpsgd", "utility_val"], table.loc["dpsgd", "spread"]) == (0.851, 0.004)
    assert (table.loc["dpsgd", "knob"], table.loc["dpsgd", "value"]) == ("strength", 0.1)


def test_auc_is_the_test_utility_where_it_is_the_measure() -> None:
    found = made.results(matches=[made.match("dpsgd", measure="auc")])
    clients = found.clients.assign(auc=0.77)
    table = matched(plain.Results(found.rows, clients, found.grid))
    assert (table[table.family != "prior_only"]["utility"] == 0.77).all()


def test_clients_of_the_sweep_do_not_count_for_the_utility_of_those_attacked() -> None:
    found = made.results()
    before = matched(found)
    swept = found.clients.assign(client=found.clients["client"] + "s", seed=1000, utility=0.1, auc=0.1)
    both = plain.Results(found.rows, pd.concat([found.clients, swept], ignore_index=True), found.grid)
    assert matched(both)["utility"].equals(before["utility"])


def test_unreachable_and_missing_rows_stay_and_say_why() -> None:
    matches = [made.match("latent_perturb"), made.unreachable("dpsgd"), made.match("prune"), made.match("clip")]
    matches += [made.match("prune", "retain 0.95", status="pending", reason="", defense="")]
    found = made.results(matches=matches)
    rows = found.rows[found.rows.defense != made.FAMILIES["clip"]]
    table = matched(made.with_rows(found, rows)).set_index(["target", "family"])
    lost = table.loc[("drop 0.05", "dpsgd")]
    assert (lost["status"], lost["reason"]) == ("unreachable", "unreachable (best 0.81)")
    assert table.loc[("drop 0.05", "clip"), "status"] == "missing"
    assert "no attack has a result here" in table.loc[("drop 0.05", "clip"), "reason"]
    assert table.loc[("retain 0.95", "prune"), "status"] == "pending"
    for key in (("drop 0.05", "dpsgd"), ("drop 0.05", "clip"), ("retain 0.95", "prune")):
        assert table.loc[key, "n"] == 0
        assert table.loc[key, ["rank", "psnr", "oblivious_psnr", "decile_psnr", "recognised_ssim"]].isna().all()
    assert ("retain 0.95", "none") in table.index
    assert ("retain 0.95", "prior_only") in table.index
    assert table["rank"].dropna().to_dict() == {("drop 0.05", "latent_perturb"): 1, ("drop 0.05", "prune"): 2}


@pytest.mark.parametrize(
    ("cheaper", "ranked"),
    [
        (["latent_perturb"], {"latent_perturb": 1, "dpsgd": 2, "prune": 2, "clip": 4}),  # leaks least and paid least
        (["dpsgd"], {"latent_perturb": 1, "prune": 2, "clip": 4}),  # beaten by one that paid more: nothing follows
        (["latent_perturb", "dpsgd"], {"latent_perturb": 1, "prune": 2, "clip": 4}),
        (["clip"], {"latent_perturb": 1, "dpsgd": 2, "prune": 2}),
    ],
)
def test_what_costs_less_has_its_numbers_and_a_rank_where_none_leaks_less(
    cheaper: list[str], ranked: dict[str, int]
) -> None:
    matches = [made.match(f, status="cheaper" if f in cheaper else "matched") for f in made.FAMILIES]
    found = compare(made.results(matches=matches))
    table = found.matched.set_index("family")
    assert set(table.loc[cheaper, "status"]) == {"cheaper"}
    assert table.loc[cheaper, ["psnr", "oblivious_psnr", "decile_psnr"]].notna().all(axis=None)
    assert table["rank"].dropna().to_dict() == ranked
    assert set(cheaper) <= {*found.pairs["family"], *found.pairs["other"]}


def test_an_incomplete_row_says_what_it_lacks() -> None:
    found = made.results()
    rows = found.rows
    lacking = (rows.defense == "dpsgd(sigma=0.1)") & (rows.checkpoint == "final") & (rows.attack == "adaptive_matching")
    row = matched(made.with_rows(found, rows[~lacking])).set_index("family").loc["dpsgd"]
    assert row["status"] == "matched"
    assert row["reason"] == "final: adaptive_matching missing"


def test_two_targets_may_share_their_cells() -> None:
    found = made.results(matches=[made.match("dpsgd"), made.match("dpsgd", "reach 0.9"), made.match("prune")])
    table = matched(found)
    shared = table[table.family == "dpsgd"]
    assert list(shared.target) == ["drop 0.05", "reach 0.9"]
    assert shared.psnr.nunique() == 1
    assert len(pairs(found)) == 8, "one pair at the first target, four metrics, two scores"


def test_a_match_that_was_never_attacked_is_a_row_without_a_setting() -> None:
    found = made.results(matches=[made.match("dpsgd"), made.match("dpsgd", dataset="elsewhere")])
    row = matched(found).query("dataset == 'elsewhere' and family == 'dpsgd'").iloc[0]
    assert (row["status"], row["batch"], row["n"]) == ("missing", 0, 0)


def test_what_the_mean_hides() -> None:
    found = made.results({"dpsgd": 12.0}, spread=0.0, noise=0.0, seeds=(0,))
    rows = found.rows.copy()
    three = (rows.defense == "dpsgd(sigma=0.1)") & rows.victim.isin([3, 4, 5]) & (rows.attack == "adaptive_matching")
    rows.loc[three, ["psnr", "ssim"]] = [40.0, 0.8]
    row = matched(made.with_rows(found, rows)).set_index("family").loc["dpsgd"]
    assert row["decile_psnr"] == 40.0, "3 of 30 images"
    assert (row["threshold_psnr"], row["threshold_ssim"]) == (20.0, 0.5)
    assert row["recognised_psnr"] == row["recognised_ssim"] == pytest.approx(0.1)


def test_recognisable_is_more_than_the_floor_gets_anyway() -> None:
    found = made.results({"dpsgd": 24.0})
    rows = found.rows.copy()
    rows.loc[rows.attack == "prior_only", ["psnr", "ssim"]] = [23.0, 0.7]
    row = matched(made.with_rows(found, rows)).set_index("family").loc["prior_only"]
    assert (row["threshold_psnr"], row["threshold_ssim"]) == (23.0, 0.7)
    assert row["recognised_psnr"] == row["recognised_ssim"] == 0.0


def test_nothing_at_all() -> None:
    nothing = plain.nothing()
    found = plain.Results(nothing.rows, nothing.clients, nothing.grid | {"matches": [made.match("dpsgd")]})
    assert list(matched(found).query("family == 'dpsgd'")["status"]) == ["missing"]
    assert isinstance(pairs(found), pd.DataFrame)
