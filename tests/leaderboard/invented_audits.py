"""Invented examinations with known numbers, in the form that the store hands over."""

from __future__ import annotations

from typing import Any

import pandas as pd
import synthetic_results as made

DEFENSES = ("none", "prune(p=0.9)", "noise(sigma=0.1)")


def planned(defense: str, seed: int, audit: str = "judge(k=2)", **changes: Any) -> dict[str, Any]:
    fixed = {"dataset": "ihc", "model": "lenet", "training": "fedsgd", "status": "planned", "reason": ""}
    return (
        fixed | {"examination": f"{audit}-{defense}-{seed}", "defense": defense, "seed": seed, "audit": audit} | changes
    )


def measure(of: dict[str, Any], group: str, name: str, value: float, unit: str = "", note: str = "") -> dict[str, Any]:
    kept = {key: value for key, value in of.items() if key not in ("status", "reason")}
    return kept | {"group": group, "name": name, "value": value, "unit": unit, "note": note, "status": "ok"}


def failed(of: dict[str, Any], reason: str) -> dict[str, Any]:
    return {**of, "status": "failed", "reason": reason}


def results() -> made.Results:
    """Two audits. `judge`: two groups alike and one of its own; of noise one seed of two failed, of prune a measure is
    lacking. `cost`: one number of the undefended client alone, skipped elsewhere, with text that looks like markup."""
    plan = [planned(defense, seed) for seed in (0, 1) for defense in DEFENSES]
    rows = []
    for of in plan:
        rank = DEFENSES.index(of["defense"])
        if (rank, of["seed"]) == (2, 1):
            rows.append(failed(of, "it <b>broke</b> | here"))
            continue
        for group in ("class 0", "class_1"):
            rows.append(measure(of, group, "accuracy", 0.9 - 0.1 * rank - 0.04 * of["seed"], "share"))
            if rank != 1:
                rows.append(measure(of, group, "AUC", 0.91234 + 0.001 * of["seed"]))
        rows.append(measure(of, "whole", "time", 0.5 + of["seed"], "s", "on one & the same machine"))
    costs = [planned(d, 0, "cost", status="planned" if d == "none" else "skipped") for d in DEFENSES]
    costs = [of | {"reason": "" if of["defense"] == "none" else "only_none"} for of in costs]
    rows.append(measure(costs[0], "", "bytes <each>", 12345.678, "MiB"))
    stranger = measure(planned("none", 7, "stranger"), "", "x", 1.0)
    cells = made.cells(("none",), ("init",))
    found = made.results(cells)
    grid = found.grid | {"audits": [*plan, *costs]}
    return made.Results(found.rows, found.clients, grid, audits=pd.DataFrame([*rows, stranger]))
