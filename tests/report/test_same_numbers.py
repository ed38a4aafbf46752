"""One result, six formats: the same numbers in the same order everywhere."""

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import groupby

import pytest
import synthetic_results as made
from invented_matches import two_targets

from gibench.report import FORMATS, render
from gibench.report.terminal import as_terminal
from gibench.report.text import decimals, percent, signed

Line = tuple[str, ...]
"""Defense, accuracy, accuracy on raw images, oblivious, worst, checkpoint, gain."""

NAMES = ("none", "dpsgd", "prune")


def as_it_ran(text: str) -> str:
    """What comes after the block of matched utility, where there is one."""
    return text.rpartition("Every defense as it ran")[2]


def of_terminal(results: made.Results) -> list[Line]:
    text = as_it_ran(as_terminal(results, 200))
    lines = [line.split() for line in text.splitlines() if line.startswith(NAMES)]
    return [(line[0], *line[1:6], line[10]) for line in lines]


def of_markdown(results: made.Results) -> list[Line]:
    heads = as_it_ran(render(results, "markdown")).split("<details>")
    rows = [line.strip("| ").split(" | ") for text in heads for line in text.splitlines() if line.startswith("| `")]
    rows = [row for row in rows if len(row) == 12 and "%" in row[1] and "dB" not in row[1]]
    return [(row[0].split("`")[1], row[1], row[2], row[3], row[4].split(" ")[0], row[5], row[10]) for row in rows]


def of_latex(results: made.Results) -> list[Line]:
    found = []
    for cells in latex_rows(as_it_ran(render(results, "latex"))):
        name = re.search(r"\\texttt\{(.*?)\}", cells[0])
        if name and len(cells) == 12:
            spec = name[1].replace("\\allowbreak ", "").replace("\\ ", " ")
            found.append((spec, *cells[1:4], cells[4].split(" ")[0], cells[5], cells[10]))
    return found


def latex_rows(text: str) -> list[list[str]]:
    rows = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")]
    plain = [[re.sub(r"\\textbf\{(.*)\}", r"\1", cell) for cell in row] for row in rows]
    return [[cell.replace("\\%", "%").replace("\\_", "_").strip("$") for cell in row] for row in plain]


class Board(HTMLParser):
    """Rows of the page's main tables: the defense, and the text of each column."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self.board, self.column = False, ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.board = given.get("class") == "board" if tag == "table" else self.board
        if tag == "tr" and self.board and "data-defense" in given:
            self.rows.append({"defense": str(given["data-defense"]), "leak": str(given["data-leak"])})
        self.column = str(given.get("data-column", "")) if tag in ("td", "th") else self.column

    def handle_endtag(self, tag: str) -> None:
        self.column = "" if tag in ("td", "th") else self.column

    def handle_data(self, data: str) -> None:
        if self.column and self.rows and data.strip():
            self.rows[-1].setdefault(self.column, data.strip())


def of_html(results: made.Results) -> list[Line]:
    columns = ("defense", "utility", "utility_raw", "oblivious", "worst", "checkpoint", "gain")
    rows = [row for row in Board(render(results, "html")).rows if row["leak"] != "floor"]
    return [tuple(row[name] for name in columns) for row in rows]


def of_rows(rows: list[dict]) -> list[Line]:
    """What the other formats show, from the rows that programs read."""
    setting = ("dataset", "model", "batch", "threat", "labels", "rounds", "defense")
    ordered: dict[tuple, list[dict]] = {}
    for key, part in groupby(rows, key=lambda row: tuple(row[name] for name in setting)):
        ordered.setdefault(key, []).extend(part)
    found = []
    for part in ordered.values():
        worst = max((row for row in part if row["attack"] == "worst"), key=lambda row: float(row["psnr"]))
        at = worst["checkpoint"]
        blind = next(row for row in part if row["attack"] == "oblivious" and row["checkpoint"] == at)
        numbers = {name: float(worst[name]) for name in ("utility", "utility_raw", "psnr", "floor_psnr")}
        found.append(
            (
                worst["defense"],
                percent(numbers["utility"], 1),
                percent(numbers["utility_raw"], 1),
                decimals(float(blind["psnr"]), 1),
                decimals(numbers["psnr"], 1),
                at,
                signed(numbers["psnr"] - numbers["floor_psnr"]),
            )
        )
    return found


def of_json(results: made.Results) -> list[Line]:
    return of_rows(json.loads(render(results, "json"))["rows"])


def of_csv(results: made.Results) -> list[Line]:
    return of_rows(list(csv.DictReader(io.StringIO(render(results, "csv")))))


READERS: dict[str, Callable[[made.Results], list[Line]]] = {
    "terminal": of_terminal,
    "markdown": of_markdown,
    "csv": of_csv,
    "json": of_json,
    "latex": of_latex,
    "html": of_html,
}


def test_every_format_is_compared() -> None:
    assert READERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("case", ["full", "matched"])
def test_the_same_numbers_in_the_same_order(case: str, form: str) -> None:
    full = made.results(made.cells(datasets=("ihc", "digits"), seeds=(0, 1)))
    results = full if case == "full" else two_targets()
    found = READERS[form](results)
    assert len(found) == (6 if case == "full" else 3)
    assert found == of_terminal(results)
    assert found[1] == (
        "dpsgd(sigma=0.1)",
        *(("86.0%",) if case == "full" else ("85.0%",)),
        "75.0%",
        "15.0",
        "18.0",
        found[1][5],
        "+3.0",
    )
