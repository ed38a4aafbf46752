"""What every report says of audits, before it becomes text: per audit tables of defenses and what they were found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from gibench.leaderboard.audits import TABLE, audited
from gibench.leaderboard.columns import PLAIN
from gibench.report.text import measured, one_line

if TYPE_CHECKING:
    from gibench.store import Results

HEADLINE = "Audits"
READING = (
    "Audits judge the trained clients, not images: means over seeds, with the standard deviation where there are "
    "several. The settings stand in the title; `gibench list audits` says what each of them measures."
)


@dataclass(frozen=True)
class AuditLine:
    """A defense in a group, and the text of each measure."""

    defense: str
    group: str
    texts: list[str]


@dataclass(frozen=True)
class AuditTable:
    """Groups with the same measures. A line begins with what tells it from the others: its group, its defense."""

    measures: list[str]
    lines: list[AuditLine]
    grouped: bool
    defended: bool

    @property
    def heads(self) -> list[str]:
        return [*(["about"] if self.grouped else []), *(["defense"] if self.defended else []), *self.measures]


@dataclass(frozen=True)
class AuditReport:
    """One audit of one dataset, model and training."""

    title: str
    tables: list[AuditTable]
    notes: list[str]


def audit_reports(results: Results) -> list[AuditReport]:
    """All audits in planned order; none where there are none."""
    return [_report(rows) for _, rows in audited(results).groupby(TABLE, sort=False, dropna=False)]


def _report(rows: pd.DataFrame) -> AuditReport:
    first = rows.iloc[0]
    trained = [] if first["training"] == PLAIN else [first["training"]]
    known = rows[rows["seeds"] > 0]
    alone = [known["defense"].iloc[0]] if known["defense"].nunique() == 1 else []
    title = one_line(" · ".join(map(str, [first["audit"], first["dataset"], first["model"], *trained, *alone])))
    alike: dict[tuple[str, ...], list[str]] = {}  # measures -> the groups that have them
    for group, part in known.groupby("group", sort=False):
        alike.setdefault(tuple(dict.fromkeys(part["name"])), []).append(str(group))
    tables = [
        _table(known[known["group"].isin(groups)], list(names), groups, bool(alone)) for names, groups in alike.items()
    ]
    return AuditReport(title, tables, _notes(rows))


def _table(rows: pd.DataFrame, names: list[str], groups: list[str], alone: bool) -> AuditTable:
    """Line by line, so that the defenses of a group stand below each other."""
    units = dict(zip(rows["name"], rows["unit"], strict=True))
    heads = [one_line(f"{name} ({units[name]})" if units[name] not in ("", "share") else name) for name in names]
    texts = {
        (row.group, row.defense, row.name): measured(row.value, row.spread, row.unit)
        for row in rows[["group", "defense", "name", "value", "spread", "unit"]].itertuples(index=False, name="Row")
    }
    lines = [
        AuditLine(one_line(defense), one_line(group), [texts.get((group, defense, name), "-") for name in names])
        for group in groups
        for defense in dict.fromkeys(rows.loc[rows["group"] == group, "defense"])
    ]
    grouped = groups != [""]
    return AuditTable(heads, lines, grouped, not (alone and grouped))


def _notes(rows: pd.DataFrame) -> list[str]:
    """What a measure says of itself, once; then what is lacking, a line per status and reason."""
    notes = [one_line(note) for note in dict.fromkeys(rows["note"]) if note]
    odd = rows[rows["reason"] != ""].drop_duplicates(["defense", "status", "reason"])
    for (status, reason), part in odd.groupby(["status", "reason"], sort=False):
        word = "incomplete" if status == "ok" else status
        notes.append(one_line(f"{word}: {', '.join(part['defense'])}: {reason}"))
    return notes
