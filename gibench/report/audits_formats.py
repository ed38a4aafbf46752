"""Audits on screen, for a README and for a paper: the same tables in each."""

from __future__ import annotations

from collections.abc import Iterator

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

NARROWEST = 16  # columns for a name


def print_audits(shown: list[AuditReport], console: Console) -> None:
    """Every audit below its title, in the console's width."""
    console.print()
    console.print(Text(HEADLINE, style="bold"))
    for audit in shown:
        console.print()
        console.print(Text(audit.title, style="bold cyan"))
        for table in audit.tables:
            console.print(_grid(table))
        for note in audit.notes:
            console.print(Text(f"- {note}"))
    console.print()
    console.print(Text(READING, style="dim"))


def _grid(table: AuditTable) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    words = len(table.heads) - len(table.measures)
    widths = [max(map(len, head.split())) if number >= words else NARROWEST for number, head in enumerate(table.heads)]
    for number, head in enumerate(table.heads):
        shown.add_column(
            head,
            justify="left" if number < words else "right",
            overflow="fold",
            vertical="bottom",
            min_width=widths[number],
        )
    before = ""
    for line in table.lines:
        names = [Text("" if line.group == before else line.group)] if table.grouped else []
        before = line.group
        shown.add_row(*names, Text(line.defense), *(Text(text) for text in line.texts))
    return shown


def audits_as_markdown(shown: list[AuditReport]) -> Iterator[str]:
    """Parts to be parted by empty lines."""
    yield f"## {HEADLINE}"
    for audit in shown:
        yield f"### {escaped(audit.title)}"
        for table in audit.tables:
            heads = [escaped(head) for head in table.heads]
            yield grid(heads, ([*_group(table, line), code(line.defense), *line.texts] for line in table.lines))
        if audit.notes:
            yield "\n".join(f"- {escaped(note)}" for note in audit.notes)
    yield escaped(READING)


def _group(table: AuditTable, line: AuditLine) -> list[str]:
    return [escaped(line.group)] if table.grouped else []


def audits_as_latex(shown: list[AuditReport], title: str) -> Iterator[str]:
    """A float per table."""
    for number, audit in enumerate(shown, 1):
        for part, table in enumerate(audit.tables, 1):
            groups = [[latex(line.group)] if table.grouped else [] for line in table.lines]
            rows = [
                [*group, spec(line.defense), *map(latex, line.texts)]
                for group, line in zip(groups, table.lines, strict=True)
            ]
            columns = "l" * (1 + table.grouped) + "r" * len(table.measures)
            caption = f"{latex(title)}. {HEADLINE}: {latex(audit.title)}."
            notes = audit.notes if part == len(audit.tables) else []
            yield floating(tabular(columns, table.heads, rows), caption, f"tab:gibench-audit-{number}-{part}", notes)
        if not audit.tables and audit.notes:
            yield listed([f"{audit.title}: {note}" for note in audit.notes])
    yield remark(READING)
