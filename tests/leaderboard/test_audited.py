"""Means over seeds of what audits measured, and what became of examinations without a result."""

import invented_audits as made
import pandas as pd
import pytest
import synthetic_results as plain

from gibench.leaderboard.audits import COLUMNS, audited


def at(table: pd.DataFrame, defense: str, group: str, name: str) -> pd.Series:
    (row,) = table[(table.defense == defense) & (table.group == group) & (table.name == name)].to_dict("records")
    return row


def test_means_and_spreads_are_over_seeds() -> None:
    table = audited(made.results())
    none = at(table, "none", "class 0", "accuracy")
    assert none["value"] == pytest.approx(0.88)
    assert none["spread"] == pytest.approx(0.04 / 2**0.5)
    assert none["seeds"] == 2
    assert (none["unit"], none["status"], none["reason"]) == ("share", "ok", "")


def test_what_is_lacking_skipped_or_foreign_is_told_apart() -> None:
    table = audited(made.results())
    noise = at(table, "noise(sigma=0.1)", "class 0", "accuracy")
    assert noise["value"] == pytest.approx(0.7)
    assert pd.isna(noise["spread"])
    assert noise["reason"] == "1 of 2 examinations lacking: it <b>broke</b> | here"
    skipped = table[table.status == "skipped"]
    assert list(skipped.reason) == ["only_none"] * 2
    assert skipped.value.isna().all()
    assert "stranger" not in set(table.audit)


def test_planned_examinations_without_any_result_are_missing_and_failed_ones_say_why() -> None:
    results = made.results()
    gone = plain.Results(results.rows, results.clients, results.grid)
    assert set(audited(gone).status) == {"missing", "skipped"}
    rows = results.audits[(results.audits.defense != "prune(p=0.9)")]
    rows = pd.concat([rows, pd.DataFrame([made.failed(made.planned("prune(p=0.9)", 1), "no room")])])
    table = audited(plain.Results(results.rows, results.clients, results.grid, audits=rows))
    (prune,) = table[(table.defense == "prune(p=0.9)") & (table.audit == "judge(k=2)")].to_dict("records")
    assert (prune["status"], prune["reason"], prune["seeds"]) == ("failed", "no room", 0)


def test_order_is_that_of_the_plan_and_without_a_plan_everything_counts() -> None:
    results = made.results()
    table = audited(results)
    assert list(dict.fromkeys(table.audit)) == ["judge(k=2)", "cost"]
    assert list(dict.fromkeys(table.defense)) == list(made.DEFENSES)
    grid = {key: value for key, value in results.grid.items() if key != "audits"}
    everything = audited(plain.Results(results.rows, results.clients, grid, audits=results.audits))
    assert "stranger" in set(everything.audit)


def test_folders_without_audits_have_an_empty_table() -> None:
    found = audited(plain.results(plain.cells()))
    assert found.empty
    assert list(found.columns) == COLUMNS
