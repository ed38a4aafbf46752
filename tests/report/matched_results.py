"""Invented results of a suite that matches utility: two families, two targets, one of them out of reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import synthetic_results as made

DP, PRUNE = "dpsgd(sigma=0.1)", "prune(p=0.9)"
SHARED = {"dataset": "ihc", "model": "lenet", "training": "fedsgd"}


def match(family: str, target: str, defense: str, **fields: Any) -> dict[str, Any]:
    knob = "sigma" if family == "dpsgd" else "p"
    found = {"family": family, "target": target, "measure": "accuracy", "goal": 0.84, "status": "matched"}
    found |= {"reason": "", "knob": knob, "value": made.knob(defense), "defense": defense}
    return SHARED | found | {"utility": 0.85, "spread": 0.004} | fields


MATCHES = [
    match("dpsgd", "drop 0.05", DP),
    match("prune", "drop 0.05", PRUNE),
    match("dpsgd", "drop 0.01", DP, goal=0.88),
    match(
        "prune",
        "drop 0.01",
        "",
        goal=0.88,
        status="unreachable",
        reason="unreachable (best 0.81)",
        value=None,
        utility=None,
        spread=None,
    ),
]
CURVES = [
    SHARED
    | {"family": "dpsgd", "knob": "sigma", "measure": "accuracy"}
    | {
        "points": [
            {"value": v, "defense": f"dpsgd(sigma={v})", "utility": [u - 0.01, u + 0.01], "fitted": u}
            for v, u in ((0.001, 0.9), (0.01, 0.88), (0.1, 0.85), (1.0, 0.5))
        ]
    }
]


def matched(**fields: Any) -> made.Results:
    """The usual results, with two matches for each target and one curve."""
    found = made.results(made.cells(), **fields)
    return replace(found, grid=found.grid | {"matches": MATCHES, "curves": CURVES})


def images(planned: list[dict[str, Any]], victims: int = 10) -> dict[str, dict[str, Any]]:
    """Per cell (v, 1, 1, 8, 8) bytes in which the victim's number can be read off the first pixel."""
    import numpy as np

    numbers = np.arange(victims, dtype=np.uint8).reshape(-1, 1, 1, 1, 1) * np.ones((1, 1, 1, 8, 8), dtype=np.uint8)
    return {
        cell["cell"]: {"victims": numbers, "transmitted": numbers + 50, "reconstructions": numbers + 100}
        for cell in planned
    }


class Folder:
    """A results folder, as far as the page asks: origins and images of its cells."""

    def __init__(self, origin: dict[str, Any], images: dict[str, dict[str, Any]]) -> None:
        self.origin, self.images = origin, images

    def provenance(self, kind: str, name: str) -> dict[str, Any]:
        return self.origin

    def read_images(self, cell: str) -> dict[str, Any]:
        return self.images.get(cell, {})
