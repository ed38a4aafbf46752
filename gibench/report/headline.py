"""One line per defense: its worst checkpoint, and how far the attacker came over the floor there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gibench.leaderboard.columns import OBLIVIOUS, PSEUDO, UNDEFENDED, WORST, is_prior
from gibench.report.text import one_line, percent

LOW_DB, HIGH_DB = 1.0, 5.0
"""Gains over the floor below which a leak is called low, and above which it is called high."""


@dataclass(frozen=True)
class Line:
    """What a report says about one defense; a number that is not known is NaN."""

    name: str
    remark: str
    utility: float
    utility_raw: float
    oblivious: float
    worst: float
    low: float
    high: float
    checkpoint: str
    ssim: float
    mse: float
    attacker_accuracy: float
    identified: float
    gain: float
    leak: str
    incomplete: bool


def defense_line(rows: pd.DataFrame, valid: dict[str, bool]) -> Line:
    """The headline of one defense in one table: the checkpoint at which the worst case is worst.

    rows: its aggregated rows of all checkpoints; valid: whether a checkpoint's setting proves anything.
    """
    records = rows[rows["attack"].isin(PSEUDO)].to_dict("records")
    worst = [row for row in records if row["attack"] == WORST]
    incomplete = any(row["reason"] != "" or row["status"] != "ok" for row in worst)
    known = [row for row in worst if not math.isnan(row["psnr"])]
    head = max(known, key=lambda row: float(row["psnr"])) if known else worst[0]
    oblivious = next(
        row["psnr"] for row in records if row["attack"] == OBLIVIOUS and row["checkpoint"] == head["checkpoint"]
    )
    gain = float(head["psnr"] - head["floor_psnr"])
    proven = valid.get(head["checkpoint"], False) and not incomplete
    leak = head["status"] if not known else _leak(gain, proven)
    checkpoint = one_line(head["checkpoint"]) if known else "-"
    remark = "(undefended)" if head["defense"] == UNDEFENDED else _accounting(head["epsilon"], head["rero_bound"])
    return _line(head, (head["defense"], remark), oblivious, checkpoint, leak, incomplete)


def floor_line(rows: pd.DataFrame, checkpoint: str) -> Line | None:
    """What the prior alone gets: at the given checkpoint of the undefended model, or wherever it is known.

    Its utility is that of the judge, a classifier trained on the same auxiliary images: what needs no client at all.
    """
    prior = rows[rows["attack"].map(is_prior).astype(bool) & (rows["status"] == "ok")]
    if prior.empty:
        return None
    here = prior.assign(
        other=prior["defense"] != UNDEFENDED, away=prior["checkpoint"] != checkpoint, lower=-prior["psnr"]
    )
    head = here.sort_values(["other", "away", "lower"], kind="stable").iloc[0].to_dict()
    head |= {"utility": head["judge_accuracy"], "utility_raw": math.nan, "floor_psnr": head["psnr"]}
    return _line(head, ("prior only", "(no update)"), head["psnr"], "-", "floor", False)


def _leak(gain: float, proven: bool) -> str:
    """A leak that was seen is a leak wherever it was seen; that none was seen counts only where it could have been."""
    if math.isnan(gain):
        return "-"
    if gain > HIGH_DB:
        return "HIGH"
    if not proven:
        return "unproven"
    return "low" if gain < LOW_DB else "some"


def _accounting(epsilon: float, bound: float) -> str:
    """What differential privacy promises, and what of it an attack can be held to."""
    if math.isnan(epsilon):
        return ""
    shown = "" if math.isnan(bound) else f", bound {percent(bound, 0 if bound >= 0.1 else 1)}"
    return f"epsilon = {epsilon:.3g}{shown}"


def _line(
    head: Mapping[Any, Any], name: tuple[str, str], oblivious: float, checkpoint: str, leak: str, incomplete: bool
) -> Line:
    return Line(
        name=one_line(name[0]),
        remark=name[1],
        utility=float(head["utility"]),
        utility_raw=float(head["utility_raw"]),
        oblivious=float(oblivious),
        worst=float(head["psnr"]),
        low=float(head["psnr_low"]),
        high=float(head["psnr_high"]),
        checkpoint=checkpoint,
        ssim=float(head["ssim"]),
        mse=float(head["mse"]),
        attacker_accuracy=float(head["attacker_accuracy"]),
        identified=float(head["identified"]),
        gain=float(head["psnr"] - head["floor_psnr"]),
        leak=leak,
        incomplete=incomplete,
    )
