"""The strength of every attack for a paper: a table per defense in a setting, a line per attack."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gibench.leaderboard.columns import WORST
from gibench.report.by_attack import LEGEND, AttackLine, AttackTable, Score, attack_report, is_floor
from gibench.report.latex_tables import NEEDS, floating, listed, remark, spaced, tabular
from gibench.report.latex_text import escaped, spec
from gibench.report.tables import EMPTY
from gibench.report.text import decimals, percent, seconds, span

if TYPE_CHECKING:
    from gibench.store import Results


def attacks_as_latex(results: Results) -> str:
    """The report as LaTeX tables to be included; the first lines name the packages that they need."""
    shown = attack_report(results)
    parts = [NEEDS, *(_table(table, shown.title, number) for number, table in enumerate(shown.tables, 1))]
    parts += [listed([f"{name} = {text}" for name, text in shown.specs.items()])] if shown.specs else []
    parts += [listed(shown.notes)] if shown.notes else []
    parts.append(remark(LEGEND if shown.tables else EMPTY))
    return "\n\n".join(spaced(parts)) + "\n"


def _table(table: AttackTable, title: str, number: int) -> str:
    """Bold is what is highest in its column, besides the worst case."""
    where = f"{table.dataset} · {table.model} · {table.defense} · batch {table.batch} · {table.granted}"
    bold = f"n = {table.images}; in brackets 95 % intervals; bold: the strongest attack at a checkpoint"
    heads = [f"{checkpoint} {what}" for checkpoint in table.checkpoints for what in ("dB", "SSIM", "over half")]
    columns = "l" + "rrr" * len(table.checkpoints) + "rr"
    best = [_best(table, k) for k in range(len(table.checkpoints))]
    rows = [_cells(line, best) for line in table.lines]
    notes = [f"{line.name}: {note}" for line in table.lines for note in line.notes]
    caption = f"{escaped(title)}. {escaped(where)}. {escaped(bold)}."
    body = tabular(columns, ["attack", *heads, "labels", "s/image"], rows)
    return floating(body, caption, f"tab:gibench-attacks-{number}", notes)


def _best(table: AttackTable, checkpoint: int) -> float:
    known = [line.scores[checkpoint].psnr for line in table.lines if line.name != WORST and not is_floor(line.name)]
    return max((psnr for psnr in known if not math.isnan(psnr)), default=math.nan)


def _cells(line: AttackLine, best: list[float]) -> list[str]:
    scores = [cell for score, top in zip(line.scores, best, strict=True) for cell in _score(score, top, line.name)]
    name = f"{line.name} (floor)" if is_floor(line.name) else line.name
    shown = escaped(name) if is_floor(line.name) or line.name == WORST else spec(name)
    return [shown, *scores, escaped(percent(line.labels)), escaped(seconds(line.seconds))]


def _score(score: Score, top: float, name: str) -> list[str]:
    star = "" if score.complete or math.isnan(score.psnr) else "*"
    psnr = decimals(score.psnr, 1) + star + span(score.low, score.high)
    bold = score.psnr == top and name != WORST and not is_floor(name)
    return [rf"\textbf{{{psnr}}}" if bold else psnr, decimals(score.ssim, 2), escaped(percent(score.over_half))]
