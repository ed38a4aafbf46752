"""Audits in every format: the same lines in the same order with the same numbers, and foreign text as text."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import invented_audits as made
import pytest
import synthetic_results as plain

from gibench.report import FORMATS, render
from gibench.report.terminal import as_terminal
from gibench.report.text import measured

Line = tuple[str, ...]
"""What a line begins with, and its numbers."""

START = "Audits"


def of_json() -> list[Line]:
    """The oracle: texts of the numbers that programs read, laid out as the tables are."""
    rows = [row for row in json.loads(render(made.results(), "json"))["audits"] if row["seeds"]]
    text = {
        (row["audit"], row["group"], row["defense"], row["name"]): measured(
            row["value"], float("nan") if row["spread"] is None else row["spread"], row["unit"]
        )
        for row in rows
    }
    found: list[Line] = []
    for group in ("class 0", "class_1"):
        for d in made.DEFENSES:
            found.append((group, d, *(text.get(("judge(k=2)", group, d, n), "-") for n in ("accuracy", "AUC"))))
    found += [("whole", d, text["judge(k=2)", "whole", d, "time"]) for d in made.DEFENSES]
    return [*found, ("none", text["cost", "", "none", "bytes <each>"])]


def of_terminal() -> list[Line]:
    found, group = [], ""
    text = as_terminal(made.results(), 250).partition(f"\n{START}\n")[2].partition("Audits judge")[0]
    for line in text.splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        if not re.fullmatch(r"(-|[\d.]+(%|e\+\d+)?( ± \S+)?)", cells[-1]) or line.startswith("- "):
            continue
        if cells[0] not in made.DEFENSES:
            group, *cells = cells
        found.append((group, *cells))
    return [*found[:-1], found[-1][1:]]  # the last table has no groups


def of_markdown() -> list[Line]:
    found = []
    for line in render(made.results(), "markdown").partition(f"## {START}")[2].splitlines():
        cells = [cell.strip("`").replace("\\", "") for cell in line.strip("| ").split(" | ")]
        if line.startswith("|") and cells[0] not in ("about", "defense", "---"):
            found.append(tuple(cells))
    return found


def of_latex() -> list[Line]:
    found, inside = [], False
    for line in render(made.results(), "latex").splitlines():
        inside = START in line if r"\caption" in line else inside
        if inside and line.endswith(r" \\"):
            cells = line.removesuffix(r" \\").replace(r"$\pm$", "±").split(" & ")
            cells = [re.sub(r"\\texttt\{(.*)\}", r"\1", cell).replace("\\allowbreak ", "") for cell in cells]
            found.append(tuple(cell.replace("\\", "") for cell in cells))
    return [line for line in found if line[0] not in ("about", "defense")]


class Tables(HTMLParser):
    """The cells of the tables of audits."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = dict(attrs).get("class") == "audits" if tag == "table" else self.inside
        if self.inside and tag == "tr":
            self.rows.append([])
        if self.inside and tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "table"

    def handle_data(self, data: str) -> None:
        if self.inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def of_html() -> list[Line]:
    rows = Tables(render(made.results(), "html")).rows
    return [tuple(row) for row in rows if row[0] not in ("about", "defense")]


READERS: dict[str, Callable[[], list[Line]]] = {
    "terminal": of_terminal,
    "markdown": of_markdown,
    "json": of_json,
    "latex": of_latex,
    "html": of_html,
}


def test_every_format_is_compared() -> None:
    assert READERS.keys() == FORMATS.keys() - {"csv"}, "csv is one table, the leaderboard"


@pytest.mark.parametrize("form", READERS)
def test_the_same_lines_and_numbers_in_the_same_order(form: str) -> None:
    found = READERS[form]()
    assert found == of_json()
    assert found[0] == ("class 0", "none", "88.0% ± 2.8%", "0.9128 ± 0.00071")
    assert found[1][3] == "-", "a measure that a defense lacks"
    assert found[-1] == ("none", "1.235e+04")


@pytest.mark.parametrize("form", FORMATS)
def test_foreign_text_is_text_and_what_is_lacking_is_said(form: str) -> None:
    text = render(made.results(), form)
    assert form in ("json", "terminal") or "<b>broke" not in text
    assert form != "markdown" or "\\<b\\>broke" in text
    if form not in ("csv", "json"):
        told = re.sub(r"\\[a-z]+\{\}|[\\$]", "", " ".join(text.split()))
        assert "incomplete: noise(sigma=0.1): 1 of 2 examinations lacking" in told
        assert "skipped: prune(p=0.9), noise(sigma=0.1): only_none" in told
        assert "stranger" not in told


@pytest.mark.parametrize("form", FORMATS)
def test_reports_without_audits_do_not_speak_of_them(form: str) -> None:
    assert START not in render(plain.results(plain.cells()), form).partition("<body>")[2 if form == "html" else 0]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_tables_stay_within_the_screen(width: int) -> None:
    assert max(map(len, as_terminal(made.results(), width).partition(START)[2].splitlines())) <= width
    text = as_terminal(made.results(), width).partition(START)[2]
    for number in ("88.0%", "2.8%", "0.9128", "1.235e+04"):
        assert number in text
