"""The leaderboard for a paper: a booktabs table per setting, the best in bold, and how it came about in the caption."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gibench.report.best import RULE, best
from gibench.report.headline import Line
from gibench.report.latex_text import escaped, spec
from gibench.report.tables import EMPTY, LEGEND, Table, report
from gibench.report.targets import Target, of, targets
from gibench.report.text import decimals, percent, signed, span

if TYPE_CHECKING:
    from gibench.store import Results

NEEDS = r"""% \usepackage{booktabs}
% \usepackage[T1]{fontenc}
% \usepackage{textcomp}"""
HEADS = ["defense", "acc.", "acc. raw", "obliv. dB", "worst dB", "at", "SSIM", "MSE"]
HEADS += ["att. acc.", "identif.", "gain dB", "leak"]
HEADS_OF_TARGETS = ["target", "defense", "strength", "goal", "reached", "worst dB", "gain dB", "leak"]
WIDE = r"p{0.2\linewidth}"
NOTES = 6
FLOATS = 8  # LaTeX gives up on too many that wait for their place


def as_latex(results: Results) -> str:
    """The report as LaTeX tables to be included; the first lines name the packages that they need."""
    shown = report(results)
    matched = targets(results)
    parts = [NEEDS]
    for number, table in enumerate(shown.tables, 1):
        name = f"tab:gibench-{number}"
        parts += [r"\clearpage"] if number % FLOATS == 0 else []
        caption = f"{escaped(shown.title)}. {escaped(table.title)}. In brackets 95 \\% intervals; {escaped(RULE)}."
        bold = best(table.lines)
        rows = [_cells(line, mark) for line, mark in zip(table.lines, bold, strict=True)]
        rules = {sum(line.leak == "floor" for line in table.lines)} - {0}
        parts.append(floating(tabular(f"{WIDE}rrrrlrrrrrl", HEADS, rows, rules), caption, name, table.notes))
        if pairs := of(table, matched):
            caption = f"{escaped(shown.title)}. Defenses at equal utility, {escaped(table.title)}; {escaped(RULE)}."
            parts.append(floating(_of_targets(table, pairs), caption, f"{name}-matched", []))
    parts += [listed(shown.notes)] if shown.notes else []
    parts.append(remark(LEGEND if shown.tables else EMPTY))
    return "\n\n".join(parts) + "\n"


def tabular(columns: str, heads: Sequence[str], rows: Iterable[Sequence[str]], rules: Iterable[int] = ()) -> str:
    """rows: finished cells; rules: after how many rows a thin rule goes."""
    lines = [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    lines += [" & ".join(map(escaped, heads)) + r" \\", r"\midrule"]
    for number, row in enumerate(rows, 1):
        lines.append(" & ".join(row) + r" \\")
        lines += [r"\midrule"] if number in rules else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def floating(table: str, caption: str, label: str, notes: Sequence[str]) -> str:
    return "\n".join(
        [
            r"\begin{table*}[tbp]",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            table,
            *([listed(notes)] if notes else []),
            r"\end{table*}",
        ]
    )


def _cells(line: Line, bold: bool) -> list[str]:
    worst, gain = _worst(line), _math(signed(line.gain))
    name = escaped(line.name) if line.leak == "floor" else spec(line.name)
    return [
        rf"\raggedright {name} {escaped(line.remark)}".strip(),
        escaped(percent(line.utility, 1)),
        escaped(percent(line.utility_raw, 1)),
        decimals(line.oblivious, 1),
        _bold(worst, bold),
        escaped(line.checkpoint),
        decimals(line.ssim, 2),
        decimals(line.mse, 4),
        escaped(percent(line.attacker_accuracy)),
        escaped(percent(line.identified)),
        _bold(gain, bold),
        escaped(line.leak),
    ]


def _of_targets(table: Table, pairs: Sequence[tuple[Target, Line | None]]) -> str:
    rows, rules = [], set()
    for target in dict.fromkeys(target.target for target, _ in pairs):
        here = [pair for pair in pairs if pair[0].target == target]
        lines = [line for _, line in here if line is not None]
        marks = {line.name: mark for line, mark in zip(lines, best(lines), strict=True)}
        rows += [_target_cells(*pair, marks) for pair in here]
        rules.add(len(rows))
    return tabular(rf"l{WIDE}lrrrrl", HEADS_OF_TARGETS, rows, sorted(rules)[:-1])


def _target_cells(target: Target, line: Line | None, marks: dict[str, bool]) -> list[str]:
    bold = line is not None and marks[line.name]
    return [
        escaped(target.target),
        rf"\raggedright {spec(target.family)}",
        escaped(target.strength),
        decimals(target.goal, 3),
        escaped(target.reached),
        _bold(_worst(line), bold) if line else "-",
        _bold(_math(signed(line.gain)), bold) if line else "-",
        escaped(line.leak if line else target.outcome),
    ]


def _worst(line: Line) -> str:
    star = "*" if line.incomplete and not math.isnan(line.worst) else ""
    return decimals(line.worst, 1) + star + span(line.low, line.high)


def _math(number: str) -> str:
    """A signed number with a minus as long as its plus."""
    return number if number == "-" else f"${number}$"


def _bold(text: str, bold: bool) -> str:
    return rf"\textbf{{{text.replace('$', '')}}}" if bold else text


def listed(notes: Sequence[str]) -> str:
    shown = [escaped(note) for note in notes[:NOTES]]
    shown += [f"and {len(notes) - NOTES} more notes: see the other formats"] if len(notes) > NOTES else []
    start = r"\par\smallskip\noindent\begin{minipage}{\linewidth}\footnotesize\raggedright"
    return "\n".join([start, "\\\\\n".join(shown), r"\end{minipage}"])


def remark(text: str) -> str:
    return rf"{{\footnotesize\noindent {escaped(text)}\par}}"
