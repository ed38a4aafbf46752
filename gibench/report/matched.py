"""What a report says first of a suite with matched utility: who leaks less at equal accuracy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.leaderboard.columns import OBLIVIOUS, WORST, entry
from gibench.leaderboard.matched import compare
from gibench.leaderboard.points import TABLE, has_matches
from gibench.report.matched_lines import name, remark
from gibench.report.tables import setting_title
from gibench.report.text import one_line, signed_percent, span

if TYPE_CHECKING:
    from gibench.store import Results

OURS, RIVALS = "latent_perturb", ("dpsgd", "prune")
ATTACKERS = {WORST: "adaptive", OBLIVIOUS: "oblivious"}
BETTER, TIE, WORSE, UNEQUAL = "better", "tie", "worse", "costs less"
CLAIM = (
    "Claimed elsewhere: the abstract of arXiv 2503.16542 says 12.5 % less attacker accuracy and at least 12.4 % more "
    "MSE than two baselines at about 90 % client accuracy. That is about another implementation, of which only the "
    "abstract was available; a difference from it is neither a replication nor its failure."
)
HEADLINE, AS_IT_RAN = "At matched utility", "Every defense as it ran"
READING = (
    "How to read it: every defense was tuned to the same utility on validation images before it was attacked (a target "
    "of drop 0.01 is one point below no defense; retain 0.95 keeps that share of what no defense has over chance; "
    "reach 0.9 is an accuracy), and all met the same victims. Adaptive: per image the best of all attacks, which know "
    "the defense; oblivious: of those that ignore it; both at the checkpoint (at) that leaks most. Differences are "
    "paired per image, with 95 % intervals over victims and seeds. better, worse: significant after Holm's correction "
    "over all pairs of that target; otherwise tie. Rank: 1 + the number of defenses that leak significantly less "
    "(PSNR); equal ranks are not told apart. Top 10 %: mean of the images that leak most. Recognised: share of images "
    "over 20 dB or over what 99 % of the floor's images stay below, whatever is higher. Unreachable: no setting of the "
    "defense has that utility. Costs less: even its strongest setting has more; that one was attacked. Where it leaks "
    "significantly less than one that paid the target, it is better all the same; where it leaks more, others paid "
    "more: that is no comparison, and no rank. The floor's utility: accuracy of a classifier trained on the attacker's "
    "auxiliary images alone, without any client. * = a lower bound, results are lacking."
)


@dataclass(frozen=True)
class Effect:
    """A paired difference: change in points or units, relative change, each with its interval, and the verdict: better,
    tie, worse, `costs less` where the one that leaks more costs less than the target, "-" where not known."""

    change: float = math.nan
    low: float = math.nan
    high: float = math.nan
    relative: float = math.nan
    relative_low: float = math.nan
    relative_high: float = math.nan
    verdict: str = "-"

    @property
    def points(self) -> str:
        return signed_percent(self.change, "")

    @property
    def points_span(self) -> str:
        """In brackets; empty where it is not known."""
        return span(100 * self.low, 100 * self.high, before="")

    @property
    def percent(self) -> str:
        return signed_percent(self.relative)

    @property
    def percent_span(self) -> str:
        return span(100 * self.relative_low, 100 * self.relative_high, before="")


@dataclass(frozen=True)
class Duel:
    """Ours against a rival at one target, for one attacker; or, for no attacker, `missing` says why there is none."""

    target: str
    family: str
    rival: str
    attacker: str = "-"
    n: int = 0
    accuracy: Effect = field(default_factory=Effect)
    mse: Effect = field(default_factory=Effect)
    missing: str = ""


@dataclass(frozen=True)
class MatchedTable:
    """One setting: the duels of the headline and all rows of `matched`."""

    title: str
    duels: list[Duel]
    rows: pd.DataFrame


@dataclass(frozen=True)
class MatchedReport:
    summary: list[str]
    tables: list[MatchedTable]


def matched_report(results: Results) -> MatchedReport | None:
    """None for a suite without matches."""
    if not has_matches(results):
        return None
    found = compare(results)
    tables = []
    for _, rows in found.matched.groupby(TABLE, sort=False, dropna=False):
        first = rows.iloc[0]
        here = found.pairs[(found.pairs[TABLE] == first[TABLE]).all(axis=1)]
        tables.append(MatchedTable(setting_title(first), list(_duels(rows, here)), rows))
    return MatchedReport(_summary([duel for table in tables for duel in table.duels]), tables)


def _duels(rows: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[Duel]:
    """Every family of ours against every rival, at every target, for both attackers where they can be compared."""
    keys = ("target", "score", "metric", "family", "other")
    effects = {tuple(pair[key] for key in keys): pair for pair in pairs.to_dict("records")}
    for target, part in rows.groupby("target", sort=False):
        families = [row for _, row in part.iterrows()]
        for ours in (row for row in families if entry(row["family"]) == OURS):
            for rival in (row for row in families if entry(row["family"]) in RIVALS and " + " not in row["family"]):
                who = (one_line(target), name(ours), name(rival))
                if lacking := _lacking(ours, rival):
                    yield Duel(*who, missing="; ".join(f"{name(row)}: {remark(row) or 'no scores'}" for row in lacking))
                    continue
                for score, attacker in ATTACKERS.items():
                    found = [_effect(effects, target, score, m, ours, rival) for m in ("attacker_accuracy", "mse")]
                    n = next((n for _, n in found if n), 0)
                    yield Duel(*who, attacker, n, found[0][0], found[1][0])


def _lacking(*rows: pd.Series) -> list[pd.Series]:
    """Those on whose account the two cannot be compared: without scores, or both at costs of their own."""
    without = [row for row in rows if row["status"] not in ("matched", "cheaper") or not row["n"]]
    return without or (list(rows) if all(row["status"] == "cheaper" for row in rows) else [])


def _effect(
    effects: dict[tuple[Any, ...], dict[str, Any]], target: Any, score: str, metric: str, ours: Any, rival: Any
) -> tuple[Effect, int]:
    """The pair as seen from ours, whichever of the two comes first in the table, and its n."""
    pair = effects.get((target, score, metric, ours["family"], rival["family"]))
    sign = 1.0
    if pair is None:
        pair, sign = effects.get((target, score, metric, rival["family"], ours["family"])), -1.0
    if pair is None:
        return Effect(), 0
    change, low, high = pair["difference"], pair["low"], pair["high"]
    relative, least, most = pair["relative"], pair["relative_low"], pair["relative_high"]
    if sign < 0:
        change, low, high = -change, -high, -low
        relative, least, most = (_turned(value) for value in (relative, most, least))
    good = change < 0 if metric == "attacker_accuracy" else change > 0
    verdict = "-" if math.isnan(pair["p"]) else TIE if not pair["separated"] else BETTER if good else WORSE
    if {BETTER: rival, WORSE: ours}.get(verdict, {}).get("status") == "cheaper":  # who leaks less paid more
        verdict = UNEQUAL
    return Effect(change, low, high, relative, least, most, verdict), int(pair["n"])


def _turned(relative: float) -> float:
    """a / b - 1 -> b / a - 1."""
    return 1 / (1 + relative) - 1 if relative > -1 else math.nan


def _summary(duels: list[Duel]) -> list[str]:
    """One sentence per family of ours and rival, over all settings and targets; the rivals that a family nowhere meets
    share one."""
    told: dict[str, dict[str, list[Duel]]] = {}
    for duel in duels:
        told.setdefault(duel.family, {}).setdefault(duel.rival, []).append(duel)
    return [sentence for family, rivals in told.items() for sentence in _sentences(family, rivals)]


def _sentences(family: str, rivals: dict[str, list[Duel]]) -> Iterator[str]:
    absent = [rival for rival, part in rivals.items() if all(duel.missing for duel in part)]
    for rival, part in rivals.items():
        if rival not in absent:
            yield f"{family} against {rival}, {_compared(part)}"
    if absent:
        yield f"{family} against {', '.join(absent)}: nowhere both at a target"


def _compared(duels: list[Duel]) -> str:
    """In how many cases, and what came of it for each attacker."""
    missing = sum(bool(duel.missing) for duel in duels)
    fought = {attacker: [duel for duel in duels if duel.attacker == attacker] for attacker in ATTACKERS.values()}
    known = len(fought[ATTACKERS[WORST]])
    said = [
        f"{attacker}: attack accuracy {_counted([duel.accuracy for duel in part], points=True)}, "
        f"MSE {_counted([duel.mse for duel in part], points=False)}"
        for attacker, part in fought.items()
        if part
    ]
    return "; ".join([f"compared in {known} of {known + missing} settings and targets", *said])


def _counted(effects: list[Effect], points: bool) -> str:
    """How often it is better, a tie or worse, and by how much at least and at most."""
    counts = Counter(effect.verdict for effect in effects)
    said = [f"{verdict} in {counts[verdict]}" for verdict in (BETTER, TIE, WORSE) if counts[verdict]]
    said += [f"at unequal cost in {counts[UNEQUAL]}"] if counts[UNEQUAL] else []
    said += [f"not known in {counts['-']}"] if counts["-"] else []
    sizes = [effect.change if points else effect.relative for effect in effects]
    known = sorted(size for size in sizes if not math.isnan(size))
    ends = list(dict.fromkeys(signed_percent(size, "") for size in known[:1] + known[-1:]))
    return ", ".join(said) + (f" ({' to '.join(ends)}{' points' if points else ' %'})" if ends else "")
