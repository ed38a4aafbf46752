"""Matched utility on screen: the headline in words and numbers, then a table per setting."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gibench.report.matched import (
    AS_IT_RAN,
    BETTER,
    CLAIM,
    HEADLINE,
    READING,
    WORSE,
    Duel,
    Effect,
    MatchedReport,
    MatchedTable,
)
from gibench.report.matched_lines import COLUMNS, MatchedLine, by_target

STYLES = {BETTER: "green", WORSE: "bold red"}
HEADS = ["utility\nvalid.", "\ntest", "obliv.\ndB", "worst\ndB", "\nat", "top 10 %\ndB", "\nSSIM", "\nMSE"]
HEADS += ["attack\nacc.", "recog-\nnised", "\nrank"]


def print_matched(shown: MatchedReport, console: Console) -> None:
    """Headline, claims, and per setting the duels and all families, in the console's width."""
    console.print()
    console.print(Text(HEADLINE, style="bold"))
    for line in shown.summary:
        console.print(Text(f"- {line}"))
    console.print(Text(CLAIM, style="dim"))
    for table in shown.tables:
        console.print()
        console.print(Text(table.title, style="bold cyan"))
        if table.duels:
            console.print(_duels(table.duels))
        console.print(_families(table))
    console.print()
    console.print(Text(READING, style="dim"))
    console.print()
    console.print(Text(AS_IT_RAN, style="bold"))


def _duels(duels: list[Duel]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    grid.add_column("at equal utility", min_width=12, overflow="fold")
    grid.add_column("attacker", overflow="fold")
    for head in ("attack accuracy\nin points", "\nrelative", "\nMSE relative"):
        grid.add_column(head, justify="right", no_wrap=True)
    before = None
    for duel in duels:
        who = (duel.target, duel.family, duel.rival)
        label = f"{duel.target}: {duel.family} against {duel.rival}" if who != before else ""
        before = who
        if duel.missing:
            grid.add_row(Text(f"{label}\n{duel.missing}"), Text("-"), Text("-"), Text("-"), Text("-"))
            continue
        accuracy, mse = duel.accuracy, duel.mse
        points = (accuracy.points, ("\n" + accuracy.points_span, "dim"))
        grid.add_row(
            Text(label),
            Text(f"{duel.attacker}\nn = {duel.n}"),
            Text.assemble(_verdict(accuracy), " ", *points),
            _relative(accuracy),
            Text.assemble(_verdict(mse), " ", _relative(mse)),
        )
    return grid


def _verdict(effect: Effect) -> Text:
    return Text(effect.verdict, style=STYLES.get(effect.verdict, ""))


def _relative(effect: Effect) -> Text:
    return Text.assemble(effect.percent, ("\n" + effect.percent_span, "dim"))


def _families(table: MatchedTable) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    grid.add_column("\ndefense", min_width=14, overflow="fold")
    for column, head in zip(COLUMNS, HEADS, strict=True):
        grid.add_column(head, justify="left" if column == "checkpoint" else "right", no_wrap=True)
    for part in by_target(table.rows):
        grid.add_row(Text(f"{part.target}\n{part.aim}", style="bold"))
        for number, line in enumerate(part.lines, start=1):
            grid.add_row(*_cells(line), end_section=number == len(part.lines))
    return grid


def _cells(line: MatchedLine) -> list[Text]:
    below = {"worst": line.interval}
    said = [(line.name, line.remark), *((text, below.get(column, "")) for column, text in line.texts.items())]
    return [Text.assemble(text, ("\n" + small if small else "", "dim")) for text, small in said]
