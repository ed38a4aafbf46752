"""What became of every cell: done, failed, skipped or missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gibench.leaderboard.columns import PLACE, PLAIN, SETTING
from gibench.leaderboard.order import in_suite_order

if TYPE_CHECKING:
    from gibench.store import Results

CELL = ["cell", "client", *PLACE, "attack", "adaptive", "seed", "status", "reason"]
FAILED_SHARE = 0.05


def cell_table(results: Results) -> pd.DataFrame:
    """One row per planned cell, in table order: its fields, outcome, reason, victims, failed victims.

    What was recorded but is not planned belongs to another run in the same folder and does not count, unless no plan
    is known. `setting` and `place` number the rows that share a setting, and a setting and a defense.
    """
    rows = results.rows.reindex(columns=[*CELL, "victim", "psnr"])
    recorded = named_training(rows.loc[~rows["cell"].duplicated(), CELL])
    planned = named_training(pd.DataFrame(results.grid.get("cells", []), dtype=object).reindex(columns=CELL))
    rounds = dict(zip(recorded["cell"], recorded["rounds"], strict=True))
    planned["rounds"] = [_rounds(rounds.get(c), r) for c, r in zip(planned["cell"], planned["rounds"], strict=True)]
    records = (planned if len(planned) else recorded).to_dict("records")
    outcomes = _outcomes(rows)
    broken = _failed_clients(results.clients)
    cells = pd.DataFrame(
        [_judged(record, outcomes, broken) for record in records], columns=[*CELL, "victims", "failed"]
    )
    cells = cells.astype({"batch": "int64", "rounds": "int64", "adaptive": "bool"})
    cells = in_suite_order(cells, results.grid.get("suite", {}))
    cells["setting"] = cells.groupby(SETTING, sort=False, dropna=False).ngroup()
    cells["place"] = cells.groupby(PLACE, sort=False, dropna=False).ngroup()
    return cells


def named_training(rows: pd.DataFrame) -> pd.DataFrame:
    """The training filled in where it is not named."""
    return rows.assign(training=[PLAIN if pd.isna(value) else str(value) for value in rows["training"]])


def verdict(cells: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Status and reason of the seeds of one attack at one place, taken together."""
    asked = [cell for cell in cells if cell["status"] != "skipped"]
    if not asked:
        return "skipped", _first(cells)
    failed = [cell for cell in asked if cell["status"] == "failed"]
    if failed:
        share = "" if len(failed) == len(asked) else f"{len(failed)} of {len(asked)} cells failed: "
        return "failed", share + (_first(failed) or "no reason recorded")
    done = [cell for cell in asked if cell["status"] == "ok"]
    if not done:
        return "missing", "no result yet"
    victims, lost = (sum(cell[name] for cell in done) for name in ("victims", "failed"))
    if lost > FAILED_SHARE * victims:
        return "failed", f"{lost} of {victims} victims failed: {_first(done) or 'no reason recorded'}"
    absent = len(asked) - len(done)
    return "ok", f"{absent} of {len(asked)} cells missing" if absent else ""


def _first(cells: Sequence[Mapping[str, Any]]) -> str:
    """The first reason that says something."""
    return next((cell["reason"] for cell in cells if cell["reason"]), "")


def _outcomes(rows: pd.DataFrame) -> dict[Any, dict[str, Any]]:
    """Per recorded cell: status, reason, the number of victims and how many of them failed."""
    of, cells = pd.factorize(rows["cell"])
    victim, known = pd.factorize(rows["victim"])
    whole, bad = victim < 0, ((rows["status"] == "failed") | rows["psnr"].isna()).to_numpy(bool)
    image = (of >= 0) & ~whole
    numbers = of * np.int64(len(known)) + victim
    victims, failed = (_per_cell(numbers[image & which], len(known), len(cells)) for which in (True, bad))
    reasons = _reasons(rows, of, bad & ~whole) | _reasons(rows, of, whole)
    return {
        cell: {
            "status": "ok" if victims[k] else "failed",
            "reason": reasons.get(k, ""),
            "victims": int(victims[k]),
            "failed": int(failed[k]),
        }
        for k, cell in enumerate(cells)
    }


def _per_cell(numbers: NDArray[np.int64], victims: int, cells: int) -> NDArray[np.intp]:
    """How many different victims each cell has, of the numbers cell * victims + victim."""
    return np.bincount(pd.unique(numbers) // max(victims, 1), minlength=cells)


def _reasons(rows: pd.DataFrame, of: NDArray[np.intp], which: NDArray[np.bool_]) -> dict[int, str]:
    """The first reason of these rows that says something, by the number of the cell."""
    told = np.flatnonzero(which & (of >= 0) & rows["reason"].notna().to_numpy(bool))
    found: dict[int, str] = {}
    for cell, reason in zip(of[told], rows["reason"].iloc[told], strict=True):
        if str(reason):
            found.setdefault(int(cell), str(reason))
    return found


def _judged(record: dict[str, Any], outcomes: dict[Any, dict[str, Any]], broken: dict[Any, str]) -> dict[str, Any]:
    planned = record["status"]
    record |= {"status": "missing", "reason": _text(record["reason"]), "victims": 0, "failed": 0}
    record["rounds"] = _rounds(record["rounds"], None)
    record["batch"] = 1 if pd.isna(record["batch"]) else record["batch"]
    record["adaptive"] = not pd.isna(record["adaptive"]) and bool(record["adaptive"])
    if record["cell"] in outcomes:
        return record | outcomes[record["cell"]]
    if planned == "skipped":
        return record | {"status": "skipped"}
    if record["client"] in broken:
        return record | {"status": "failed", "reason": f"its client failed: {broken[record['client']]}"}
    return record


def _failed_clients(clients: pd.DataFrame) -> dict[Any, str]:
    clients = clients.reindex(columns=["client", "status", "reason"])
    failed = clients[clients["status"] == "failed"]
    return dict(zip(failed["client"], text_of(failed["reason"]), strict=True))


def text_of(column: pd.Series[Any]) -> pd.Series[str]:
    """A column of texts with its nulls as empty texts."""
    return column.astype(object).map(_text)


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _rounds(recorded: Any, planned: Any) -> int:
    """A grid of one-round cells need not say so."""
    return next((int(value) for value in (recorded, planned) if value is not None and not pd.isna(value)), 1)
