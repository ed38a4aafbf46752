"""What the page shows before anything is clicked: filters, tables with their lines, notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.leaderboard.columns import OBLIVIOUS, PRIOR, WORST
from gibench.report.best import RULE, best, front
from gibench.report.headline import Line
from gibench.report.html.entries import Entries, broken, family, place, summary
from gibench.report.tables import EMPTY, LEGEND, Report, Table
from gibench.report.targets import met
from gibench.report.text import decimals, one_line, percent, signed, span

if TYPE_CHECKING:
    from gibench.store import Results

FILTERS = ("dataset", "model", "threat", "family", "place", "target")
HEADS = [
    ("defense", "defense", "The defense, and what differential privacy promises for it"),
    ("utility", "accuracy", "Accuracy of the final model on test images, with the defense on at inference"),
    ("utility_raw", "on raw", "Accuracy on raw images"),
    ("oblivious", "oblivious dB", "PSNR of the best attack that ignores the defense"),
    ("worst", "worst dB", "PSNR of the best of all attacks per image, mean with its 95 % interval"),
    ("checkpoint", "at", "The checkpoint that leaks most"),
    ("ssim", "SSIM", "Structural similarity of the worst case"),
    ("mse", "MSE", "Mean squared error of the worst case"),
    ("attacker_accuracy", "attack acc.", "Share of reconstructions from which the true class can be read off"),
    ("identified", "identified", "Share of reconstructions from which the true image can be picked from a gallery"),
    ("gain", "gain dB", "How far the worst case comes over what is guessed without any update"),
    ("leak", "leak", "low, some or HIGH; unproven where there is no evidence that nothing leaks"),
]
TEXTS = {"defense", "checkpoint", "leak"}
LEAKS = ["floor", "low", "some", "unproven", "HIGH"]


@dataclass(frozen=True)
class Number:
    """One cell of a table: its column, what is read, what is sorted by, and which attack stands behind it."""

    column: str
    text: str
    value: float | str | None
    small: str = ""
    attack: str = ""


@dataclass(frozen=True)
class Row:
    line: Line
    numbers: list[Number]
    family: str
    place: str
    summary: str
    targets: list[str]
    flags: list[str]
    best: bool
    front: bool


def page(results: Results, shown: Report, matches: pd.DataFrame, entries: Entries) -> dict[str, Any]:
    """What the template reads of the tables. matches: the targets that were recorded, for tags and a filter."""
    tables = [_table(number, table, met(table, matches), entries) for number, table in enumerate(shown.tables)]
    rows = [row for table in tables for row in table["rows"] if row.line.leak != "floor"]
    options = {
        **{name: _once(table[name] for table in tables) for name in ("dataset", "model", "threat")},
        "family": _once(row.family for row in rows),
        "place": _once(row.place for row in rows),
        "target": _once(map(one_line, matches["target"])),
    }
    suite = results.grid.get("suite", {})
    return {
        "title": shown.title,
        "name": one_line(suite.get("name", "-")),
        "summary": one_line(suite.get("summary", "")),
        "tables": tables,
        "filters": {name: options[name] for name in FILTERS if len(options[name]) > 1 or name == "target"},
        "heads": HEADS,
        "texts": TEXTS,
        "notes": shown.notes,
        "legend": LEGEND.removeprefix("How to read it: ") if tables else EMPTY,
        "broken": broken,
        "rule": RULE.removeprefix("bold: "),
    }


def _table(number: int, table: Table, targets: Mapping[str, list[str]], entries: Entries) -> dict[str, Any]:
    first = table.rows.iloc[0]
    marks = zip(table.lines, best(table.lines), front(table.lines), strict=True)
    return {
        "id": number,
        "title": table.title,
        **{name: one_line(first[name]) for name in ("dataset", "model", "threat")},
        "rows": [_row(table, *mark, targets, entries) for mark in marks],
        "notes": table.notes,
        "matched": bool(targets),
    }


def _row(
    table: Table, line: Line, is_best: bool, is_front: bool, targets: Mapping[str, list[str]], entries: Entries
) -> Row:
    spec = line.name if line.leak != "floor" else ""
    raised = table.rows[(table.rows["defense"].map(one_line) == line.name) & (table.rows["flags"] != "")]
    return Row(
        line=line,
        numbers=_numbers(line),
        family=family(spec),
        place=place(spec, entries),
        summary=summary(spec, entries),
        targets=targets.get(spec, []),
        flags=_once(one_line(f"{flag.checkpoint}, {flag.attack}: {flag.flags}") for flag in raised.itertuples()),
        best=is_best,
        front=is_front,
    )


def _numbers(line: Line) -> list[Number]:
    """The same texts as in every other format."""
    star = "*" if line.incomplete and not math.isnan(line.worst) else ""
    worst = PRIOR if line.leak == "floor" else WORST
    return [
        Number("utility", percent(line.utility, 1), _known(line.utility), attack=worst),
        Number("utility_raw", percent(line.utility_raw, 1), _known(line.utility_raw), attack=worst),
        Number("oblivious", decimals(line.oblivious, 1), _known(line.oblivious), attack=OBLIVIOUS),
        Number("worst", decimals(line.worst, 1) + star, _known(line.worst), span(line.low, line.high, ""), worst),
        Number("checkpoint", line.checkpoint, line.checkpoint),
        Number("ssim", decimals(line.ssim, 2), _known(line.ssim), attack=worst),
        Number("mse", decimals(line.mse, 4), _known(line.mse), attack=worst),
        Number("attacker_accuracy", percent(line.attacker_accuracy), _known(line.attacker_accuracy), attack=worst),
        Number("identified", percent(line.identified), _known(line.identified), attack=worst),
        Number("gain", signed(line.gain), _known(line.gain), attack=worst),
        Number("leak", line.leak, LEAKS.index(line.leak) if line.leak in LEAKS else len(LEAKS)),
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))
