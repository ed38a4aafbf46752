"""Defenses at matched utility: which family is meant at which target, and where its worst case is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.leaderboard.cells import named_training
from gibench.leaderboard.columns import PRIOR, SETTING, UNDEFENDED, WORST

if TYPE_CHECKING:
    from gibench.store import Results

TABLE = [name for name in SETTING if name != "checkpoint"]
"""What the rows of one table share: all checkpoints are taken together, the worst of them is the headline."""

TRAINED = ["dataset", "model", "training"]
GROUP = [*TABLE, "target"]
"""The families of one setting at one target: what is ranked together."""

MATCH = ["measure", "goal", "status", "reason", "knob", "value", "defense", "utility_val", "spread"]


def has_matches(results: Results) -> bool:
    """Whether the suite asked for defenses at matched utility."""
    return bool(results.grid.get("matches"))


def points(results: Results, board: pd.DataFrame) -> pd.DataFrame:
    """A row per setting, target and family, in suite order: the match as the run recorded it, and `checkpoint`, where
    the mean PSNR of the worst case is highest (empty where nothing was attacked).

    Every target begins with the families `prior_only` (the floor: the prior against undefended clients) and `none`.
    board: the leaderboard of the same results. A match in no attacked setting has empty texts and batch 0.
    """
    matches = recorded(results)
    settings = board[TABLE].drop_duplicates()
    found: list[dict[str, Any]] = []
    for (dataset, model, training), asked in matches.groupby(TRAINED, sort=False):
        trained = {"dataset": dataset, "model": model, "training": training}
        here = settings[(settings[TRAINED] == pd.Series(trained)).all(axis=1)].to_dict("records")
        for setting in here or [trained | {"batch": 0, "threat": "", "labels": "", "rounds": 0}]:
            for target, families in asked.groupby("target", sort=False):
                for match in [*_references(str(target), families), *families.to_dict("records")]:
                    found.append({**match, **setting})
    table = pd.DataFrame(found, columns=[*GROUP, "family", *MATCH])
    worst = _worst_checkpoints(board)
    keys = pd.MultiIndex.from_frame(table[[*TABLE, "defense"]])
    return table.assign(checkpoint=worst.astype(object).reindex(keys).fillna("").to_numpy())


def worst_row(rows: pd.DataFrame) -> pd.Series:
    """Of the rows of one attack at several checkpoints the one with the highest mean PSNR; the first if none is
    known."""
    known = rows.dropna(subset="psnr")
    return (known if len(known) else rows).sort_values("psnr", ascending=False, kind="stable").iloc[0]


def recorded(results: Results) -> pd.DataFrame:
    """The recorded matches; a defense that was not found is the empty text, a number that is not known is null."""
    listed = pd.DataFrame(results.grid.get("matches", []), dtype=object)
    listed = listed.rename(columns={"utility": "utility_val"}).reindex(columns=[*TRAINED, "target", "family", *MATCH])
    for name in ("goal", "value", "utility_val", "spread"):
        listed[name] = pd.to_numeric(listed[name], errors="coerce").astype("float64")
    texts = ["target", "family", "measure", "status", "reason", "knob", "defense"]
    return named_training(listed).assign(**{name: listed[name].fillna("").astype(str) for name in texts})


def _references(target: str, families: pd.DataFrame) -> list[dict[str, Any]]:
    """The floor and the undefended clients, which are the same at every target."""
    same = {"target": target, "measure": families["measure"].iloc[0], "goal": families["goal"].iloc[0]}
    same |= {"reason": "", "knob": "", "value": math.nan, "utility_val": math.nan, "spread": math.nan}
    return [
        same | {"family": PRIOR, "status": "floor", "defense": UNDEFENDED},
        same | {"family": UNDEFENDED, "status": "undefended", "defense": UNDEFENDED},
    ]


def _worst_checkpoints(board: pd.DataFrame) -> pd.Series:
    worst = board[(board["attack"] == WORST) & board["psnr"].notna()]
    first = worst.sort_values("psnr", ascending=False, kind="stable").drop_duplicates([*TABLE, "defense"])
    return first.set_index([*TABLE, "defense"])["checkpoint"]
