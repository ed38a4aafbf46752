"""Matched utility in every format: the same families in the same order, with the same numbers and ranks."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import invented_matches as made
import pytest
import synthetic_results as plain

from gibench.report import FORMATS, render
from gibench.report.terminal import as_terminal
from gibench.report.text import decimals, percent, signed_percent

Line = tuple[str, ...]
"""Target, family, remark, then utility on validation and test, oblivious, worst, its interval, at, top 10 %, SSIM, MSE,
attack accuracy, recognised, rank."""
Duel = tuple[str, ...]
"""Target, family, rival, attacker, then per metric the relative change and the verdict, or why there are none."""

END = "Every defense as it ran"
MATCHES = [made.match(family) for family in made.LEVELS]
MATCHES += [made.match("latent_perturb", "reach 0.9"), made.unreachable("dpsgd", "reach 0.9")]


def results() -> plain.Results:
    """Four families at one target, two at another; one cannot reach it, and one lacks a result."""
    found = made.results(matches=MATCHES)
    rows = found.rows
    lacking = (rows.defense == made.FAMILIES["clip"]) & (rows.checkpoint == "final")
    return made.with_rows(found, rows[~(lacking & (rows.attack == "adaptive_matching"))])


def of_terminal() -> list[Line]:
    text = as_terminal(results(), 250).partition("How to read it")[0].splitlines()
    found, target = [], ""
    start = next(k for k, line in enumerate(text) if line.startswith("defense ")) + 2
    for line, after in zip(text[start:], text[start + 1 :], strict=False):
        name, *numbers = re.split(r"\s+", re.sub("^prior only", "prior-only", line).strip())
        if re.match(r"(drop|retain|reach) ", line):
            target = line.strip()
        elif len(numbers) == 11:
            said, interval = re.fullmatch(r"(.*?)\s*(\[.*\])?\s*", after).groups()  # type: ignore[union-attr]
            found.append((target, name.replace("-", " "), said, *numbers[:4], interval or "", *numbers[4:]))
    return found


def of_markdown() -> list[Line]:
    found, target = [], ""
    text = render(results(), "markdown").partition(END)[0]
    for line in re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL).replace("\\", "").splitlines():
        if opened := re.match(r"\*\*(.*?)\*\*: ", line):
            target = opened[1]
        cells = line.strip("| ").split(" | ")
        if target and len(cells) == 12 and not line.startswith(("| ---", "| defense")):
            name, said = re.fullmatch(r"(`.*?`|prior only) ?(.*)", cells[0]).groups()  # type: ignore[union-attr]
            found.append((target, name.strip("`"), said, *cells[1:4], *split(cells[4]), *cells[5:]))
    return found


def of_latex() -> list[Line]:
    found = []
    for table in render(results(), "latex").partition(END)[0].split(r"\begin{table*}")[1:]:
        target = re.search(r"At matched utility, (.*?): accuracy", table)
        for line in table.splitlines():
            cells = re.sub(r"\\textbf\{(.*?)\}", r"\1", line).removesuffix(r" \\").split(" & ")
            if target and len(cells) == 12 and cells[0] != "defense":
                cells = [re.sub(r"\\([%_])", r"\1", cell) for cell in cells]
                shown = re.fullmatch(r"\\raggedright (\\texttt\{.*?\}|prior only) ?(.*)", cells[0])
                name, said = shown.groups()  # type: ignore[union-attr]
                name = name.removeprefix(r"\texttt{").removesuffix("}")
                found.append((target[1], name, said, *cells[1:4], *split(cells[4]), *cells[5:]))
    return found


def split(worst: str) -> tuple[str, str]:
    number, _, interval = worst.partition(" ")
    return number, interval


class Tables(HTMLParser):
    """The texts of every cell, by the class of its table; a cell is a list of the texts in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[list[str]]]] = {}
        self.table = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.table = str(dict(attrs).get("class")) if tag == "table" else self.table
        if tag == "tr":
            self.rows.setdefault(self.table, []).append([])
        if tag in ("th", "td"):
            self.rows[self.table][-1].append([])

    def handle_endtag(self, tag: str) -> None:
        self.table = "" if tag == "table" else self.table

    def handle_data(self, data: str) -> None:
        if self.table and data.strip() and self.rows[self.table][-1]:
            self.rows[self.table][-1][-1].append(data.strip())


def of_html() -> list[Line]:
    found, target = [], ""
    for cells in Tables(render(results(), "html")).rows["families"][1:]:
        if len(cells) == 1:
            target = cells[0][0]
            continue
        (name, *said), numbers = cells[0], [cell[0] for cell in cells[1:]]
        interval = cells[4][1] if len(cells[4]) > 1 else ""
        found.append((target, name, *(said or [""]), *numbers[:4], interval, *numbers[4:]))
    return found


def of_json() -> list[Line]:
    """The oracle: texts of the numbers that programs read."""
    return [of_record(row) for row in json.loads(render(results(), "json"))["matched"]]


def of_record(row: dict) -> Line:
    name = "prior only" if row["family"] == "prior_only" else row["family"]
    n = {key: float("nan") if value is None else value for key, value in row.items()}
    said = {"prior only": "(no update)", "none": "(undefended)"}.get(name, row["reason"])
    star = "*" if row["reason"] and row["n"] else ""
    return (
        row["target"],
        name,
        f"{row['knob']} = {row['value']:.6g}" if row["status"] == "matched" else said,
        percent(n["utility_val"], 1),
        percent(n["utility"], 1),
        decimals(n["oblivious_psnr"], 1),
        decimals(n["psnr"], 1) + star,
        f"[{row['psnr_low']:.1f}, {row['psnr_high']:.1f}]" if row["n"] else "",
        row["checkpoint"] or "-",
        decimals(n["decile_psnr"], 1),
        decimals(n["ssim"], 2),
        decimals(n["mse"], 4),
        percent(n["attacker_accuracy"]),
        percent(n["recognised_psnr"]),
        decimals(n["rank"], 0),
    )


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
def test_the_same_families_numbers_and_ranks_in_the_same_order(form: str) -> None:
    found = READERS[form]()
    assert [line[:2] for line in found] == [
        *(("drop 0.05", name) for name in ("prior only", "none", "latent_perturb", "dpsgd", "prune", "clip")),
        *(("reach 0.9", name) for name in ("prior only", "none", "latent_perturb", "dpsgd")),
    ]
    assert [line[-1] for line in found] == ["-", "-", "1", "2", "2", "4", "-", "-", "1", "-"]
    assert found[-1][2:] == ("unreachable (best 0.81)", "-", "-", "-", "-", "", *["-"] * 7)
    assert found[5][6].endswith("*")
    assert found == of_json()


def duels_of_markdown() -> list[Duel]:
    lines = [line.strip("| ").split(" | ") for line in render(results(), "markdown").splitlines()]
    plain = [[re.sub(r"[`*\\]", "", cell) for cell in line] for line in lines if len(line) == 10]
    return [duel(*cells[:4], cells[6:]) for cells in plain if cells[0] not in ("target", "---")]


def duels_of_latex() -> list[Duel]:
    found = []
    for line in render(results(), "latex").splitlines():
        cells = line.removesuffix(r" \\").split(" & ")
        plain = [re.sub(r"\\(?:raggedright |texttt|textbf|multicolumn\{3\}\{l@\{\}\})|[{}$\\]", "", c) for c in cells]
        if line.endswith(r" \\") and len(cells) in (8, 10) and plain[0] != "target":
            found.append(duel(*plain[:4], plain[6:]))
    return found


def duels_of_html() -> list[Duel]:
    found, target = [], ""
    for cells in Tables(render(results(), "html")).rows["duels"][1:]:
        texts = [" ".join(cell) for cell in cells]
        if len(texts) == 1:
            target = texts[0]
        else:
            found.append(duel(target, *texts[:3], texts[5:]))
    return found


def duel(target: str, family: str, rival: str, attacker: str, numbers: list[str]) -> Duel:
    return (target, family, rival, attacker, *(cell for cell in numbers if cell != "-"))


def duels_of_json() -> list[Duel]:
    """Only this fixture's: ours comes first in every pair, and every reachable rival is at the first target."""
    pairs = json.loads(render(results(), "json"))["pairs"]
    found = []
    for rival in ("dpsgd", "prune"):
        for score, attacker in (("worst", "adaptive"), ("oblivious", "oblivious")):
            said = []
            for metric in ("attacker_accuracy", "mse"):
                (pair,) = [
                    p
                    for p in pairs
                    if (p["family"], p["other"], p["score"], p["metric"]) == ("latent_perturb", rival, score, metric)
                ]
                less = pair["difference"] < 0
                verdict = "tie" if not pair["separated"] else "better" if less == (metric != "mse") else "worse"
                said += [f"{signed_percent(pair['relative'])} {span(pair)}", verdict]
            found.append(("drop 0.05", "latent_perturb", rival, attacker, *said))
    return [*found, ("reach 0.9", "latent_perturb", "dpsgd", "-", "dpsgd: unreachable (best 0.81)")]


def span(pair: dict) -> str:
    return f"[{100 * pair['relative_low']:.1f}, {100 * pair['relative_high']:.1f}]"


@pytest.mark.parametrize("read", [duels_of_markdown, duels_of_latex, duels_of_html])
def test_the_same_duels_in_the_same_order(read: Callable[[], list[Duel]]) -> None:
    assert read() == duels_of_json()


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "html"])
def test_words_and_the_claims_of_others_come_before_any_number_of_a_table(form: str) -> None:
    text = " ".join(re.sub(r"[\\│]", "", render(results(), form)).replace("&#39;", "'").split())
    told = text.index("latent_perturb against dpsgd, compared in 1 of 2 settings and targets; adaptive: attack")
    claim = text.index("Claimed elsewhere: the abstract of arXiv 2503.16542 says 12.5 % less attacker accuracy")
    assert told < claim < text.index("prior only") < text.index(END)
    assert "neither a replication nor its failure" in text
