"""The block of a page that comes first where a suite matches utility: duels and families, each line with what the
filters ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from gibench.leaderboard.columns import OBLIVIOUS, PRIOR, WORST
from gibench.report.html.entries import Entries, broken, family, place, summary
from gibench.report.matched import AS_IT_RAN, CLAIM, HEADLINE, READING, Duel, MatchedReport, MatchedTable
from gibench.report.matched_lines import COLUMNS, MatchedLine, by_target
from gibench.report.tables import TABLE, Table
from gibench.report.text import one_line

HINTS = {
    "utility_val": "Utility on validation images, by which the defense was tuned; mean over seeds",
    "utility": "The same measure on test images",
    "oblivious": "PSNR of the best attack that ignores the defense",
    "worst": "PSNR of the best of all attacks per image, mean with its 95 % interval",
    "checkpoint": "The checkpoint that leaks most",
    "decile": "PSNR of the tenth of the images that leak most",
    "ssim": "Structural similarity of the worst case",
    "mse": "Mean squared error of the worst case",
    "attacker_accuracy": "Share of reconstructions from which the true class can be read off",
    "recognised": "Share of images beyond 20 dB, or beyond what 99 % of the floor's images stay below",
    "rank": "1 + the number of defenses that leak significantly less",
}
OPENED = {name: WORST for name in COLUMNS if name not in ("checkpoint", "rank")} | {"oblivious": OBLIVIOUS}
"""Which attack a click on a number opens."""


@dataclass(frozen=True)
class Row:
    """attacks: per column the attack that a click opens, empty for none."""

    line: MatchedLine
    family: str
    place: str
    summary: str
    attacks: dict[str, str]


def block(shown: MatchedReport | None, tables: Sequence[Table], entries: Entries) -> dict[str, Any] | None:
    """Everything that the template reads; None for a suite without matches."""
    if shown is None:
        return None
    numbers = {_setting(table): number for number, table in enumerate(tables)}
    return {
        "headline": HEADLINE,
        "as_it_ran": AS_IT_RAN,
        "summary": shown.summary,
        "claim": CLAIM,
        "reading": READING.removeprefix("How to read it: "),
        "heads": [(column, head, HINTS[column]) for column, head in COLUMNS.items()],
        "settings": [_table(table, numbers.get(_setting(table), -1), entries) for table in shown.tables],
        "broken": broken,
    }


def _setting(table: Table | MatchedTable) -> tuple[Any, ...]:
    return tuple(table.rows.iloc[0][TABLE])


def _table(table: MatchedTable, number: int, entries: Entries) -> dict[str, Any]:
    """number: of the table of the same setting, where clicks find their cells; -1 where nothing was attacked."""
    first = table.rows.iloc[0]
    return {
        "title": table.title,
        "table": number,
        **{name: one_line(first[name]) for name in ("dataset", "model", "threat")},
        "duels": list(_duels(table.duels)),
        "targets": [(at, [_row(line, entries) for line in at.lines]) for at in by_target(table.rows)],
    }


def _duels(duels: Sequence[Duel]) -> Iterator[tuple[str, list[Duel]]]:
    for target, part in groupby(duels, key=lambda duel: duel.target):
        yield target, list(part)


def _row(line: MatchedLine, entries: Entries) -> Row:
    spec = "" if line.floor else line.defense or line.name
    opened = {name: PRIOR if line.floor else attack for name, attack in OPENED.items() if line.texts[name] != "-"}
    attacks = {name: opened.get(name, "") for name in line.texts}
    return Row(line, family(spec), place(spec, entries), summary(spec, entries), attacks)
