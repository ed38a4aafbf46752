"""The same tables for a README or an issue, with every attack and checkpoint folded below."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from gibench.report.audits import audit_reports
from gibench.report.audits_formats import audits_as_markdown
from gibench.report.costs import HEADS as HEADS_OF_COSTS
from gibench.report.costs import costs
from gibench.report.grids import folded, grid
from gibench.report.headline import Line
from gibench.report.matched import matched_report
from gibench.report.matched_markdown import matched_as_markdown
from gibench.report.tables import EMPTY, LEGEND, report
from gibench.report.text import code, decimals, percent, signed, span
from gibench.report.text import markdown as escaped

if TYPE_CHECKING:
    from gibench.store import Results

HEADS = ["model accuracy", "accuracy on raw", "oblivious dB", "worst dB [95 %]", "at", "SSIM", "MSE"]
HEADS += ["attack accuracy", "identified", "gain dB", "leak"]
HEADS_OF_ATTACKS = [
    "checkpoint",
    "defense",
    "attack",
    "n",
    "PSNR dB [95 %]",
    "SSIM",
    "MSE",
    "attack accuracy",
    "identified",
    "labels right",
]
HEADS_OF_ATTACKS += ["PSNR of transmitted", "floor dB", "undefended dB", "status"]


def as_markdown(results: Results) -> str:
    """The report as GitHub-flavoured Markdown."""
    shown = report(results)
    parts = [f"**{escaped(shown.title)}**"]
    if matches := matched_report(results):
        parts.extend(matched_as_markdown(matches))
    for table in shown.tables:
        parts.append(f"### {escaped(table.title)}")
        parts.append(grid(["defense", *HEADS], (_cells(line) for line in table.lines)))
        parts.extend(f"> **Note.** {escaped(note)}" for note in table.notes)
        parts.append(folded("What each defense costs", grid(HEADS_OF_COSTS, costs(table.rows, results))))
        parts.append(folded("Every attack and checkpoint", grid(HEADS_OF_ATTACKS, _attacks(table.rows))))
    if audits := audit_reports(results):
        parts.extend(audits_as_markdown(audits))
    if shown.notes:
        parts.append("**Not in the numbers above**")
        parts.append("\n".join(f"- {escaped(note)}" for note in shown.notes))
    parts += [escaped(LEGEND if shown.tables else EMPTY)] if shown.tables or not audits else []
    return "\n\n".join(parts) + "\n"


def _cells(line: Line) -> list[str]:
    star = "\\*" if line.incomplete and not math.isnan(line.worst) else ""
    return [
        f"{escaped(line.name) if line.leak == 'floor' else code(line.name)} {escaped(line.remark)}".strip(),
        percent(line.utility, 1),
        percent(line.utility_raw, 1),
        decimals(line.oblivious, 1),
        decimals(line.worst, 1) + star + span(line.low, line.high),
        escaped(line.checkpoint),
        decimals(line.ssim, 2),
        decimals(line.mse, 4),
        percent(line.attacker_accuracy),
        percent(line.identified),
        signed(line.gain),
        f"**{line.leak}**" if line.leak == "HIGH" else line.leak,
    ]


def _attacks(rows: pd.DataFrame) -> Iterator[list[str]]:
    for row in rows.itertuples():
        yield [
            escaped(row.checkpoint),
            code(row.defense),
            code(row.attack) + (" (adaptive)" if row.adaptive else ""),
            str(row.n),
            decimals(row.psnr, 1) + span(row.psnr_low, row.psnr_high),
            decimals(row.ssim, 2),
            decimals(row.mse, 4),
            percent(row.attacker_accuracy),
            percent(row.identified),
            percent(row.label_accuracy),
            decimals(row.psnr_sent, 1),
            decimals(row.floor_psnr, 1),
            decimals(row.undefended_psnr, 1),
            row.status + (f": {escaped(row.reason)}" if row.reason else ""),
        ]
