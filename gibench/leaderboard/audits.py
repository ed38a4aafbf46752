"""What audits say of each defense: means over seeds, and what became of every examination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gibench.leaderboard.cells import named_training, text_of

if TYPE_CHECKING:
    from gibench.store import Results

TABLE = ["dataset", "model", "training", "audit"]
"""What the lines of one table share."""

NAMES = ["examination", *TABLE, "defense", "seed", "status", "reason"]
MEASURE = ["group", "name", "value", "unit", "note"]
COLUMNS = [*TABLE, "defense", "group", "name", "value", "spread", "seeds", "unit", "note", "status", "reason"]


def audited(results: Results) -> pd.DataFrame:
    """One row per measure of an audit of a defense, in planned order: `value` is the mean over `seeds`, `spread` their
    standard deviation (nan for one seed). Without any result there is one row with its status and reason; a row that is
    ok with a reason lacks seeds. What is recorded but not planned does not count, unless no plan is known.
    """
    rows = named_training(results.audits.reindex(columns=[*NAMES, *MEASURE]))
    planned = named_training(pd.DataFrame(results.grid.get("audits", []), dtype=object).reindex(columns=NAMES))
    if not len(planned):
        planned = rows[NAMES].drop_duplicates("examination")
    found: list[dict[str, Any]] = []
    for key, examined in planned.groupby([*TABLE, "defense"], sort=False, dropna=False):
        where = dict(zip([*TABLE, "defense"], key, strict=True))
        found += _measures(where, examined, rows[rows["examination"].isin(examined["examination"])])
    return pd.DataFrame(found, columns=COLUMNS)


def _measures(where: Mapping[str, Any], examined: pd.DataFrame, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    done = rows[rows["status"] == "ok"]
    status, reason = _verdict(examined, rows)
    empty = {"group": "", "name": "", "value": np.nan, "spread": np.nan, "seeds": 0, "unit": "", "note": ""}
    if done.empty:
        yield {**where, **empty, "status": status, "reason": reason}
        return
    done = done.assign(**{name: text_of(done[name]) for name in ("group", "name", "unit", "note")})
    for (group, name), same in done.groupby(["group", "name"], sort=False):
        values, first = same["value"].to_numpy(float), same.iloc[0]
        spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        numbers = {"value": float(values.mean()), "spread": spread, "seeds": len(values)}
        texts = {"group": group, "name": name, "unit": first["unit"], "note": first["note"]}
        yield {**where, **texts, **numbers, "status": "ok", "reason": reason}


def _verdict(examined: pd.DataFrame, rows: pd.DataFrame) -> tuple[str, str]:
    """Status and reason of all seeds together."""
    asked = examined[examined["status"] != "skipped"]
    if asked.empty:
        return "skipped", _first(examined["reason"])
    done = set(rows.loc[rows["status"] == "ok", "examination"])
    lacking = [name for name in asked["examination"] if name not in done]
    failed = rows[(rows["status"] == "failed") & rows["examination"].isin(lacking)]
    reason = (_first(failed["reason"]) or "no reason recorded") if len(failed) else "no result yet"
    if not done:
        return "failed" if len(failed) else "missing", reason
    return "ok", f"{len(lacking)} of {len(asked)} examinations lacking: {reason}" if lacking else ""


def _first(reasons: pd.Series[Any]) -> str:
    return next((reason for reason in text_of(reasons) if reason), "")
