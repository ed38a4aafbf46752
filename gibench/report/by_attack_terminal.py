"""The strength of every attack on screen: a line per attack, three columns per checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gibench.leaderboard.columns import WORST
from gibench.report.by_attack import LEGEND, AttackLine, AttackTable, Score, attack_report, is_floor
from gibench.report.tables import EMPTY
from gibench.report.terminal import WIDE, plain
from gibench.report.text import decimals, percent, seconds, span

if TYPE_CHECKING:
    from gibench.store import Results

NARROWEST = 12  # columns for a name
COSTS, SHARES = 13, 10  # columns that labels and seconds take, and SSIM and its share over 0.5


def attacks_as_terminal(results: Results, width: int = WIDE) -> str:
    """The report as plain text."""
    return plain(print_attacks, results, width)


def print_attacks(results: Results, console: Console) -> None:
    """The report on a console, in its width and with its colours."""
    shown = attack_report(results)
    console.print(Text(shown.title, style="bold"))
    for table in shown.tables:
        parts = (table.dataset, table.model, table.defense, f"batch {table.batch}", table.granted)
        console.print()
        console.print(Text(f"{' · '.join(parts)} · n = {table.images}", style="bold cyan"))
        console.print(_grid(table, console.width))
        for note, names in _together(table.lines).items():
            console.print(Text(f"! {', '.join(names)}: {note}", style="magenta"))
    if not shown.tables:
        console.print(Text(EMPTY))
    if shown.specs or shown.notes:
        console.print()
    for name, spec in shown.specs.items():
        console.print(Text(f"{name} = {spec}"))
    for note in shown.notes:
        console.print(Text(f"- {note}"))
    if shown.tables:
        console.print()
        console.print(Text(LEGEND, style="dim"))


def _grid(table: AttackTable, width: int) -> RichTable:
    """A narrow screen does without SSIM and the share over 0.5."""
    columns = zip(*(line.scores for line in table.lines), strict=True)
    room = width - COSTS - sum(max(8, *(len(span(s.low, s.high)) for s in column)) for column in columns)
    more = SHARES * len(table.checkpoints)
    wide = room - more >= NARROWEST
    room -= more if wide else 0
    grid = RichTable(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    grid.add_column("\nattack", overflow="fold")
    for checkpoint in table.checkpoints:
        for head in [f"{checkpoint}\nPSNR dB", *(["\nSSIM", "over\nhalf"] if wide else [])]:
            grid.add_column(head, justify="right", no_wrap=True)
    for head in ("\nlabels", "s/\nimage"):
        grid.add_column(head, justify="right", no_wrap=True)
    for line, after in zip(table.lines, [*table.lines[1:], None], strict=True):
        ends = is_floor(line.name) or (after is not None and after.name == WORST)
        grid.add_row(*_cells(line, wide, room), end_section=ends)
    return grid


def _cells(line: AttackLine, wide: bool, room: int) -> list[Text]:
    style = "dim" if is_floor(line.name) else ""
    cells = [Text(_folded(line.name, room), style=style)]
    for score in line.scores:
        cells.append(_psnr(score))
        cells += [Text(decimals(score.ssim, 2)), Text(percent(score.over_half))] if wide else []
    return [*cells, Text(percent(line.labels)), Text(seconds(line.seconds))]


def _psnr(score: Score) -> Text:
    """The number, or why there is none."""
    if math.isnan(score.psnr):
        return Text(score.status, style="dim")
    star = "" if score.complete else "*"
    return Text.assemble(decimals(score.psnr, 1) + star, (span(score.low, score.high, before="\n"), "dim"))


def _folded(name: str, room: int) -> str:
    """A name that is too long goes on after one of its underscores."""
    cut = name.rfind("_", 0, max(room, NARROWEST)) + 1
    return name if len(name) <= room or not cut else f"{name[:cut]}\n{name[cut:]}"


def _together(lines: list[AttackLine]) -> dict[str, list[str]]:
    """Attacks about which there is the same to say."""
    found: dict[str, list[str]] = {}
    for line in lines:
        for note in line.notes:
            found.setdefault(note, []).append(line.name)
    return found
