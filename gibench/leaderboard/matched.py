"""Defenses compared at equal utility: per setting and target one row per family, ranked by what leaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.leaderboard.aggregate import aggregate
from gibench.leaderboard.cells import named_training
from gibench.leaderboard.columns import (
    INTERVALS,
    OBLIVIOUS,
    PLACE,
    PRIOR,
    PSEUDO,
    SSIM_OVER_HALF,
    UNDEFENDED,
    WORST,
    is_prior,
)
from gibench.leaderboard.pairs import PAIRS, Leak, pairs_of, ranks
from gibench.leaderboard.points import GROUP, MATCH, TABLE, TRAINED, points
from gibench.leaderboard.scores import scores

if TYPE_CHECKING:
    from gibench.store import Results

FIXED = {"psnr": 20.0, "ssim": 0.5}
"""Beyond this an image counts as recognisable, unless more than 1 % of the floor's images get so far: then beyond
what they reach. Taken over the attacked images of undefended clients, all checkpoints together."""

SCORED = [f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high")]
TAKEN = ["n", "victims", "epsilon", "rero_bound", *SCORED, "identified", SSIM_OVER_HALF]
TAKEN += ["floor_psnr", "undefended_psnr"]
BLIND = {f"oblivious_{name}": name for name in INTERVALS}
BEYOND = ["threshold_psnr", "recognised_psnr", "threshold_ssim", "recognised_ssim"]
MATCHED = [*GROUP, "family", "rank", *MATCH, "utility", "checkpoint", *TAKEN, *BLIND, "decile_psnr", *BEYOND]

Key = tuple[Any, ...]
"""A place (PLACE) and an attack; the prior is called by its entry's name, whatever its spec."""


@dataclass(frozen=True)
class Comparison:
    """matched: one row per family (see `matched`); pairs: one row per two families (see `pairs_of`)."""

    matched: pd.DataFrame
    pairs: pd.DataFrame


def matched(results: Results) -> pd.DataFrame:
    """One row per setting, target and family, in the columns MATCHED; empty for a suite without matches.

    - family `prior_only` is the floor and `none` the undefended client, at every target. status of the others:
      `matched`; `cheaper`, which has more utility even at its strongest and was attacked there; `unreachable` or
      `pending` with the reason, or `failed`, `missing`, `skipped` where an attack result is lacking. Rows of these
      five have null scores and n = 0; a row with scores and a reason is incomplete;
    - knob and value: what was solved for, defense: the spec with it; goal, utility_val, spread: the utility that was
      aimed at on the validation part, the mean over seeds that was reached there and their standard deviation;
      utility: the same measure on the test part, of the floor the judge's accuracy;
    - mse, psnr, ssim, attacker_accuracy with intervals, identified: the worst case over attacks, at the checkpoint
      where its mean PSNR is highest; `oblivious_*`: there, the best of the attacks that ignore the defense;
      floor_psnr and undefended_psnr: the prior, and the worst case without a defense, there;
    - decile_psnr: mean PSNR of the tenth of the images that leak most; recognised_*: share of images beyond
      threshold_* (see FIXED);
    - rank: 1 + the number of families that leak significantly less (see `ranks`); null where nothing is known, and for
      a `cheaper` one that any other beats: others paid more.
    """
    return compare(results).matched


def pairs(results: Results) -> pd.DataFrame:
    """Paired differences between every two families that were attacked at one target, `cheaper` ones too (see
    `pairs_of`)."""
    return compare(results).pairs


def compare(results: Results) -> Comparison:
    """Both tables from one reading of the results."""
    board = aggregate(results)
    found = points(results, board)
    if found.empty:
        return Comparison(pd.DataFrame(columns=MATCHED), pd.DataFrame(columns=PAIRS))
    lines, everywhere = dict[Key, Any](), dict[Key, list[Any]]()
    for row in board.to_dict("records"):
        lines[_key(row, row["attack"])] = row
        everywhere.setdefault((*_table(row), row["defense"], _plain(row["attack"])), []).append(row)
    images = _images(results)
    thresholds = _thresholds(images)
    rows, leaks = [], []
    for point in found.to_dict("records"):
        key = _key(point, PRIOR if point["family"] == PRIOR else WORST)
        point |= _outcome(point, lines.get(key), everywhere.get((*_table(point), point["defense"], key[-1]), []))
        if key in images and lines[key]["status"] == "ok":
            own, ignoring = images[key], PRIOR if point["family"] == PRIOR else OBLIVIOUS
            blind = lines.get(_key(point, ignoring), {})
            point |= {name: lines[key][name] for name in TAKEN}
            point |= {name: blind.get(metric, math.nan) for name, metric in BLIND.items()}
            point |= _victims(own, thresholds.get(_table(point), FIXED))
            if point["status"] in ("matched", "cheaper"):
                ignorant = images.get(_key(point, OBLIVIOUS), own.iloc[:0])
                leaks.append(Leak(point, point["family"], {WORST: own, OBLIVIOUS: ignorant}))
        rows.append(point)
    table = pd.DataFrame(rows).reindex(columns=MATCHED)
    attacked = {cell.get("client") for cell in results.grid.get("cells", [])}
    table = _with_utility(table, results.clients, attacked).fillna({"n": 0, "victims": 0})
    compared = pairs_of(leaks)
    return Comparison(ranks(table.astype({"n": "int64", "victims": "int64"}), compared), compared)


def _key(row: Mapping[str, Any], attack: str) -> Key:
    return (*(row[name] for name in PLACE), _plain(attack))


def _table(row: Mapping[str, Any]) -> Key:
    return tuple(row[name] for name in TABLE)


def _images(results: Results) -> dict[Key, pd.DataFrame]:
    """One row per image, for the prior and the two pseudo-attacks at every place."""
    read = scores(results)
    places = {row["place"]: row for row in read.cells.drop_duplicates("place").to_dict("records")}
    wanted = [name for name in read.images["attack"].unique() if name in PSEUDO or is_prior(name)]
    parts = read.images[read.images["attack"].isin(wanted)]
    return {
        _key(places[place], attack): part.dropna(subset="psnr")
        for (place, attack), part in parts.groupby(["place", "attack"], sort=False)
    }


def _thresholds(images: Mapping[Key, pd.DataFrame]) -> dict[Key, dict[str, float]]:
    """Per table what the prior does not reach on 99 % of the images that undefended clients sent."""
    floors: dict[Key, list[pd.DataFrame]] = {}
    for key, part in images.items():
        row = dict(zip(PLACE, key, strict=False))
        if row["defense"] == UNDEFENDED and key[-1] == PRIOR:
            floors.setdefault(_table(row), []).append(part)
    return {
        table: {name: max(least, float(pd.concat(parts)[name].quantile(0.99))) for name, least in FIXED.items()}
        for table, parts in floors.items()
    }


def _victims(images: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[str, float]:
    """What the mean hides: the images that leak most, and how many can be recognised."""
    tenth = images["psnr"].nlargest(math.ceil(len(images) / 10))
    found = {"decile_psnr": float(tenth.mean())}
    for name, threshold in thresholds.items():
        known = images[name].dropna()
        found[f"threshold_{name}"] = threshold
        found[f"recognised_{name}"] = float((known > threshold).mean()) if len(known) else math.nan
    return found


def _outcome(point: Mapping[str, Any], head: Mapping[str, Any] | None, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Status and reason of the match, or of the attacks on it where they say more.

    head: the line that is shown; rows: the lines of the same attack at all checkpoints.
    """
    if not point["defense"]:
        return {"status": point["status"], "reason": point["reason"]}
    odd = [row for row in rows if row["status"] != "ok" or row["reason"]]
    said = [point["reason"], *(f"{row['checkpoint']}: {row['reason'] or row['status']}" for row in odd)]
    if head is not None and head["status"] == "ok":
        return {"status": point["status"], "reason": "; ".join(filter(None, said))}
    status = rows[0]["status"] if rows else "missing"
    return {"status": status, "reason": "; ".join(filter(None, said)) or "no attack on it is planned"}


def _plain(attack: str) -> str:
    return PRIOR if is_prior(attack) else attack


def _with_utility(table: pd.DataFrame, clients: pd.DataFrame, attacked: set[Any]) -> pd.DataFrame:
    """Utility on the test part by the measure of the match, of the attacked clients: those of a sweep are others. Of
    undefended clients that on the validation part, too, which is what targets count from. Of the floor the accuracy of
    the judge, which learned from auxiliary images alone."""
    numbers = ["utility", "auc", "utility_val", "auc_val", "judge_accuracy"]
    known = named_training(clients.reindex(columns=["client", *TRAINED, "defense", "status", *numbers]))
    known = known.assign(**{name: pd.to_numeric(known[name], errors="coerce").astype("float64") for name in numbers})
    known.loc[~known["client"].isin(attacked), ["utility", "auc"]] = math.nan
    by_client = known[known["status"] != "failed"].groupby([*TRAINED, "defense"])[numbers]
    means, spreads = by_client.mean(), by_client.std()
    keys = pd.MultiIndex.from_frame(table[[*TRAINED, "defense"]])
    auc = (table["measure"] == "auc").to_numpy()
    here, spread = means.reindex(keys).reset_index(drop=True), spreads.reindex(keys).reset_index(drop=True)
    bare, floor = table["family"] == UNDEFENDED, table["family"] == PRIOR
    validated = here["auc_val"].where(auc, here["utility_val"])
    return table.assign(
        utility=here["auc"].where(auc, here["utility"].mask(floor, here["judge_accuracy"])).mask(floor & auc),
        utility_val=table["utility_val"].astype("float64").mask(bare, validated),
        spread=table["spread"].astype("float64").mask(bare, spread["auc_val"].where(auc, spread["utility_val"])),
    )
