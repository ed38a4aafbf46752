"""What `--by attack` shows, before it becomes text: one table per defense in a setting, a line per attack."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from gibench.leaderboard import aggregate
from gibench.leaderboard.columns import OBLIVIOUS, PLACE, SSIM_OVER_HALF, WORST, entry, is_prior
from gibench.report.tables import SPREAD, TABLE, granted, images, not_counted, title
from gibench.report.text import one_line

if TYPE_CHECKING:
    from gibench.store import Results

FLOOR = "prior only"
LEGEND = (
    "How to read it: a higher PSNR means that more of the image leaks; in brackets its 95 % interval over victims. The "
    "floor (prior only) is what an attacker gets without seeing any update: an attack that comes no higher shows "
    "nothing. Over half: share of the images with an SSIM over 0.5, to be read against the floor's. Worst: per image "
    "the best of all attacks. Labels: share of the labels that the attack got right; s/image: its seconds per image; "
    "both over all checkpoints of the line. * = results are lacking."
)


@dataclass(frozen=True)
class Score:
    """One attack at one checkpoint; a number that is not known is NaN, and the status says why."""

    psnr: float = math.nan
    low: float = math.nan
    high: float = math.nan
    ssim: float = math.nan
    over_half: float = math.nan
    status: str = "-"
    complete: bool = True


@dataclass(frozen=True)
class AttackLine:
    """One attack at all checkpoints of its table."""

    name: str
    scores: list[Score]
    labels: float
    seconds: float
    notes: list[str]


@dataclass(frozen=True)
class AttackTable:
    """All attacks on one defense in one setting."""

    dataset: str
    model: str
    defense: str
    batch: int
    granted: str
    images: str
    checkpoints: list[str]
    lines: list[AttackLine]


@dataclass(frozen=True)
class AttackReport:
    """specs: what stands behind the names of attacks that share one."""

    title: str
    tables: list[AttackTable]
    specs: dict[str, str]
    notes: list[str]


def attack_report(results: Results) -> AttackReport:
    """Everything that a reader sees, in order."""
    board = aggregate(results, spread=SPREAD)
    board = board[board["attack"] != OBLIVIOUS]
    names = _names(dict.fromkeys(board["attack"]))
    tables = [_table(rows, names) for _, rows in board.groupby([*TABLE, "defense"], sort=False, dropna=False)]
    specs = {name: one_line(spec) for spec, name in names.items() if " #" in name}
    return AttackReport(title(results, board), tables, specs, not_counted(results))


def is_floor(name: str) -> bool:
    return name.partition(" #")[0] == FLOOR


def ordered(names: Iterable[str]) -> list[str]:
    """The floor first, the worst case last, between them the order in which the names came."""
    return sorted(dict.fromkeys(names), key=lambda name: (name == WORST) - is_floor(name))


def _names(specs: Iterable[str]) -> dict[str, str]:
    """The entry's name for every spec, with a number where several share it."""
    short = {spec: FLOOR if is_prior(spec) else one_line(entry(spec)) for spec in specs}
    total, seen = Counter(short.values()), Counter[str]()
    for spec, name in short.items():
        seen[name] += 1
        short[spec] = f"{name} #{seen[name]}" if total[name] > 1 else name
    return short


def _table(rows: pd.DataFrame, names: Mapping[str, str]) -> AttackTable:
    checkpoints = list(dict.fromkeys(rows["checkpoint"]))
    lines = {names[attack]: part for attack, part in rows.groupby("attack", sort=False)}
    first = rows[PLACE].iloc[0]
    return AttackTable(
        **{name: one_line(first[name]) for name in ("dataset", "model", "defense")},
        batch=int(first["batch"]),
        granted=granted(first),
        images=images(rows),
        checkpoints=[one_line(checkpoint) for checkpoint in checkpoints],
        lines=[_line(name, lines[name], checkpoints) for name in ordered(lines)],
    )


def _line(name: str, rows: pd.DataFrame, checkpoints: list[str]) -> AttackLine:
    scores = {row["checkpoint"]: _score(row) for _, row in rows.iterrows()}
    n = rows["n"].sum() or math.nan
    right = (rows["label_accuracy"] * rows["n"]).sum(min_count=1)
    notes: dict[str, list[str]] = {}
    for row in rows.itertuples():
        if text := _note(row.attack, row.status, row.reason, row.flags):
            notes.setdefault(text, []).append(one_line(row.checkpoint))
    everywhere = len(checkpoints)
    said = [text if len(at) == everywhere else f"{', '.join(at)}: {text}" for text, at in notes.items()]
    return AttackLine(name, [scores.get(c, Score()) for c in checkpoints], right / n, rows["seconds"].sum() / n, said)


def _score(row: pd.Series) -> Score:
    return Score(
        psnr=float(row["psnr"]),
        low=float(row["psnr_low"]),
        high=float(row["psnr_high"]),
        ssim=float(row["ssim"]),
        over_half=float(row[SSIM_OVER_HALF]),
        status=row["status"],
        complete=row["reason"] == "",
    )


def _note(attack: str, status: str, reason: str, flags: str) -> str:
    """What else there is to say; what the worst case lacks is said at the attacks that lack it."""
    failure = f"{status}: {reason}" if status != "ok" else reason
    return one_line("; ".join(filter(None, [flags] if attack == WORST else [failure, flags])))
