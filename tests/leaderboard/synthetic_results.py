"""Invented results with known answers, in the form that the store hands over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

METRICS = ["mse", "psnr", "ssim", "mse_sent", "psnr_sent", "ssim_sent", "mse_change", "psnr_change", "ssim_change"]
FLOOR, LEAK = 15.0, 30.0
ATTACKS = {"prior_only": False, "inverting_gradients": False, "adaptive_matching": True}
LEVELS = {
    ("none", "inverting_gradients"): 30.0,
    ("none", "adaptive_matching"): 30.0,
    ("dpsgd(sigma=0.1)", "inverting_gradients"): 12.0,
    ("dpsgd(sigma=0.1)", "adaptive_matching"): 18.0,
    ("prune(p=0.9)", "inverting_gradients"): 20.0,
    ("prune(p=0.9)", "adaptive_matching"): 26.0,
}
SUITE = {
    "name": "quick",
    "version": 1,
    "summary": "invented",
    "datasets": ["ihc"],
    "models": ["lenet"],
    "checkpoints": ["init", "final"],
    "defenses": ["none", "dpsgd(sigma=[0.1])", "prune(p=[0.9])"],
    "attacks": list(ATTACKS),
}


@dataclass(frozen=True)
class Results:
    rows: pd.DataFrame
    clients: pd.DataFrame
    grid: dict[str, Any]
    commit: str = "0123456789abcdef"
    damaged: list[str] = field(default_factory=list)
    audits: pd.DataFrame = field(default_factory=pd.DataFrame)


def cells(
    defenses: Iterable[str] = ("none", "dpsgd(sigma=0.1)", "prune(p=0.9)"),
    checkpoints: Iterable[str] = ("init", "final"),
    seeds: Iterable[int] = (0,),
    datasets: Iterable[str] = ("ihc",),
    batch: int = 1,
) -> list[dict[str, Any]]:
    found = []
    for dataset in datasets:
        for defense in defenses:
            for seed in seeds:
                client = f"{dataset}-{defense}-{seed}"
                fixed = {"client": client, "dataset": dataset, "model": "lenet", "batch": batch, "threat": "D+kp"}
                fixed |= {"labels": "given", "defense": defense, "seed": seed, "status": "planned", "reason": ""}
                for checkpoint in checkpoints:
                    for attack, adaptive in ATTACKS.items():
                        name = f"{client}-{checkpoint}-{attack}"
                        found.append(fixed | {"cell": name, "checkpoint": checkpoint, "attack": attack})
                        found[-1]["adaptive"] = adaptive
    return found


def usual(cell: dict[str, Any], victim: int, image: int) -> float:
    """A PSNR that depends on defense and attack, and a little on the victim; initial models leak 5 dB more."""
    if cell["attack"] == "prior_only":
        return FLOOR + victim % 5 - 2
    extra = 5.0 if cell["checkpoint"] == "init" and cell["defense"] == "none" else 0.0
    return LEVELS[cell["defense"], cell["attack"]] + extra + victim % 5 - 2


def rows(
    planned: list[dict[str, Any]],
    victims: int = 10,
    psnr: Callable[[dict[str, Any], int, int], float] = usual,
) -> pd.DataFrame:
    found = []
    for cell in planned:
        for victim in range(victims):
            for image in range(cell["batch"]):
                found.append(row(cell, victim, image, psnr(cell, victim, image)))
    return pd.DataFrame(found)


def row(cell: dict[str, Any], victim: int, image: int, psnr: float) -> dict[str, Any]:
    fields = {k: v for k, v in cell.items() if k not in ("status", "reason")}
    made: dict[str, Any] = fields | dict.fromkeys(METRICS, 0.5)
    made |= {"rounds": 1, "victim": victim, "image": image, "test_index": 7 * victim, "psnr": psnr}
    made |= {"mse": 10 ** (-psnr / 10), "ssim": psnr / 50, "psnr_sent": psnr + 1, "psnr_change": 100.0}
    made |= {"attacker_accuracy": float(psnr > 20), "identified": float(psnr > 25), "gallery": 100}
    made |= {"label_accuracy": 1.0, "loss": 0.1, "steps": 300, "seconds": 2.0, "peak_mib": 500.0}
    return made | {"status": "ok", "reason": None}


def fail(frame: pd.DataFrame, which: pd.Series, reason: str = "diverged") -> pd.DataFrame:
    frame = frame.copy()
    scored = [*METRICS, "attacker_accuracy", "identified", "label_accuracy"]
    frame.loc[which, scored] = np.nan
    frame.loc[which, "status"] = "failed"
    frame.loc[which, "reason"] = reason
    return frame


def knob(spec: str) -> float | None:
    """The first number of a spec."""
    found = re.search(r"=([\d.]+)", spec)
    return float(found[1]) if found else None


def clients(planned: list[dict[str, Any]]) -> pd.DataFrame:
    found = {}
    for cell in planned:
        lost = 0.0 if cell["defense"] == "none" else 0.05
        made = {name: cell[name] for name in ("client", "dataset", "model", "defense", "seed")}
        made |= {"utility": 0.9 - lost + 0.02 * cell["seed"], "utility_raw": 0.8 - lost}
        private = cell["defense"].startswith("dpsgd")
        made |= {"epsilon": 5.5 if private else None, "delta": None, "gdp_mu": 1.0 if private else None}
        made |= {"classes": 2, "strength": knob(cell["defense"]), "judge_accuracy": 0.7}
        found[cell["client"]] = made | {"status": "ok", "reason": None}
    return pd.DataFrame(list(found.values()))


def results(planned: list[dict[str, Any]], frame: pd.DataFrame | None = None, **fields: Any) -> Results:
    frame = rows(planned) if frame is None else frame
    grid = {"suite": SUITE, "protocol": 1, "cells": planned}
    return Results(frame, fields.pop("clients", clients(planned)), grid, **fields)


def nothing() -> Results:
    return Results(pd.DataFrame(), pd.DataFrame(), {"suite": SUITE, "protocol": 1, "cells": []}, "", [])
