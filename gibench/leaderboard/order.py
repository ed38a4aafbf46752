"""The order of the table: that of the suite's lists, `none` first among defenses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gibench.leaderboard.columns import PLACE, PRIOR, UNDEFENDED, entry

LISTS = {
    "dataset": "datasets",
    "model": "models",
    "training": "training",
    "checkpoint": "checkpoints",
    "batch": "batch_sizes",
    "threat": "threats",
    "labels": "labels",
    "rounds": "rounds",
    "defense": "defenses",
    "attack": "attacks",
}


def in_suite_order(cells: pd.DataFrame, suite: Mapping[str, Any]) -> pd.DataFrame:
    """Cells sorted by place and attack."""
    ranks = pd.DataFrame(index=cells.index)
    for column in [*PLACE, "attack"]:
        listed = suite.get(LISTS[column])
        wanted = [str(item) for item in listed] if isinstance(listed, (list, tuple)) else []
        ranks[column] = cells[column].map(_ranks(list(dict.fromkeys(cells[column])), wanted))
    return cells.loc[ranks.sort_values([*PLACE, "attack"], kind="stable").index].reset_index(drop=True)


def _ranks(seen: list[Any], wanted: list[str]) -> dict[Any, int]:
    """Number the values in the suite's order, or in the planned order where the suite writes them differently (a short
    name, an extra block). Sorting is stable: the members of a sweep stay in the order in which they were planned."""
    ranks = {value: -1 if entry(str(value)) in (UNDEFENDED, PRIOR) else _rank(str(value), wanted) for value in seen}
    if None in ranks.values():
        ranks = {value: min(rank, 0) if rank is not None else 0 for value, rank in ranks.items()}
    return {value: number for number, value in enumerate(sorted(seen, key=lambda value: ranks[value] or 0))}


def _rank(spec: str, wanted: list[str]) -> int | None:
    """The place in the suite's list by the full spec, else by the entry's name; None if it is not there."""
    if spec in wanted:
        return wanted.index(spec)
    listed = [entry(item) for item in wanted]
    return listed.index(entry(spec)) if entry(spec) in listed else None
