"""From one row per image to one row per setting, defense and attack, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gibench.leaderboard.alarms import with_alarms
from gibench.leaderboard.bootstrap import Floats, intervals, totals
from gibench.leaderboard.bound import with_bound
from gibench.leaderboard.cells import named_training, text_of, verdict
from gibench.leaderboard.columns import (
    COLUMNS,
    INTERVALS,
    MEANS,
    OBLIVIOUS,
    PLACE,
    PRIOR,
    PSEUDO,
    SETTING,
    UNDEFENDED,
    WORST,
    is_prior,
)
from gibench.leaderboard.scores import Scores, numbered, scores

if TYPE_CHECKING:
    from gibench.store import Results

UTILITY = ["dataset", "model", "training", "defense"]
CLIENT = dict.fromkeys(["utility", "utility_raw", "judge_accuracy"], "mean")
CLIENT |= dict.fromkeys(["epsilon", "gdp_mu", "classes", "strength"], "max")


def aggregate(results: Results, read: Scores | None = None, spread: Sequence[str] = tuple(INTERVALS)) -> pd.DataFrame:
    """The leaderboard: seeds and victims pooled, in suite order, every planned pair with its status and reason.

    `n` counts images. Besides the attacks that ran, every defense has the rows `oblivious` (per image the best of the
    attacks that ignore the defense) and `worst` (of all attacks); the prior is always among them. Where attacks met
    different seeds, both count those that most attacks met. A row that is not `ok` has null scores and n = 0; an `ok`
    row with a reason is incomplete and says what it lacks. `read`: the results' scores, where they are at hand.
    `spread`: the scores whose interval is wanted; the columns `_low` and `_high` of the others are left out.
    """
    read = scores(results) if read is None else read
    places = read.cells[["place", *PLACE]].drop_duplicates("place")
    heads = pd.DataFrame(list(_entries(read.cells)), columns=["place", "attack", "adaptive", "status", "reason"])
    heads = heads.merge(places, on="place", how="left")
    table = _summed(heads, summaries(read.images, spread))
    floors = read.floor["psnr"].groupby("place").mean()
    table["floor_psnr"] = floors.reindex(table["place"]).to_numpy()
    table = table.reindex(columns=COLUMNS)
    table = _with_client(table.assign(flags=text_of(table["flags"])), results.clients, read.cells["client"])
    table = _undefended(with_alarms(with_bound(table)))
    unasked = [f"{name}_{end}" for name in INTERVALS if name not in spread for end in ("low", "high")]
    return table[COLUMNS].drop(columns=unasked).astype({"n": "int64", "victims": "int64", "adaptive": "bool"})


def _summed(heads: pd.DataFrame, sums: pd.DataFrame) -> pd.DataFrame:
    """The heads with the numbers of their images, as far as these are a result."""
    if heads.empty:
        return pd.DataFrame(columns=["place", *COLUMNS])
    found = sums.reindex(pd.MultiIndex.from_frame(heads[["place", "attack"]])).set_index(heads.index)
    unscored = found["unscored"].fillna(0).astype(int)
    broken = (heads["status"] == "ok") & (unscored > 0)
    told = [f"{count} images failed and {PRIOR} has no score for them" for count in unscored[broken]]
    heads.loc[broken, "status"] = "failed"
    heads.loc[broken, "reason"] = told
    found = found.where(heads["status"] == "ok")
    found[["n", "victims"]] = found[["n", "victims"]].fillna(0)
    return heads.join(found)


def _entries(cells: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Every attack at every place with its status and reason, then the two pseudo-attacks."""
    places: dict[Any, dict[str, list[dict[str, Any]]]] = {}
    for cell in cells[["place", "attack", "adaptive", "status", "reason", "victims", "failed"]].to_dict("records"):
        places.setdefault(cell["place"], {}).setdefault(cell["attack"], []).append(cell)
    for place, attacks in places.items():
        verdicts: dict[str, tuple[bool, str, str]] = {}
        for attack, part in attacks.items():
            verdicts[attack] = any(cell["adaptive"] for cell in part), *verdict(part)
        for name in PSEUDO:
            members = {
                a: v for a, v in verdicts.items() if a not in PSEUDO and (name == WORST or not v[0] or is_prior(a))
            }
            adaptive = name != OBLIVIOUS and any(v[0] for v in members.values() if v[1] == "ok")
            verdicts[name] = adaptive, *_pooled(members)
        for attack, (adaptive, status, reason) in verdicts.items():
            yield {"place": place, "attack": attack, "adaptive": adaptive, "status": status, "reason": reason}


def _pooled(members: dict[str, tuple[bool, str, str]]) -> tuple[str, str]:
    """Status of the best of several attacks: ok as soon as one attack besides the prior ran, but it says what lacks."""
    real = [status for attack, (_, status, _) in members.items() if not is_prior(attack)]
    lacking = [(a, s, r) for a, (_, s, r) in members.items() if s in ("failed", "missing") or (s == "ok" and r)]
    reason = "; ".join(f"{attack} {status}" if status != "ok" else f"{attack}: {r}" for attack, status, r in lacking)
    if "ok" not in real:
        for status in ("failed", "missing"):
            if status in real:
                return status, f"no attack has a result here: {reason}"
        if not any(status == "ok" for _, status, _ in members.values()):
            return "missing" if lacking else "skipped", reason or "every attack is skipped here"
        reason = "; ".join(filter(None, ["no attack but the prior ran", reason]))
    return "ok", reason


def summaries(images: pd.DataFrame, spread: Sequence[str]) -> pd.DataFrame:
    """Means, intervals of some of them, and costs of all images of each attack at each place, by place and attack."""
    lines = images.groupby("line")
    found = lines[MEANS].mean()
    size = lines.size()
    found["n"], found["unscored"] = size, size - lines["psnr"].count()
    found["gallery"], found["seconds"] = lines["gallery"].min(), lines["seconds"].sum()
    found["victims"] = images.loc[~images[["line", "victim"]].duplicated(), "line"].value_counts()
    clusters = numbered([images[name] for name in ("line", "seed", "victim")])
    of = images["line"].to_numpy()[np.unique(clusters, return_index=True)[1]]
    sizes = np.unique(of, return_counts=True)[1]
    sums = totals(images[list(spread)].to_numpy(np.float64), clusters, len(of))
    for end, numbers in zip(("low", "high"), intervals(*sums, sizes), strict=True):
        found[[f"{name}_{end}" for name in spread]] = numbers
    found["flags"] = pd.Series(_flags(images), dtype=object)
    names = images.loc[~images["line"].duplicated(), ["line", "place", "attack"]].set_index("line").loc[found.index]
    names["attack"] = names["attack"].astype(object)
    return found.set_index(pd.MultiIndex.from_frame(names))


def _flags(images: pd.DataFrame) -> dict[Any, str]:
    """The different flags of the images of each line, in order."""
    raised = images.loc[images["flags"].notna(), ["line", "flags"]].drop_duplicates()
    found: dict[Any, dict[str, None]] = {}
    for line, text in raised.itertuples(index=False):
        found.setdefault(line, {}).update(dict.fromkeys(flag for flag in str(text).split("; ") if flag))
    return {line: "; ".join(flags) for line, flags in found.items()}


def clustered(images: pd.DataFrame, columns: list[str]) -> tuple[Floats, Any]:
    """Values (n, m) and the number of each one's cluster: the victims of all seeds, in order."""
    return images[columns].to_numpy(dtype=np.float64), numbered([images["seed"], images["victim"]])


def _with_client(table: pd.DataFrame, clients: pd.DataFrame, planned: pd.Series) -> pd.DataFrame:
    """Utility is the mean over seeds; epsilon and what else speaks of strength the largest of them."""
    clients = named_training(clients.reindex(columns=["client", *UTILITY, *CLIENT, "status"]))
    numbers = {name: pd.to_numeric(clients[name], errors="coerce").astype("float64") for name in CLIENT}
    clients = clients.assign(**numbers)[clients["client"].isin(planned) & (clients["status"] != "failed")]
    known = clients.groupby(UTILITY).agg(CLIENT)
    found = known.reindex(pd.MultiIndex.from_frame(table[UTILITY]))
    return table.assign(**{name: found[name].to_numpy() for name in known})


def _undefended(table: pd.DataFrame) -> pd.DataFrame:
    """The PSNR of the same attack in the same setting without a defense."""
    bare = table[table["defense"] == UNDEFENDED].set_index([*SETTING, "attack"])["psnr"]
    return table.assign(undefended_psnr=bare.reindex(pd.MultiIndex.from_frame(table[[*SETTING, "attack"]])).to_numpy())
