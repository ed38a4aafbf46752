"""Matched utility for a README: the headline as a list and tables, further numbers folded below."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from gibench.report.grids import folded, grid
from gibench.report.matched import (
    BETTER,
    CLAIM,
    READING,
    Duel,
    Effect,
    MatchedReport,
    name,
    remark,
    signed_percent,
    told,
)
from gibench.report.text import code, decimals, percent, span
from gibench.report.text import markdown as escaped

HEADS = ["defense", "utility (validation)", "utility (test)", "oblivious dB", "worst dB [95 %]", "at", "SSIM", "MSE"]
HEADS += ["attack accuracy", "rank"]
HEADS_OF_DUELS = ["target", "defense", "against", "attacker", "n", "attack accuracy, points [95 %]", "relative [95 %]"]
HEADS_OF_DUELS += ["verdict", "MSE, relative [95 %]", "MSE verdict"]
HEADS_OF_MORE = ["defense", "knob", "aimed at", "spread", "n", "identified", "top 10 % dB", "over PSNR", "over SSIM"]
HEADS_OF_MORE += ["oblivious SSIM", "oblivious MSE", "oblivious attack accuracy", "floor dB", "undefended dB"]
HEADS_OF_MORE += ["epsilon", "bound", "status"]


def matched_as_markdown(shown: MatchedReport) -> Iterator[str]:
    """The parts of the text, in order."""
    yield "## At matched utility"
    if shown.summary:
        yield "\n".join(f"- {escaped(line)}" for line in shown.summary)
    yield f"> {escaped(CLAIM)}"
    for table in shown.tables:
        yield f"### {escaped(table.title)}"
        if table.duels:
            yield grid(HEADS_OF_DUELS, map(_duel, table.duels))
        for target, rows in table.rows.groupby("target", sort=False):
            yield f"**{escaped(target)}**: {escaped(rows['measure'].iloc[0])} {percent(rows['goal'].iloc[0], 1)}"
            yield grid(HEADS, (_cells(row) for _, row in rows.iterrows()))
            yield folded("More about these rows", grid(HEADS_OF_MORE, (_more(row) for _, row in rows.iterrows())))
    yield escaped(READING)
    yield "## Every defense as it ran"


def _duel(duel: Duel) -> list[str]:
    who = [escaped(duel.target), code(duel.family), code(duel.rival), duel.attacker]
    if duel.missing:
        return [*who, "-", "-", "-", escaped(duel.missing), "-", "-"]
    accuracy, mse = duel.accuracy, duel.mse
    points = f"{signed_percent(accuracy.change, '')}{span(100 * accuracy.low, 100 * accuracy.high)}"
    return [*who, str(duel.n), points, _relative(accuracy), _bold(accuracy), _relative(mse), _bold(mse)]


def _relative(effect: Effect) -> str:
    return signed_percent(effect.relative) + span(100 * effect.relative_low, 100 * effect.relative_high)


def _bold(effect: Effect) -> str:
    return f"**{effect.verdict}**" if effect.verdict == BETTER else effect.verdict


def _cells(row: pd.Series) -> list[str]:
    lacks = "\\*" if row["reason"] and row["n"] else ""
    called = code(name(row)) if row["status"] != "floor" else name(row)
    return [
        f"{called} {escaped(remark(row))}".strip(),
        percent(row["utility_val"], 1),
        percent(row["utility"], 1),
        decimals(row["oblivious_psnr"], 1),
        decimals(row["psnr"], 1) + lacks + span(row["psnr_low"], row["psnr_high"]),
        escaped(row["checkpoint"]) or "-",
        decimals(row["ssim"], 2),
        decimals(row["mse"], 4),
        percent(row["attacker_accuracy"]),
        decimals(row["rank"], 0),
    ]


def _more(row: pd.Series) -> list[str]:
    beyond = [f"{percent(row[f'recognised_{m}'])} over {decimals(row[f'threshold_{m}'], 2)}" for m in ("psnr", "ssim")]
    return [
        name(row) if row["status"] == "floor" else code(row["defense"] or row["family"]),
        escaped(row["knob"]) or "-",
        percent(row["goal"], 1),
        percent(row["spread"], 1),
        str(row["n"]),
        percent(row["identified"]),
        decimals(row["decile_psnr"], 1),
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
