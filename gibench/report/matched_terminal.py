"""Matched utility on screen: the headline in words and numbers, then a table per setting."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gibench.report.matched import (
    BETTER,
    CLAIM,
    READING,
    WORSE,
    Duel,
    Effect,
    MatchedReport,
    name,
    remark,
    signed_percent,
)
from gibench.report.text import decimals, one_line, percent, span

STYLES = {BETTER: "green", WORSE: "bold red"}


def print_matched(shown: MatchedReport, console: Console) -> None:
    """Headline, claims, and per setting the duels and all families, in the console's width."""
    console.print()
    console.print(Text("At matched utility", style="bold"))
    for line in shown.summary:
        console.print(Text(f"- {line}"))
    console.print(Text(CLAIM, style="dim"))
    for table in shown.tables:
        console.print()
        console.print(Text(table.title, style="bold cyan"))
        if table.duels:
            console.print(_duels(table.duels))
        console.print(_families(table.rows))
    console.print()
    console.print(Text(READING, style="dim"))
    console.print()
    console.print(Text("Every defense as it ran", style="bold"))


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
            if label:
                grid.add_row(Text(f"{label}\n{duel.missing}"), Text("-"), Text("-"), Text("-"), Text("-"))
            continue
        accuracy, mse = duel.accuracy, duel.mse
        points = (_verdict(accuracy), signed_percent(accuracy.change, ""), _span(accuracy.low, accuracy.high, 100))
        grid.add_row(
            Text(label),
            Text(f"{duel.attacker}\nn = {duel.n}"),
            Text.assemble(points[0], " ", points[1], ("\n" + points[2], "dim")),
            _relative(accuracy),
            Text.assemble(_verdict(mse), " ", _relative(mse)),
        )
    return grid


def _verdict(effect: Effect) -> Text:
    return Text(effect.verdict, style=STYLES.get(effect.verdict, ""))


def _relative(effect: Effect) -> Text:
    shown = signed_percent(effect.relative)
    return Text.assemble(shown, ("\n" + _span(effect.relative_low, effect.relative_high, 100), "dim"))


def _span(low: float, high: float, scale: float) -> str:
    return span(scale * low, scale * high, before="")


def _families(rows: pd.DataFrame) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    grid.add_column("\ndefense", min_width=14, overflow="fold")
    heads = ["utility\nvalid.", "\ntest", "obliv.\ndB", "worst\ndB", "\nat", "top 10 %\ndB", "\nSSIM", "\nMSE"]
    for head in [*heads, "attack\nacc.", "recog-\nnised", "\nrank"]:
        grid.add_column(head, justify="left" if head == "\nat" else "right", no_wrap=True)
    for target, part in rows.groupby("target", sort=False):
        goal = one_line(f"{part['measure'].iloc[0]} {percent(part['goal'].iloc[0], 1)}")
        grid.add_row(Text(f"{one_line(target)}\n{goal}", style="bold"))
        for number, (_, row) in enumerate(part.iterrows(), start=1):
            grid.add_row(*_cells(row), end_section=number == len(part))
    return grid


def _cells(row: pd.Series) -> list[Text]:
    lacks = "*" if row["reason"] and row["n"] else ""
    said = remark(row)
    return [
        Text.assemble(name(row), ("\n" + said if said else "", "dim")),
        Text(percent(row["utility_val"], 1)),
        Text(percent(row["utility"], 1)),
        Text(decimals(row["oblivious_psnr"], 1)),
        Text.assemble(decimals(row["psnr"], 1) + lacks, (span(row["psnr_low"], row["psnr_high"], before="\n"), "dim")),
        Text(one_line(row["checkpoint"]) or "-"),
        Text(decimals(row["decile_psnr"], 1)),
        Text(decimals(row["ssim"], 2)),
        Text(decimals(row["mse"], 4)),
        Text(percent(row["attacker_accuracy"])),
        Text(percent(row["recognised_psnr"])),
        Text(decimals(row["rank"], 0)),
    ]
