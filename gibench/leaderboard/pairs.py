"""Paired differences: every defense met the same victims, so that what a victim adds to both of a pair cancels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gibench.leaderboard.bootstrap import LEVEL, RESAMPLES, SEED, Floats
from gibench.leaderboard.columns import IMAGE, INTERVALS, WORST
from gibench.leaderboard.points import GROUP

PAIRS = [*GROUP, "score", "metric", "family", "other", "n", "victims", "seeds", "mean", "other_mean"]
PAIRS += ["difference", "low", "high", "relative", "relative_low", "relative_high", "p", "p_holm", "separated"]

RELATIVE = ("mse", "attacker_accuracy")
"""Metrics on a ratio scale; a relative change of dB or of SSIM says nothing."""


@dataclass(frozen=True)
class Leak:
    """What came out of one family at one target: per score (`worst`, `oblivious`) one row per image."""

    group: Mapping[str, Any]
    family: str
    images: Mapping[str, pd.DataFrame]


def pairs_of(leaks: Sequence[Leak]) -> pd.DataFrame:
    """All pairs within each group, for every score and every metric with an interval, in the columns PAIRS.

    difference: mean of `family` minus mean of `other` over the images that both have; relative: the same as a share
    of `other`'s mean; 95 % percentile intervals and the two-sided p of 10,000 resamples (100 per pair, where that is
    more). Victims (batches) and training seeds are both drawn with replacement, the same draw for both of a pair: a
    seed is shared by all victims, so that drawing (seed, victim) as one would take three trainings for three hundred.
    p_holm: p after Holm over all pairs of one group, score and metric; separated: p_holm is at most 0.05, that is,
    the percentile interval at Holm's level leaves out 0. A single victim says nothing: its intervals and p are null.
    """
    found: list[dict[str, Any]] = []
    for key, members in groupby(leaks, key=lambda leak: tuple(leak.group[name] for name in GROUP)):
        families = list(members)
        for score in families[0].images:
            for metric in INTERVALS:
                rows = list(_compared({leak.family: leak.images[score] for leak in families}, metric))
                adjusted = holm(np.array([row["p"] for row in rows], dtype=np.float64))
                for row, p in zip(rows, adjusted, strict=True):
                    row |= {"score": score, "metric": metric, "p_holm": p, "separated": bool(p <= 1 - LEVEL)}
                    found.append(dict(zip(GROUP, key, strict=True)) | row)
    return pd.DataFrame(found, columns=PAIRS)


def holm(p: Floats) -> Floats:
    """Adjusted p-values (m,) of m tests: sorted, times m, m - 1, ..., never falling, at most 1. Nulls stay null."""
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def ranks(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Adds `rank`: 1 + the number of families with a significantly lower worst PSNR at the same target.

    Families that no pair separates share a rank, and as many ranks after them stay empty: 1, 2, 2, 4. `separated`
    need not be transitive: of A, B, C where only A and C differ, A and B are 1 and C is 2.

    One that costs less than the target (`cheaper`) and leaks less than one that paid beats it all the same. Where any
    other leaks less than it nothing follows, since that one may have paid more: its rank is null.
    """
    clear = pairs[(pairs["score"] == WORST) & (pairs["metric"] == "psnr") & pairs["separated"].astype(bool)]
    losers = clear.assign(family=clear["family"].where(clear["difference"] > 0, clear["other"]))
    beaten = losers.groupby([*GROUP, "family"]).size()
    keys = pd.MultiIndex.from_frame(table[[*GROUP, "family"]])
    rank = 1.0 + beaten.reindex(keys).fillna(0).to_numpy(dtype=np.float64)
    ranked = (table["status"] == "matched") | ((table["status"] == "cheaper") & (rank == 1))
    return table.assign(rank=np.where(ranked & table["psnr"].notna(), rank, np.nan))


def _compared(families: Mapping[str, pd.DataFrame], metric: str) -> Iterator[dict[str, Any]]:
    """Every pair of families on one metric."""
    columns = {name: rows.set_index(IMAGE)[metric] for name, rows in families.items()}
    both = pd.DataFrame(columns)  # (images, families), null where a family lacks an image
    values, known = both.to_numpy(dtype=np.float64).T.copy(), both.notna().to_numpy().T
    seeds, victims = (both.index.get_level_values(name).factorize()[0] for name in ("seed", "victim"))
    mean = _resampled(seeds, victims, max(RESAMPLES, 50 * len(families) * (len(families) - 1)))
    for (i, one), (j, other) in combinations(enumerate(columns), 2):
        kept = known[i] & known[j]
        (first, drawn), (second, also_drawn) = (mean(values[k].tobytes(), kept.tobytes()) for k in (i, j))
        n, clusters = int(kept.sum()), len(np.unique(victims[kept]))
        row = {"family": one, "other": other, "n": n, "victims": clusters, "seeds": len(np.unique(seeds[kept]))}
        row |= {"mean": first, "other_mean": second}
        difference = drawn - also_drawn if clusters > 1 else drawn[:0]
        row |= {"difference": first - second, "p": _two_sided(difference)}
        row |= dict(zip(("low", "high"), _percentiles(difference), strict=True))
        if metric in RELATIVE and second > 0:
            positive = also_drawn[: len(difference)] > 0
            share = drawn[: len(difference)][positive] / also_drawn[: len(difference)][positive] - 1
            row |= {"relative": first / second - 1}
            row |= dict(zip(("relative_low", "relative_high"), _percentiles(share), strict=True))
        yield row


def _resampled(
    seeds: NDArray[np.intp], victims: NDArray[np.intp], resamples: int
) -> Callable[[bytes, bytes], tuple[float, Floats]]:
    """A function from values (n,) and a mask of images (n,) to their mean and its resamples; equal masks get equal
    draws. Arguments are bytes so that a family which meets many others is drawn once."""
    s, v = (int(codes.max(initial=-1)) + 1 for codes in (seeds, victims))
    of_seeds, of_victims = (_multiplicities(k, resamples) for k in (s, v))

    @cache
    def weighed(mask: bytes) -> Floats:
        counts = np.zeros((s, v))
        np.add.at(counts, (seeds, victims), np.frombuffer(mask, dtype=bool))
        total: Floats = ((of_seeds @ counts) * of_victims).sum(axis=1)
        return total

    @cache
    def mean(values: bytes, mask: bytes) -> tuple[float, Floats]:
        kept, known = np.frombuffer(values, dtype=np.float64), np.frombuffer(mask, dtype=bool)
        sums = np.zeros((s, v))
        np.add.at(sums, (seeds, victims), np.where(known, kept, 0.0))
        totals, sizes = ((of_seeds @ sums) * of_victims).sum(axis=1), weighed(mask)
        drawn = np.divide(totals, sizes, out=np.full(len(totals), np.nan), where=sizes > 0)
        return (float(kept[known].mean()) if known.any() else float("nan")), drawn

    return mean


@lru_cache(maxsize=4)
def _multiplicities(k: int, resamples: int) -> NDArray[np.float64]:
    """How often each of k is drawn in each resample (resamples, k)."""
    draws = (
        np.random.default_rng([SEED, k]).multinomial(k, np.full(k, 1 / k), size=resamples) if k else np.zeros((1, 0))
    )
    return draws.astype(np.float64)


def _two_sided(drawn: Floats) -> float:
    """Twice the smaller share of resamples on one side of 0, with the observed sample counted among them."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan")
    tail = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(known) + 1)))


def _percentiles(drawn: Floats) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
