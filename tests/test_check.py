"""`gibench check` on invented results: what must fail, what must not, and what may be accepted."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent / "leaderboard"))

import invented_matches as matched
import synthetic_results as made
from rich.console import Console

from gibench.check import Outcome, accepted, check, print_changes
from gibench.errors import InputError
from gibench.expectations import Expectations, Number, as_toml, expectations_of, is_clean, read_expectations

PLANNED = made.cells()
INVERTING = (
    "ihc · lenet · fedsgd · batch 1 · D+kp · labels given · rounds 1 | none | inverting_gradients at init | psnr"
)


class Folder:
    """Stands for a results folder."""

    def __init__(self, results: made.Results, tampered: tuple[str, ...] = ()) -> None:
        self.results, self._tampered = results, list(tampered)

    def read(self) -> made.Results:
        return self.results

    def tampered(self) -> list[str]:
        return self._tampered


def usual(**fields: Any) -> made.Results:
    return made.results(PLANNED, made.rows(PLANNED), **fields)


def shifted(by: float, attack: str = "inverting_gradients", defense: str = "none") -> made.Results:
    rows = made.rows(PLANNED)
    chosen = (rows.attack == attack) & (rows.defense == defense)
    rows.loc[chosen, "psnr"] += by
    return made.results(PLANNED, rows)


def outcome(found: made.Results, expected: Expectations | None = None, **fields: Any) -> Outcome:
    return check(Folder(found, **fields), expected or expectations_of(usual()))  # type: ignore[arg-type]


def failing(found: Outcome) -> dict[str, str]:
    return {change.key: change.verdict for change in found.changes if change.fails}


WRITTEN = as_toml(expectations_of(usual()))


def test_the_same_results_pass() -> None:
    found = outcome(usual())
    assert found.passed
    assert {change.verdict for change in found.changes} == {"same"}
    assert any(change.key == INVERTING for change in found.changes)


@pytest.mark.parametrize("by", [-6.0, 6.0])
def test_an_attack_that_became_weaker_or_stronger_fails(by: float) -> None:
    found = outcome(shifted(by))
    assert not found.passed
    assert failing(found)[INVERTING] == "moved"
    assert not any("dpsgd" in key for key in failing(found))


def test_a_weaker_attack_is_seen_behind_a_stronger_one() -> None:
    """The worst case stays where adaptive_matching has it; only the number of the attack itself moves."""
    keys = failing(outcome(shifted(-6)))
    assert {key.split(" | ")[2] for key in keys} == {
        "oblivious", "inverting_gradients at init", "inverting_gradients at final"
    }  # fmt: skip


@pytest.mark.parametrize("by", [-0.4, 0.4])
def test_noise_within_the_tolerance_passes(by: float) -> None:
    found = outcome(shifted(by))
    assert found.passed
    assert "within" in {change.verdict for change in found.changes}


def test_beyond_the_tolerance_but_not_significant_passes() -> None:
    found = outcome(shifted(1.0))
    assert found.passed, "ten victims between 28 and 32 dB: an interval of about 2 dB"
    assert "noise" in {change.verdict for change in found.changes}


def test_utility_is_judged_by_its_tolerance() -> None:
    for loss, passes in ((0.019, True), (0.021, False)):
        clients = made.clients(PLANNED)
        clients["utility"] -= loss
        assert outcome(made.results(PLANNED, clients=clients)).passed == passes


def test_a_missing_cell_fails() -> None:
    rows = made.rows(PLANNED)
    found = outcome(made.results(PLANNED, rows[rows.cell != PLANNED[1]["cell"]]))
    assert found.problems == ["1 cells missing, first inverting_gradients on none at init"]
    assert "gone" in failing(found).values()


def test_an_extra_cell_fails() -> None:
    more = made.cells(defenses=("none", "dpsgd(sigma=0.1)", "prune(p=0.9)"), datasets=("ihc", "digits"))
    found = outcome(made.results(more))
    assert found.problems == ["number of cells 36 instead of 18"]
    assert set(failing(found).values()) == {"new"}


def test_other_victims_fail() -> None:
    found = outcome(made.results(PLANNED, made.rows(PLANNED, victims=8)))
    assert set(failing(found).values()) == {"other n"}


def test_a_failed_cell_fails() -> None:
    rows = made.rows(PLANNED)
    found = outcome(made.results(PLANNED, made.fail(rows, rows.cell == PLANNED[2]["cell"])))
    (problem,) = found.problems
    assert problem.startswith("1 cells failed, first adaptive_matching on none at init: diverged")
    assert not found.passed


def test_a_folder_that_was_touched_fails() -> None:
    found = outcome(usual(), tampered=("cells.parquet",))
    assert found.problems == ["changed after it was written: cells.parquet"]
    assert outcome(usual(damaged=["cells/a.parquet"])).problems == ["cannot be read: cells/a.parquet"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("protocol", 2, "protocol 1 instead of 2"),
        ("version", 3, "suite version 1 instead of 3"),
        ("suite", "other", "suite quick instead of other"),
        ("cells", 17, "number of cells 18 instead of 17"),
    ],
)
def test_other_things_than_were_expected(field: str, value: Any, words: str) -> None:
    found = outcome(usual(), replace(expectations_of(usual()), **{field: value}))
    assert found.problems == [words]
    assert not found.passed


@pytest.mark.parametrize("commit", ["abc-dirty", "abc, def-dirty", "unknown", ""])
def test_a_dirty_commit_fails_only_where_a_clean_one_is_asked_for(commit: str) -> None:
    assert outcome(usual(commit=commit)).passed
    found = outcome(usual(commit=commit), expectations_of(usual(), clean=True))
    assert not found.passed
    assert "clean = true" in found.problems[0]
    with pytest.raises(InputError, match="clean = true"):
        accepted(Folder(usual(commit=commit)), expectations_of(usual(), clean=True))  # type: ignore[arg-type]


def test_a_clean_commit_is_one_of_a_committed_tree_or_a_release() -> None:
    assert is_clean("0123abc, 4567def")
    assert is_clean("v0.1.0")
    assert not is_clean("0123abc, 4567def-dirty")


def test_accepting_keeps_what_was_set_by_hand() -> None:
    old = expectations_of(usual())
    old.numbers[INVERTING] = replace(old.numbers[INVERTING], tolerance=7.0)
    new = accepted(Folder(shifted(-6.0)), old)  # type: ignore[arg-type]
    assert new.numbers[INVERTING].tolerance == 7.0
    assert not new.clean
    assert accepted(Folder(usual()), None).clean  # type: ignore[arg-type]
    assert outcome(shifted(-6.0), new).passed


def test_incomplete_results_are_not_accepted() -> None:
    rows = made.rows(PLANNED)
    with pytest.raises(InputError, match="cannot be accepted: 1 cells missing"):
        accepted(Folder(made.results(PLANNED, rows[rows.cell != PLANNED[1]["cell"]])), None)  # type: ignore[arg-type]


def test_matched_suites_are_held_by_what_they_are_about() -> None:
    found = matched.results()
    expected = expectations_of(found)
    keys = {tuple(key.split(" | ")[1:]) for key in expected.numbers}
    metrics = ("psnr", "ssim", "attacker_accuracy", "mse", "utility")
    assert {("latent_perturb", metric) for metric in metrics} <= keys
    assert all("drop 0.05" in key for key in expected.numbers)
    weaker = found.rows.copy()
    weaker.loc[(weaker.defense == "dpsgd(sigma=0.1)") & (weaker.attack != "prior_only"), "psnr"] += 6
    moved = failing(outcome(matched.with_rows(found, weaker), expected))
    assert {key.split(" | ", 1)[1] for key in moved} == {"dpsgd | psnr"}
    lost = [matched.unreachable(m["family"]) if m["family"] == "dpsgd" else m for m in found.grid["matches"]]
    gone = failing(outcome(matched.results(matches=lost), expected))
    assert set(gone.values()) == {"gone"}
    assert all("| dpsgd |" in key for key in gone)


@given(st.text(), st.floats(-1e3, 1e3), st.floats(0, 10), st.one_of(st.just(float("nan")), st.floats(-1e3, 1e3)))
def test_the_file_says_what_was_written(text: str, value: float, tolerance: float, low: float) -> None:
    text = text.encode(errors="replace").decode()
    keys = [f"{text} | a", f"{text} | {text} | b", f" | {text}"]
    expected = Expectations(text, 1, 2, text, True, 4, dict.fromkeys(keys, Number(value, low, low, tolerance, 3)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.expected.toml"
        path.write_bytes(as_toml(expected).encode())
        read = read_expectations(path)
    assert (read.suite, read.commit, read.numbers.keys()) == (text, text, expected.numbers.keys())
    number = read.numbers[keys[0]]
    assert [number.value, number.low, number.tolerance] == pytest.approx([value, low, tolerance], rel=1e-5, nan_ok=True)


def test_a_written_file_is_read_back_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "quick.expected.toml"
    path.write_text(as_toml(expectations_of(usual())))
    assert outcome(usual(), read_expectations(path)).passed
    assert not outcome(shifted(-6.0), read_expectations(path)).passed


@pytest.mark.parametrize(
    "text",
    [
        "x = ",
        "suite = 1",
        'suite = "a"',
        WRITTEN.replace("value", "valeu"),
        WRITTEN.replace("cells = 18", "cells = 'x'"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "quick.expected.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="not a file of expectations"):
        read_expectations(path)


def test_the_table_shows_what_moved_and_hostile_texts_as_texts() -> None:
    import io

    found = outcome(shifted(-6.0))
    nasty = replace(next(change for change in found.changes if change.fails), key="[red]x[/red]\x1b[31m" + "y" * 200)
    console = Console(file=io.StringIO(), width=100, color_system=None)
    print_changes(Outcome([*found.changes, nasty], ["[bold]p[/bold]"]), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "-6" in text
    assert "[red]x[/red]" in text
    assert "[bold]p[/bold]" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_check_needs_no_torch() -> None:
    code = "import sys, gibench.check, gibench.suite_files; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
