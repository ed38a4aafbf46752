"""The leaderboard on screen: one table per setting, colours that only repeat what the words say."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gibench.report.audits import audit_reports
from gibench.report.audits_formats import print_audits
from gibench.report.headline import Line
from gibench.report.matched import matched_report
from gibench.report.matched_terminal import print_matched
from gibench.report.tables import EMPTY, LEGEND, Table, report
from gibench.report.text import decimals, percent, signed, span

if TYPE_CHECKING:
    from gibench.store import Results

WIDE = 100
NARROWEST, FIXED_WIDE, FIXED_NARROW = 14, 77, 65  # columns of the table but the first take so much
STYLES = {"low": "green", "some": "yellow", "HIGH": "bold red", "unproven": "magenta", "floor": "dim"}


def as_terminal(results: Results, width: int = WIDE) -> str:
    """The report as plain text."""
    return plain(print_terminal, results, width)


def plain(printer: Callable[[Results, Console], None], results: Results, width: int) -> str:
    """What a console without colours would show."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    printer(results, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def print_terminal(results: Results, console: Console) -> None:
    """The report on a console, in its width and with its colours."""
    shown = report(results)
    console.print(Text(shown.title, style="bold"))
    if matches := matched_report(results):
        print_matched(matches, console)
    for table in shown.tables:
        console.print()
        console.print(Text(table.title, style="bold cyan"))
        console.print(_grid(table, console.width))
        for note in table.notes:
            console.print(Text(f"! {note}", style="magenta"))
    audits = audit_reports(results)
    if not shown.tables and not audits:
        console.print(Text(EMPTY))
    if audits:
        print_audits(audits, console)
    if shown.notes:
        console.print()
        console.print(Text("Not in the numbers above", style="bold"))
    for note in shown.notes:
        console.print(Text(f"- {note}"))
    if shown.tables:
        console.print()
        console.print(Text(LEGEND, style="dim"))


def _grid(table: Table, width: int) -> RichTable:
    """A narrow screen does without SSIM and MSE."""
    wide = width >= WIDE
    grid = RichTable(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    room = max(NARROWEST, width - (FIXED_WIDE if wide else FIXED_NARROW))
    grid.add_column("\ndefense", min_width=NARROWEST, overflow="fold")
    heads = ["model\nacc.", "acc.\nraw", "obliv.\ndB", "worst\ndB", "\nat", *(["\nSSIM", "\nMSE"] if wide else [])]
    for head in [*heads, "attack\nacc.", "iden-\ntified", "gain\ndB", "\nleak"]:
        grid.add_column(head, justify="left" if head in ("\nat", "\nleak") else "right", no_wrap=True)
    for line in table.lines:
        grid.add_row(*_cells(line, wide, room), end_section=line.leak == "floor")
    return grid


def _cells(line: Line, wide: bool, room: int) -> list[Text]:
    style = STYLES.get(line.leak, "")
    star = "*" if line.incomplete and not math.isnan(line.worst) else ""
    return [
        _name(line, room),
        Text(percent(line.utility, 1)),
        Text(percent(line.utility_raw, 1)),
        Text(decimals(line.oblivious, 1)),
        Text.assemble((decimals(line.worst, 1) + star, style), (span(line.low, line.high, before="\n"), "dim")),
        Text(line.checkpoint),
        *([Text(decimals(line.ssim, 2)), Text(decimals(line.mse, 4))] if wide else []),
        Text(percent(line.attacker_accuracy)),
        Text(percent(line.identified)),
        Text(signed(line.gain), style=style),
        Text(line.leak, style=style),
    ]


def _name(line: Line, room: int) -> Text:
    """The spec and its remark; where one does not fit, its arguments or its last part go to the next line."""
    name, bracket, arguments = line.name.partition("(")
    fits = len(line.name) <= room
    remark = line.remark if len(line.remark) <= room else line.remark.replace(", ", ",\n")
    return Text.assemble(
        line.name if fits else f"{name}\n{bracket}{arguments}", "\n" if remark else "", (remark, "dim")
    )
