"""Matched utility for a README: the headline as a list and tables, further numbers folded below."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from gibench.report.grids import folded, grid
from gibench.report.matched import AS_IT_RAN, BETTER, CLAIM, HEADLINE, READING, Duel, Effect, MatchedReport
from gibench.report.matched_lines import COLUMNS, MatchedLine, by_target, name, told
from gibench.report.text import code, decimals, percent
from gibench.report.text import markdown as escaped

HEADS = ["defense", *(head + (" [95 %]" if column == "worst" else "") for column, head in COLUMNS.items())]
HEADS_OF_DUELS = ["target", "defense", "against", "attacker", "n", "attack accuracy, points [95 %]", "relative [95 %]"]
HEADS_OF_DUELS += ["verdict", "MSE, relative [95 %]", "MSE verdict"]
HEADS_OF_MORE = ["defense", "knob", "aimed at", "spread", "n", "identified", "over PSNR", "over SSIM"]
HEADS_OF_MORE += ["oblivious SSIM", "oblivious MSE", "oblivious attack accuracy", "floor dB", "undefended dB"]
HEADS_OF_MORE += ["epsilon", "bound", "status"]


def matched_as_markdown(shown: MatchedReport) -> Iterator[str]:
    """The parts of the text, in order."""
    yield f"## {HEADLINE}"
    if shown.summary:
        yield "\n".join(f"- {escaped(line)}" for line in shown.summary)
    yield f"> {escaped(CLAIM)}"
    for table in shown.tables:
        yield f"### {escaped(table.title)}"
        if table.duels:
            yield grid(HEADS_OF_DUELS, map(_duel, table.duels))
        for part in by_target(table.rows):
            yield f"**{escaped(part.target)}**: {escaped(part.aim)}"
            yield grid(HEADS, map(_cells, part.lines))
            more = grid(HEADS_OF_MORE, (_more(row) for _, row in part.rows.iterrows()))
            yield folded("More about these rows", more)
    yield escaped(READING)
    yield f"## {AS_IT_RAN}"


def _duel(duel: Duel) -> list[str]:
    who = [escaped(duel.target), code(duel.family), code(duel.rival), duel.attacker]
    if duel.missing:
        return [*who, "-", "-", "-", escaped(duel.missing), "-", "-"]
    accuracy, mse = duel.accuracy, duel.mse
    points = f"{accuracy.points} {accuracy.points_span}".strip()
    return [*who, str(duel.n), points, _relative(accuracy), _bold(accuracy), _relative(mse), _bold(mse)]


def _relative(effect: Effect) -> str:
    return f"{effect.percent} {effect.percent_span}".strip()


def _bold(effect: Effect) -> str:
    return f"**{effect.verdict}**" if effect.verdict == BETTER else effect.verdict


def _cells(line: MatchedLine) -> list[str]:
    beside = {"worst": line.interval}
    called = line.name if line.floor else code(line.name)
    said = [(called, escaped(line.remark))]
    said += [(escaped(text), beside.get(column, "")) for column, text in line.texts.items()]
    return [f"{text} {small}".strip() for text, small in said]


def _more(row: pd.Series) -> list[str]:
    beyond = [f"{percent(row[f'recognised_{m}'])} over {decimals(row[f'threshold_{m}'], 2)}" for m in ("psnr", "ssim")]
    return [
        name(row) if row["status"] == "floor" else code(row["defense"] or row["family"]),
        escaped(row["knob"]) or "-",
        percent(row["goal"], 1),
        percent(row["spread"], 1),
        str(row["n"]),
        percent(row["identified"]),
        *(text if row["n"] else "-" for text in beyond),
        decimals(row["oblivious_ssim"], 2),
        decimals(row["oblivious_mse"], 4),
        percent(row["oblivious_attacker_accuracy"]),
        decimals(row["floor_psnr"], 1),
        decimals(row["undefended_psnr"], 1),
        decimals(row["epsilon"], 2),
        percent(row["rero_bound"], 1),
        escaped(told(row)),
    ]
