"""The headline at matched utility: planted effects get the right words, the same numbers in every format."""

from __future__ import annotations

import json

import invented_matches as made
import pytest
import synthetic_results as plain

from gibench.report import render
from gibench.report.matched import Duel, matched_report
from gibench.report.terminal import as_terminal

BOTH = [made.match(family) for family in made.LEVELS]
LACKING = [*BOTH, made.match("latent_perturb", "reach 0.9"), made.unreachable("dpsgd", "reach 0.9")]
NASTY = "latent_perturb[red]x|y[/red] <b>`z`</b>\n\x1b[31m"


def duels(found: plain.Results) -> dict[tuple[str, str, str], Duel]:
    shown = matched_report(found)
    assert shown is not None
    return {(duel.target, duel.rival, duel.attacker): duel for table in shown.tables for duel in table.duels}


def words(text: str) -> str:
    return " ".join(text.replace("\\", "").split())


@pytest.mark.parametrize("level", [28.0, 34.0, 40.0])
def test_a_planted_effect_gets_its_verdict(level: float) -> None:
    """6 dB less, as much, 6 dB more than DP and pruning; wherever ours stands in the table."""
    for order in (["latent_perturb", "dpsgd", "prune"], ["prune", "dpsgd", "latent_perturb"]):
        levels = {family: level if family == "latent_perturb" else 34.0 for family in order}
        found = duels(made.results(levels))
        assert found.keys() == {("drop 0.05", r, a) for r in ("dpsgd", "prune") for a in ("adaptive", "oblivious")}
        for duel in found.values():
            assert duel.mse.verdict == {28.0: "better", 34.0: "tie", 40.0: "worse"}[level]
            assert duel.mse.relative == pytest.approx(10 ** ((34 - level) / 10) - 1, rel=0.1, abs=0.1)
            assert duel.mse.relative_low < duel.mse.relative < duel.mse.relative_high
            assert duel.n == 60


def test_less_attacker_accuracy_is_better() -> None:
    found = duels(made.results({"latent_perturb": 20.0, "dpsgd": 34.0}))["drop 0.05", "dpsgd", "adaptive"]
    assert found.accuracy.verdict == "better"
    assert found.accuracy.low < found.accuracy.change < found.accuracy.high < 0
    assert found.accuracy.relative == pytest.approx(found.accuracy.change, rel=0.05), (
        "DP's attacker is nearly always right"
    )


def test_every_format_says_the_same() -> None:
    found = made.results(matches=BOTH)
    duel = duels(found)["drop 0.05", "dpsgd", "adaptive"]
    record = json.loads(render(found, "json"))
    row = next(row for row in record["matched"] if row["family"] == "dpsgd")
    pair = next(p for p in record["pairs"] if p["metric"] == "mse" and p["score"] == "worst" and p["other"] == "dpsgd")
    assert pair["relative"] == duel.mse.relative
    for form in ("terminal", "markdown"):
        text = render(found, form)
        shown = [f"{100 * duel.mse.relative:+.1f}%", f"{100 * duel.mse.relative_low:.1f}", f"{row['psnr']:.1f}"]
        for number in [*shown, f"{row['psnr_low']:.1f}", f"{100 * row['utility_val']:.1f}%", "12.5 %", "12.4 %"]:
            assert number in text
        assert "latent_perturb against dpsgd, compared in 1 of 1 settings and targets; adaptive: attack" in words(text)
        assert text.index("12.4 %") < text.index("prior only"), "the headline comes first"


def test_unreachable_rows_say_so() -> None:
    found = made.results(matches=LACKING)
    there = duels(found)
    assert there["reach 0.9", "dpsgd", "-"].missing == "dpsgd: unreachable (best 0.81)", "said once, for no attacker"
    assert ("reach 0.9", "dpsgd", "adaptive") not in there
    for form in ("terminal", "markdown"):
        text = words(render(found, form))
        assert text.count("unreachable (best 0.81)") >= 2
        assert "latent_perturb against dpsgd, compared in 1 of 2 settings and targets; adaptive: attack" in text
        assert "nan" not in text.replace("dominant", "").lower()


def test_who_costs_less_wins_where_it_leaks_less_and_never_loses() -> None:
    ours = [made.match("latent_perturb", status="cheaper"), made.match("dpsgd")]
    there = duels(made.results(matches=ours))
    assert there["drop 0.05", "dpsgd", "adaptive"].mse.verdict == "better"
    theirs = made.results(matches=[made.match("latent_perturb"), made.match("dpsgd", status="cheaper")])
    assert duels(theirs)["drop 0.05", "dpsgd", "adaptive"].mse.verdict == "costs less"
    for form in ("terminal", "markdown", "latex"):
        text = words(render(theirs, form))
        assert "strength = 0.1: costs less" in text or form == "terminal", "there it breaks in two"
        assert "MSE at unequal cost in 1 (" in text or form == "latex"
    swapped = {**made.LEVELS, "latent_perturb": made.LEVELS["dpsgd"], "dpsgd": made.LEVELS["latent_perturb"]}
    assert duels(made.results(swapped, theirs.grid["matches"]))["drop 0.05", "dpsgd", "adaptive"].mse.verdict == "worse"
    assert duels(made.results(swapped, ours))["drop 0.05", "dpsgd", "adaptive"].mse.verdict == "costs less"
    level = {**made.LEVELS, "latent_perturb": made.LEVELS["dpsgd"]}
    assert duels(made.results(level, ours, noise=0.0))["drop 0.05", "dpsgd", "adaptive"].mse.verdict == "tie"


def test_two_that_cost_less_are_not_compared() -> None:
    both = made.results(matches=[made.match(f, status="cheaper") for f in ("latent_perturb", "dpsgd")])
    (duel,) = duels(both).values()
    assert duel.missing == "latent_perturb: strength = 1: costs less; dpsgd: strength = 0.1: costs less"
    assert words(render(both, "markdown")).count(": costs less") >= 4, "in the headline and in the table"


@pytest.mark.parametrize("width", [60, 100])
def test_terminal_keeps_to_its_width(width: int) -> None:
    long = made.match("latent_perturb") | {
        "family": 'latent_perturb(kind="bottleneck", beta=0.0001) + dpsgd(sigma=0.1)'
    }
    text = as_terminal(made.results(matches=[*LACKING, long]), width)
    assert max(len(line) for line in text.splitlines()) <= width


def test_texts_of_the_grid_are_no_markup() -> None:
    found = made.results(matches=[*BOTH[1:], BOTH[0] | {"family": NASTY, "knob": NASTY, "reason": NASTY}])
    text = render(found, "terminal")
    assert "\x1b" not in text
    assert "[red]" in text
    text = render(found, "markdown").replace("<details>", "").replace("<summary>", "")
    for line in text.splitlines():
        assert "<b>" not in line.replace("`latent_perturb[red]x\\|y[/red] <b>'z'</b> [31m`", "")


def test_suites_without_matches_say_nothing_of_it() -> None:
    found = plain.results(plain.cells())
    assert matched_report(found) is None
    for form in ("terminal", "markdown", "json"):
        assert "matched" not in render(found, form)
