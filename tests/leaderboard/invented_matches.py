"""Invented results of a suite that compares defenses at matched utility."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import synthetic_results as made

FAMILIES = {
    "latent_perturb": "latent_perturb(rho=1.0)",
    "dpsgd": "dpsgd(sigma=0.1)",
    "prune": "prune(p=0.9)",
    "clip": "clip(bound=0.1)",
}
DP, PRUNE = FAMILIES["dpsgd"], FAMILIES["prune"]
LEVELS = {"latent_perturb": 28.0, "dpsgd": 34.0, "prune": 34.0, "clip": 40.0}

KNOBS = {"dpsgd": "sigma", "prune": "p"}
CURVES = [
    {"dataset": "ihc", "model": "lenet", "training": "fedsgd", "family": "dpsgd", "knob": "sigma"}
    | {"measure": "accuracy"}
    | {
        "points": [
            {"value": v, "defense": f"dpsgd(sigma={v})", "utility": [u - 0.01, u + 0.01], "fitted": u}
            for v, u in ((0.001, 0.9), (0.01, 0.88), (0.1, 0.851), (1.0, 0.5))
        ]
    }
]


def match(family: str, target: str = "drop 0.05", **fields: Any) -> dict[str, Any]:
    spec = fields.pop("defense", FAMILIES[family])
    made_of = {"dataset": "ihc", "model": "lenet", "training": "fedsgd", "family": family, "target": target}
    made_of |= {"measure": "accuracy", "goal": 0.85, "status": "matched", "reason": "", "knob": "strength"}
    return made_of | {"value": made.knob(spec), "defense": spec, "utility": 0.851, "spread": 0.004} | fields


def unreachable(family: str, target: str = "drop 0.05") -> dict[str, Any]:
    nothing = {"status": "unreachable", "reason": "unreachable (best 0.81)", "value": None, "defense": ""}
    return match(family, target) | nothing | {"utility": None, "spread": None}


def results(
    levels: Mapping[str, float] = LEVELS,
    matches: list[dict[str, Any]] | None = None,
    *,
    victims: int = 30,
    seeds: tuple[int, ...] = (0, 1),
    spread: float = 4.0,
    noise: float = 0.5,
) -> made.Results:
    """Every family at its level of PSNR, plus what a victim adds to all of them (`spread`) and to one (`noise`)."""
    matches = [match(family) for family in levels] if matches is None else matches
    of_spec = {FAMILIES[family]: level for family, level in levels.items()} | {"none": 46.0}
    rng = np.random.default_rng(11)
    common = rng.normal(0, spread, victims)
    own: dict[str, np.ndarray[Any, Any]] = {}

    def psnr(cell: dict[str, Any], victim: int, image: int) -> float:
        if cell["attack"] == "prior_only":
            return made.FLOOR - 5 + victim % 5
        key = f"{cell['defense']} {cell['seed']}"
        lot = own.setdefault(key, rng.normal(0, noise, victims) if noise else np.zeros(victims))
        lost = 0.0 if cell["attack"] == "adaptive_matching" else 4.0
        lost += 1.0 if cell["checkpoint"] == "final" else 0.0
        return float(of_spec[cell["defense"]] + common[victim] + lot[victim] - lost)

    planned = made.cells(defenses=of_spec, seeds=seeds)
    found = made.results(planned, made.rows(planned, victims, psnr))
    clients = found.clients.assign(utility_val=found.clients["utility"] + 0.01)
    return made.Results(found.rows, clients, found.grid | {"matches": matches})


def with_rows(found: made.Results, rows: pd.DataFrame) -> made.Results:
    return made.Results(rows, found.clients, found.grid)


def two_targets(**fields: Any) -> made.Results:
    """The usual results of two families, matched at one target and one of them at another, with a curve."""
    found = made.results(made.cells(), **fields)
    matches = [match(family, knob=KNOBS[family]) for family in KNOBS]
    matches += [match("dpsgd", "drop 0.01", knob="sigma", goal=0.89), unreachable("prune", "drop 0.01")]
    return made.Results(found.rows, found.clients, found.grid | {"matches": matches, "curves": CURVES}, found.commit)
