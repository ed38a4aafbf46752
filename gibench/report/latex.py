"""The leaderboard for a paper: a booktabs table per setting, the best in bold, and how it came about in the caption."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gibench.report.audits import audit_reports
from gibench.report.audits_formats import audits_as_latex
from gibench.report.best import RULE, best
from gibench.report.headline import Line
from gibench.report.latex_tables import NEEDS, WIDE, bold, floating, listed, remark, signed_number, spaced, tabular
from gibench.report.latex_text import escaped, spec
from gibench.report.matched import matched_report
from gibench.report.matched_latex import matched_as_latex
from gibench.report.tables import EMPTY, LEGEND, Report, report
from gibench.report.text import decimals, percent, signed, span

if TYPE_CHECKING:
    from gibench.store import Results

HEADS = ["defense", "acc.", "acc. raw", "obliv. dB", "worst dB", "at", "SSIM", "MSE"]
HEADS += ["att. acc.", "identif.", "gain dB", "leak"]


def as_latex(results: Results) -> str:
    """The report as LaTeX tables to be included; the first lines name the packages that they need."""
    shown = report(results)
    parts = [NEEDS]
    if matches := matched_report(results):
        parts += matched_as_latex(matches, shown.title)
    parts += _tables(shown)
    audits = audit_reports(results)
    parts += audits_as_latex(audits, shown.title) if audits else []
    parts += [listed(shown.notes)] if shown.notes else []
    parts += [remark(LEGEND if shown.tables else EMPTY)] if shown.tables or not audits else []
    return "\n\n".join(spaced(parts)) + "\n"


def _tables(shown: Report) -> Iterator[str]:
    for number, table in enumerate(shown.tables, 1):
        caption = f"{escaped(shown.title)}. {escaped(table.title)}. In brackets 95 \\% intervals; {escaped(RULE)}."
        rows = [_cells(line, mark) for line, mark in zip(table.lines, best(table.lines), strict=True)]
        rules = {sum(line.leak == "floor" for line in table.lines)} - {0}
        body = tabular(f"{WIDE}rrrrlrrrrrl", HEADS, rows, rules)
        yield floating(body, caption, f"tab:gibench-{number}", table.notes)


def _cells(line: Line, strong: bool) -> list[str]:
    worst, gain = _worst(line), signed_number(signed(line.gain))
    name = escaped(line.name) if line.leak == "floor" else spec(line.name)
    return [
        rf"\raggedright {name} {escaped(line.remark)}".strip(),
        escaped(percent(line.utility, 1)),
        escaped(percent(line.utility_raw, 1)),
        decimals(line.oblivious, 1),
        bold(worst, strong),
        escaped(line.checkpoint),
        decimals(line.ssim, 2),
        decimals(line.mse, 4),
        escaped(percent(line.attacker_accuracy)),
        escaped(percent(line.identified)),
        bold(gain, strong),
        escaped(line.leak),
    ]


def _worst(line: Line) -> str:
    star = "*" if line.incomplete and not math.isnan(line.worst) else ""
    return decimals(line.worst, 1) + star + span(line.low, line.high)
