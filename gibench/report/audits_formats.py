"""Audits on screen, for a README and for a paper: the same tables in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gibench.report.audits import HEADLINE, READING, AuditLine, AuditReport, AuditTable
from gibench.report.grids import grid
from gibench.report.latex_tables import floating, listed, remark, tabular
from gibench.report.latex_text import escaped as latex
from gibench.report.latex_text import spec
from gibench.report.text import code
from gibench.report.text import markdown as escaped

Writer = Callable[[str], str]

NARROWEST, SLIMMEST, GAP = 16, 9, 2  # columns for a name, for a number, between them
BESIDE, BELOW = " ± ", "\n±"


def print_audits(shown: list[AuditReport], console: Console) -> None:
    """Every audit below its title, in the console's width: a table that is too wide goes on below."""
    console.print()
    console.print(Text(HEADLINE, style="bold"))
    for audit in shown:
        console.print()
        console.print(Text(audit.title, style="bold cyan"))
        for table in audit.tables:
            for shown_table in _grids(table, console.width):
                console.print(shown_table)
        for note in audit.notes:
            console.print(Text(f"- {note}"))
    console.print()
    console.print(Text(READING, style="dim"))


def _grids(table: AuditTable, width: int) -> Iterator[Table]:
    """One, or as many measures at a time as fit beside the names; spreads go below where that makes room."""
    names = [_names(table, line) for line in table.lines]
    room = width - sum(GAP + max(NARROWEST, *map(len, column)) for column in zip(*names, strict=True))
    between, widths = BESIDE, _widths(table, BESIDE)
    if sum(widths) + GAP * len(widths) > room:
        between, widths = BELOW, _widths(table, BELOW)
    first = used = 0
    for number, wide in enumerate(widths):
        if number > first and used + GAP + wide > room:
            yield _grid(table, range(first, number), widths, between)
            first, used = number, 0
        used += GAP + wide
    yield _grid(table, range(first, len(widths)), widths, between)


def _widths(table: AuditTable, between: str) -> list[int]:
    """Of every measure's column."""
    columns = zip(*(line.texts for line in table.lines), strict=True)
    texts = [[part for text in column for part in text.replace(BESIDE, between).split("\n")] for column in columns]
    heads = (head.split() for head in table.measures)
    return [max(SLIMMEST, *map(len, [*head, *column])) for head, column in zip(heads, texts, strict=True)]


def _grid(table: AuditTable, measures: range, widths: list[int], between: str) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for head in table.heads[: -len(table.measures)]:
        shown.add_column(head, overflow="fold", min_width=NARROWEST)
    for number in measures:
        shown.add_column(table.measures[number], justify="right", width=widths[number])
    before = ""
    for line in table.lines:
        names = [Text(name) for name in _names(table, line)]
        if table.grouped and line.group == before:
            names[0] = Text("")
        before = line.group
        shown.add_row(*names, *(_cell(line.texts[number], between) for number in measures))
    return shown


def _cell(text: str, between: str) -> Text:
    value, found, spread = text.partition(BESIDE)
    return Text.assemble(value, (between + spread if found else "", "dim"))


def _names(table: AuditTable, line: AuditLine) -> list[str]:
    return [*([line.group] if table.grouped else []), *([line.defense] if table.defended else [])]


def audits_as_markdown(shown: list[AuditReport]) -> Iterator[str]:
    """Parts to be parted by empty lines."""
    yield f"## {HEADLINE}"
    for audit in shown:
        yield f"### {escaped(audit.title)}"
        for table in audit.tables:
            heads = [escaped(head) for head in table.heads]
            yield grid(heads, ([*_named(table, line, escaped, code), *line.texts] for line in table.lines))
        if audit.notes:
            yield "\n".join(f"- {escaped(note)}" for note in audit.notes)
    yield escaped(READING)


def audits_as_latex(shown: list[AuditReport], title: str) -> Iterator[str]:
    """A float per table."""
    for number, audit in enumerate(shown, 1):
        for part, table in enumerate(audit.tables, 1):
            rows = [[*_named(table, line, latex, spec), *map(latex, line.texts)] for line in table.lines]
            columns = "l" * (len(table.heads) - len(table.measures)) + "r" * len(table.measures)
            caption = f"{latex(title)}. {HEADLINE}: {latex(audit.title)}."
            notes = audit.notes if part == len(audit.tables) else []
            yield floating(tabular(columns, table.heads, rows), caption, f"tab:gibench-audit-{number}-{part}", notes)
        if not audit.tables and audit.notes:
            yield listed([f"{audit.title}: {note}" for note in audit.notes])
    yield remark(READING)


def _named(table: AuditTable, line: AuditLine, plain: Writer, spec: Writer) -> list[str]:
    """What a line begins with; a defense's spec is written in its own letters."""
    return [*([plain(line.group)] if table.grouped else []), *([spec(line.defense)] if table.defended else [])]
