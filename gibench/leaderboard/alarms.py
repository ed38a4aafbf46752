"""Flags of rows that contradict a proof, or each other: something is broken, and the row is no evidence."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import pandas as pd
from scipy.special import rel_entr

from gibench.errors import InputError
from gibench.leaderboard.bootstrap import LEVEL
from gibench.leaderboard.columns import OBLIVIOUS, PLACE, PSEUDO, SETTING, UNDEFENDED, WORST
from gibench.registry import parse


def with_alarms(table: pd.DataFrame) -> pd.DataFrame:
    """Adds what is found to the column `flags`."""
    found = [*_oblivious_wins(table), *_beats_bound(table), *_knob(table)]
    flags = table["flags"].copy()
    for row, flag in found:
        flags[row] = f"{flags[row]}; {flag}" if flags[row] else flag
    return table.assign(flags=flags)


Found = list[tuple[Any, str]]
"""Row labels and what is to be said of each."""


def _oblivious_wins(table: pd.DataFrame) -> Found:
    """Attackers that ignore the defense beat every one that knows it, beyond both intervals.

    Then the simulation of the defense is wrong, and the worst case is not known.
    """
    ok = table[(table["status"] == "ok") & (table["defense"] != UNDEFENDED)]
    aware = ok[ok["adaptive"] & ~ok["attack"].isin(PSEUDO)].groupby(PLACE)["psnr_high"].max()
    blind = ok[ok["attack"] == OBLIVIOUS].set_index(PLACE)["psnr_low"]
    beaten = blind.index[blind > aware.reindex(blind.index)]
    worst = table[table["attack"] == WORST]
    return [(row, "oblivious_wins") for row in worst.index[worst.set_index(PLACE).index.isin(beaten)]]


def _beats_bound(table: pd.DataFrame) -> Found:
    """An attack identifies more than differential privacy allows any attack: noise, clip or accounting is wrong.

    The pseudo-attacks are not judged: the truth chooses for them, among more guesses than the bound is for.
    """
    rows = table[(table["status"] == "ok") & ~table["attack"].isin(PSEUDO)]
    shares = rows[["identified", "rero_bound", "victims"]]
    return [
        (row, f"beats_bound: {share:.1%} identified, at most {bound:.1%} possible")
        for row, share, bound, victims in shares.itertuples(name=None)
        if share > bound and victims * _divergence(share, bound) > -math.log((1 - LEVEL) / 2)
    ]


def _divergence(share: float, bound: float) -> float:
    """Chernoff: the mean of n independent shares, each of mean `bound` at most, is as high as `share` with probability
    e^(-n divergence) at most. Holds for whole batches too, and for a handful of them, where the bootstrap does not."""
    return float(rel_entr(share, bound) + rel_entr(1 - share, 1 - bound))


def _knob(table: pd.DataFrame) -> Found:
    """A defense leaks more than the same one with a weaker knob, beyond both intervals."""
    found: Found = []
    worst = table[(table["attack"] == WORST) & (table["status"] == "ok") & table["strength"].notna()]
    for _, rows in worst.groupby(SETTING, sort=False):
        complete = rows[rows["reason"] == ""].sort_values("psnr_high")  # others might leak more than they show
        strengths, highs = complete["strength"].to_numpy(), complete["psnr_high"].to_numpy()
        specs = complete["defense"].to_numpy(object)
        for row, spec, strength, low in rows[["defense", "strength", "psnr_low"]].itertuples(name=None):
            weaker = specs[(strengths < strength) & (highs < low)]
            if (alike := next((other for other in weaker if _one_apart(other, spec)), None)) is not None:
                found.append((row, f"knob: leaks more than {alike}"))
    return found


def _one_apart(spec: str, other: str) -> bool:
    """The same entry with one setting changed; where strengths differ too, that is the knob."""
    (name, mine), (other_name, theirs) = _settings(spec), _settings(other)
    return name == other_name and sum(mine.get(key) != theirs.get(key) for key in mine.keys() | theirs.keys()) == 1


@lru_cache(maxsize=256)
def _settings(spec: str) -> tuple[str, dict[str, Any]]:
    try:
        return parse(spec)
    except InputError:  # of another package, or of several defenses together
        return spec, {}
