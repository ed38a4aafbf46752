"""The strength of every attack for a README: one number per attack and checkpoint, everything else folded below."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from gibench.leaderboard.columns import WORST
from gibench.leaderboard.validity import LEAST_GAIN
from gibench.report.by_attack import LEGEND, AttackLine, AttackTable, Score, attack_report, is_floor, ordered
from gibench.report.grids import grid
from gibench.report.tables import EMPTY
from gibench.report.text import code, decimals, percent, seconds, span
from gibench.report.text import markdown as escaped

if TYPE_CHECKING:
    from gibench.store import Results


def attacks_as_markdown(results: Results) -> str:
    """The report as GitHub-flavoured Markdown: summaries, then a folded part per dataset, model and batch size."""
    shown = attack_report(results)
    parts = [f"**{escaped(shown.title)}**"]
    for setting in dict.fromkeys(table.granted for table in shown.tables):
        parts.extend(_summary(_selected([table for table in shown.tables if table.granted == setting])))
    parts += [_listed(f"{code(name)}: {code(spec)}" for name, spec in shown.specs.items())] if shown.specs else []
    for _, folded in groupby(shown.tables, key=lambda table: (table.dataset, table.model, table.batch)):
        parts.append(_details(list(folded)))
    parts += [_listed(map(escaped, shown.notes))] if shown.notes else []
    parts.append(escaped(LEGEND if shown.tables else EMPTY))
    return "\n\n".join(parts) + "\n"


def _selected(tables: list[AttackTable]) -> list[AttackTable]:
    """Per dataset the first model and the smallest batch, all with the first defense: where there is one, none."""
    tables = [table for table in tables if table.defense == tables[0].defense]
    models = {table.dataset: table.model for table in reversed(tables)}
    first = [table for table in tables if table.model == models[table.dataset]]
    least = {name: min(table.batch for table in first if table.dataset == name) for name in models}
    return [table for table in first if table.batch == least[table.dataset]]


def _summary(tables: list[AttackTable]) -> Iterator[str]:
    """PSNR of every attack; bold what is highest in its column, if it is clearly above the floor."""
    first = tables[0]
    models = ", ".join(dict.fromkeys(table.model for table in tables))
    batches = ", ".join(dict.fromkeys(f"batch {table.batch}" for table in tables))
    yield f"### {escaped(' · '.join(['PSNR in dB', f'defense {first.defense}', models, batches, first.granted]))}"
    columns = [_column(table, i) for table in tables for i in range(len(table.checkpoints))]
    heads = [escaped(f"{table.dataset} {checkpoint}") for table in tables for checkpoint in table.checkpoints]
    names = ordered(line.name for table in tables for line in table.lines)
    yield grid(["attack", *heads], ([_name(name), *(cells.get(name, "-") for cells in columns)] for name in names))


def _column(table: AttackTable, checkpoint: int) -> dict[str, str]:
    scores = {line.name: line.scores[checkpoint] for line in table.lines}
    known = {name: score.psnr for name, score in scores.items() if not math.isnan(score.psnr)}
    floor = max((psnr for name, psnr in known.items() if is_floor(name)), default=math.nan)
    best = max((psnr for name, psnr in known.items() if name != WORST), default=math.nan)
    bold = decimals(best, 1) if best - floor >= LEAST_GAIN else ""
    return {name: _cell(score, "" if name == WORST else bold) for name, score in scores.items()}


def _cell(score: Score, bold: str) -> str:
    shown = decimals(score.psnr, 1)
    return (f"**{shown}**" if shown == bold else shown) + _star(score)


def _star(score: Score) -> str:
    return "" if score.complete or math.isnan(score.psnr) else "\\*"


def _details(tables: list[AttackTable]) -> str:
    """All settings and defenses of one dataset, model and batch size, folded; its title is HTML, not Markdown."""
    first = tables[0]
    title = html.escape(f"{first.dataset} · {first.model} · batch {first.batch}")
    parts = [f"<details><summary>{title}</summary>"]
    for table in tables:
        parts.append(f"**{escaped(f'{table.defense} · {table.granted} · n = {table.images}')}**")
        columns = ("PSNR dB [95 %]", "SSIM", "over half")
        heads = [escaped(f"{checkpoint} {column}") for checkpoint in table.checkpoints for column in columns]
        parts.append(grid(["attack", *heads, "labels", "s/image", "notes"], map(_cells, table.lines)))
    return "\n\n".join([*parts, "</details>"])


def _cells(line: AttackLine) -> list[str]:
    scores = [cell for score in line.scores for cell in _score(score)]
    return [_name(line.name), *scores, percent(line.labels), seconds(line.seconds), escaped("; ".join(line.notes))]


def _score(score: Score) -> list[str]:
    psnr = decimals(score.psnr, 1) + _star(score) + span(score.low, score.high)
    return [psnr, decimals(score.ssim, 2), percent(score.over_half)]


def _name(name: str) -> str:
    return f"{name} (floor)" if is_floor(name) else name if name == WORST else code(name)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
