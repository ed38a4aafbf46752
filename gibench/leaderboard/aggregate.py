"""From one row per image to one row per setting, defense and attack, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gibench.leaderboard.alarms import with_alarms
from gibench.leaderboard.bootstrap import Floats, interval
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
from gibench.leaderboard.scores import scores

if TYPE_CHECKING:
    from gibench.store import Results

UTILITY = ["dataset", "model", "training", "defense"]
CLIENT = {"utility": "mean", "utility_raw": "mean"} | dict.fromkeys(["epsilon", "gdp_mu", "classes", "strength"], "max")


def aggregate(results: Results) -> pd.DataFrame:
    """The leaderboard: seeds and victims pooled, in suite order, every planned pair with its status and reason.

    `n` counts images. Besides the attacks that ran, every defense has the rows `oblivious` (per image the best of the
    attacks that ignore the defense) and `worst` (of all attacks); the prior is always among them. A row that is not
    `ok` has null scores and n = 0; an `ok` row with a reason is incomplete and says what it lacks.
    """
    read = scores(results)
    parts = dict(iter(read.images.groupby(["place", "attack"], sort=False)))
    floors = read.floor["psnr"].groupby("place").mean()
    rows = []
    for place, cells in read.cells.groupby("place", sort=False):
        for head, status, reason in _entries(cells):
            images = parts.get((place, head["attack"]), read.images.iloc[:0])
            unscored = int(images["psnr"].isna().sum())
            if status == "ok" and unscored:
                status, reason = "failed", f"{unscored} images failed and {PRIOR} has no score for them"
            head |= {"status": status, "reason": reason, "floor_psnr": floors.get(place, np.nan)}
            rows.append(head | (_summary(images) if status == "ok" else {"n": 0, "victims": 0}))
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table = _with_client(table.assign(flags=text_of(table["flags"])), results.clients, read.cells["client"])
    table = _undefended(with_alarms(with_bound(table)))
    return table[COLUMNS].astype({"n": "int64", "victims": "int64", "adaptive": "bool"})


def _entries(cells: pd.DataFrame) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every attack at one place with its status and reason, then the two pseudo-attacks."""
    place = cells.iloc[0][PLACE].to_dict()
    verdicts: dict[str, tuple[bool, str, str]] = {}
    for attack, part in cells.groupby("attack", sort=False):
        adaptive = bool(part["adaptive"].any())
        verdicts[attack] = adaptive, *verdict(part)
        yield place | {"attack": attack, "adaptive": adaptive}, *verdicts[attack][1:]
    for name in PSEUDO:
        members = {a: v for a, v in verdicts.items() if name == WORST or not v[0] or is_prior(a)}
        adaptive = name != OBLIVIOUS and any(v[0] for v in members.values() if v[1] == "ok")
        yield place | {"attack": name, "adaptive": adaptive}, *_pooled(members)


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


def _summary(images: pd.DataFrame) -> dict[str, Any]:
    """Means, intervals and cost of the images of one row."""
    means: dict[str, Any] = images[MEANS].mean().to_dict()
    low, high = interval(*clustered(images, INTERVALS))
    for i, name in enumerate(INTERVALS):
        means |= {f"{name}_low": low[i], f"{name}_high": high[i]}
    raised = images["flags"].dropna().astype(str).unique() if "flags" in images else []
    flags = dict.fromkeys(flag for text in raised for flag in text.split("; ") if flag)
    means |= {"n": len(images), "victims": images["victim"].nunique(), "gallery": images["gallery"].min()}
    return means | {"seconds": images["seconds"].sum(), "flags": "; ".join(flags)}


def clustered(images: pd.DataFrame, columns: list[str]) -> tuple[Floats, Any]:
    """Values (n, m) and the number of each one's cluster: the victims of all seeds, in order."""
    _, numbers = np.unique(images[["seed", "victim"]].to_numpy(), axis=0, return_inverse=True)
    return images[columns].to_numpy(dtype=np.float64), numbers.ravel()


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
