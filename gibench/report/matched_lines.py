"""A defense at one target of utility, as every format writes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from gibench.leaderboard.columns import PRIOR, UNDEFENDED
from gibench.report.text import decimals, one_line, percent, span

COLUMNS = {
    "utility_val": "utility (validation)",
    "utility": "utility (test)",
    "oblivious": "oblivious dB",
    "worst": "worst dB",
    "checkpoint": "at",
    "decile": "top 10 % dB",
    "ssim": "SSIM",
    "mse": "MSE",
    "attacker_accuracy": "attack accuracy",
    "recognised": "recognised",
    "rank": "rank",
}
"""What stands behind the name of a defense, in this order, and what a wide table calls it."""


@dataclass(frozen=True)
class MatchedLine:
    """name and remark: the family, and its solved knob or why there is none; defense: the spec under which its cells
    are recorded, empty where there are none; first: none leaks significantly less; texts: per column of COLUMNS;
    interval: of the worst case, in brackets, empty where it is not known."""

    name: str
    remark: str
    defense: str
    floor: bool
    first: bool
    texts: dict[str, str]
    interval: str


@dataclass(frozen=True)
class AtTarget:
    """The families at one target; aim: the utility that was aimed at; rows: what the lines were made of."""

    target: str
    aim: str
    lines: list[MatchedLine]
    rows: pd.DataFrame


def by_target(rows: pd.DataFrame) -> Iterator[AtTarget]:
    """rows: those of `matched` in one setting; the targets in their order."""
    for target, part in rows.groupby("target", sort=False):
        aim = one_line(f"{part['measure'].iloc[0]} {percent(part['goal'].iloc[0], 1)}")
        yield AtTarget(one_line(target), aim, [_line(row) for _, row in part.iterrows()], part)


def remark(row: pd.Series) -> str:
    """What stands beside the name of a family: its solved knob, or why it has none."""
    if row["status"] not in ("matched", "cheaper", "undefended", "floor"):
        return told(row)
    if row["family"] in (PRIOR, UNDEFENDED):
        return "(no update)" if row["family"] == PRIOR else "(undefended)"
    knob = "" if math.isnan(row["value"]) else one_line(f"{row['knob']} = {row['value']:.6g}")
    if row["status"] == "matched":
        return knob
    return f"{knob}: costs less" if knob else "costs less"


def told(row: pd.Series) -> str:
    """The status and what else there is to say of it, once."""
    status, reason = one_line(row["status"]), one_line(row["reason"])
    return reason if reason.startswith(status) else f"{status}: {reason}".rstrip(": ")


def name(row: pd.Series) -> str:
    return "prior only" if row["family"] == PRIOR else one_line(row["family"])


def _line(row: pd.Series) -> MatchedLine:
    lacks = "*" if row["reason"] and row["n"] else ""
    texts = {
        "utility_val": percent(row["utility_val"], 1),
        "utility": percent(row["utility"], 1),
        "oblivious": decimals(row["oblivious_psnr"], 1),
        "worst": decimals(row["psnr"], 1) + lacks,
        "checkpoint": one_line(row["checkpoint"]) or "-",
        "decile": decimals(row["decile_psnr"], 1),
        "ssim": decimals(row["ssim"], 2),
        "mse": decimals(row["mse"], 4),
        "attacker_accuracy": percent(row["attacker_accuracy"]),
        "recognised": percent(row["recognised_psnr"]),
        "rank": decimals(row["rank"], 0),
    }
    return MatchedLine(
        name=name(row),
        remark=remark(row),
        defense=one_line(row["defense"]),
        floor=row["status"] == "floor",
        first=bool(row["rank"] == 1),
        texts=texts,
        interval=span(row["psnr_low"], row["psnr_high"], before=""),
    )
