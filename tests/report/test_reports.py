"""Every format on full, partial and empty results; hostile texts; no torch."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import synthetic_results as made
from rich.console import Console

from gibench.errors import InputError
from gibench.grid import cells, titles
from gibench.leaderboard import COLUMNS
from gibench.report import FORMATS, VIEWS, print_terminal, render
from gibench.report.by_attack_terminal import attacks_as_terminal
from gibench.report.tables import report
from gibench.report.terminal import as_terminal
from gibench.suite import Block, load_suite

DP = "dpsgd(sigma=0.1)"
FULL, PARTIAL = made.cells(datasets=("ihc", "digits"), seeds=(0, 1)), made.cells()
NASTY = "[red]x|y[/red] <b>`z`</b>\n\x1b[31m*w*"


@cache
def some() -> dict[str, made.Results]:
    rows = made.rows(PARTIAL)
    failed = made.clients(PARTIAL)
    failed.loc[failed.defense == DP, ["status", "reason", "utility", "utility_raw"]] = ["failed", NASTY, None, None]
    return {
        "full": made.results(FULL, damaged=["cells/a[b].parquet"]),
        "no undefended": made.results(PARTIAL, rows[rows.defense != "none"]),
        "no floor": made.results(PARTIAL, rows[rows.attack != "prior_only"]),
        "one cell": made.results(PARTIAL, rows[rows.cell == PARTIAL[1]["cell"]]),
        "one victim": made.results(PARTIAL, rows[rows.victim == 0]),
        "failed client": made.results(PARTIAL, rows[rows.defense != DP], clients=failed),
        "all failed": made.results(PARTIAL, made.fail(rows, rows.victim >= 0, NASTY)),
        "no rows": made.results(PARTIAL, rows.iloc[:0], clients=failed.iloc[:0]),
        "nothing": made.nothing(),
    }


@pytest.mark.parametrize(
    ("form", "by"),
    [(form, by) for by in VIEWS for form in FORMATS if by == "defense" or form not in ("csv", "json")],
)
@pytest.mark.parametrize("case", some())
def test_every_format_reports_whatever_there_is(case: str, form: str, by: str) -> None:
    text = render(some()[case], form, by)
    assert text.endswith("\n")
    assert not re.search(r"\bnan\b", text.lower())


@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize("case", some())
def test_terminal_keeps_to_its_width(case: str, width: int) -> None:
    for text in (as_terminal(some()[case], width), attacks_as_terminal(some()[case], width)):
        assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [80, 100])
def test_terminal_shows_the_headline_of_every_defense(width: int) -> None:
    text = as_terminal(some()["full"], width)
    floor, bare, dp, prune = (
        next(line for line in text.splitlines() if line.startswith(name))
        for name in ("prior only", "none", "dpsgd", "prune")
    )
    assert "15.0" in floor
    assert floor.rstrip().endswith("floor")
    assert all(part in bare for part in ("91.0%", "80.0%", "35.0", "init", "+20.0", "HIGH"))
    assert all(part in dp for part in ("86.0%", "18.0", "+3.0", "some"))
    assert all(part in prune for part in ("26.0", "+11.0", "HIGH"))
    assert "[34.5, 35.5]" in text or "[34.4, 35.6]" in text
    assert "epsilon = 5.5" in text
    assert "damaged, not counted: cells/a[b].parquet" in text.replace("\n", " ")
    assert ("MSE" in text) == (width >= 100)


def test_colours_only_repeat_what_words_say() -> None:
    console = Console(file=io.StringIO(), width=100, color_system="standard", force_terminal=True)
    print_terminal(some()["full"], console)
    coloured = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1;31mHIGH" in coloured


def test_no_leak_counts_only_where_one_could_have_been_seen() -> None:
    def weak(cell: dict, victim: int, image: int) -> float:
        return made.FLOOR + (0.5 if cell["attack"] != "prior_only" else 0) + 0.1 * (victim % 2)

    text = as_terminal(made.results(PARTIAL, made.rows(PARTIAL, psnr=weak)), 100)
    assert "unproven" in text
    assert " low" not in text.split("How to read it")[0]
    assert "gains only 0.5 dB over the floor here; this setting proves nothing" in " ".join(text.split())


def test_an_incomplete_worst_case_is_marked_as_a_lower_bound() -> None:
    rows = made.rows(PARTIAL)
    gone = (rows.defense == DP) & (rows.attack == "adaptive_matching")
    text = as_terminal(made.results(PARTIAL, rows[~gone]), 100)
    line = next(line for line in text.splitlines() if line.startswith("dpsgd"))
    assert "15.0*" in line
    assert "unproven" in line


def test_foreign_texts_are_never_markup() -> None:
    planned = [dict(cell) for cell in PARTIAL]
    planned[2].update(status="skipped", reason=NASTY)
    rows = made.rows(PARTIAL)
    found = made.results(planned, rows[rows.cell != planned[2]["cell"]])
    shown = render(found, "terminal")
    assert "[red]x|y[/red]" in shown.replace("\n", " ")
    assert "\x1b" not in shown
    markdown = render(found, "markdown")
    assert "\\[red\\]x\\|y\\[/red\\] \\<b\\>\\`z\\`\\</b\\>" in markdown
    assert "<b>" not in markdown


def test_markdown_tables_are_regular() -> None:
    markdown = render(some()["full"], "markdown")
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 6
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1
    assert markdown.count("<details>") == markdown.count("</details>") == 4
    assert "| `none` (undefended) |" in markdown


def test_markdown_says_what_each_defense_costs() -> None:
    found = some()["full"]
    clients = found.clients.assign(step_ratio=float("nan"), upload_bytes=2048.0)
    ours = clients.index[(clients.defense == DP) & (clients.dataset == "ihc")]
    clients.loc[ours, "step_ratio"] = [1.5, 2.5]
    markdown = render(replace(found, clients=clients), "markdown")
    costs = markdown.split("What each defense costs")[1].split("</details>")[0]
    line = next(line for line in costs.splitlines() if line.startswith(f"| `{DP}` |"))
    assert "| 2.00 | 2.0 |" in line
    assert "| - | 2.0 |" in next(line for line in costs.splitlines() if line.startswith("| `none` |"))


def test_json_is_plain_and_complete() -> None:
    found = json.loads(render(some()["no undefended"], "json"), parse_constant=lambda text: pytest.fail(text))
    assert list(found) == ["suite", "version", "protocol", "commit", "rows"]
    assert (found["suite"], found["version"], found["protocol"]) == ("quick", 1, 1)
    assert all(list(row) == COLUMNS for row in found["rows"])
    missing = next(row for row in found["rows"] if row["status"] == "missing")
    assert (missing["n"], missing["psnr"], missing["adaptive"]) == (0, None, False)
    scored = next(row for row in found["rows"] if row["attack"] == "worst" and row["status"] == "ok")
    assert scored["adaptive"] is True
    assert isinstance(scored["n"], int)
    assert scored["undefended_psnr"] is None


def test_csv_holds_the_same_rows() -> None:
    lines = list(csv.DictReader(io.StringIO(render(some()["full"], "csv"))))
    rows = json.loads(render(some()["full"], "json"))["rows"]
    assert [line["defense"] for line in lines] == [row["defense"] for row in rows]
    assert float(lines[4]["psnr"]) == rows[4]["psnr"]


def test_an_unknown_format_names_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"did you mean 'markdown'.*terminal, markdown, csv, json"):
        render(made.nothing(), "markdwn")
    with pytest.raises(InputError, match=r"did you mean 'attack'.*defense, attack"):
        render(made.nothing(), "csv", "attacks")


def test_reports_and_leaderboard_need_no_torch() -> None:
    code = "import gibench.report, gibench.report.picture, gibench.leaderboard, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_titles_of_a_suite_part_its_tables() -> None:
    planned = made.cells()
    first, second = ("Altered | data", "A sum")
    for cell in planned:
        names = {"none": [first, second], DP: [second]}.get(cell["defense"], [first])
        cell["titles"] = names
    plain = report(made.results(made.cells()))
    parted = report(made.results(planned))
    assert [t.title for t in parted.tables] == [
        f"{name} · {table.title}" for name in (first, second) for table in plain.tables
    ]
    lines = {line.name: line for table in plain.tables for line in table.lines}
    for table in parted.tables:
        shown = {line.name for line in table.lines} - {plain.tables[0].lines[0].name}
        assert (DP in shown) == table.title.startswith(second)
        assert "none" in shown
        for line in table.lines:
            assert math.isclose(line.worst, lines[line.name].worst)
    assert "Altered \\| data" in render(made.results(planned), "markdown")


def test_a_suite_names_the_blocks_of_every_cell() -> None:
    suite = load_suite("smoke", {"title": "all"})
    block = Block(title="again", defenses=suite.defenses[:1])
    names = titles(suite.model_copy(update={"extra": [block]}))
    grid = cells(suite)
    again = {cell.id for cell in grid if cell.client.defense.spec() in ("none", suite.defenses[0])}
    assert names == {cell.id: ["all", "again"] if cell.id in again else ["all"] for cell in grid}
    assert titles(load_suite("smoke")) == {}
