"""`PYTHONPATH=tests python -m benchmarks.report`: seconds and memory of a report over a million rows, on one core.

The rows are made up, packed, and then read and reported in a process of its own, start and imports included.
Counted are the seconds of all its threads, which are what a clock shows on one core where nobody else works.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gibench import packed
from gibench.store import CELL_COLUMNS, CLIENT_COLUMNS, Store

SCORED = ("mse", "psnr", "ssim", "mse_sent", "psnr_sent", "ssim_sent", "attacker_accuracy", "identified", "seconds")
SEEDS, VICTIMS, ATTACKS = 3, 100, 11
GOAL_SECONDS, GOAL_MIB = 5.0, 2048
Made = list[dict[str, Any]]


def made_up(datasets: int, defenses: int) -> tuple[Made, Made]:
    """Cells and clients: the undefended model and `defenses - 1` strengths of two defenses."""
    strengths = [f"{('dpsgd(sigma', 'prune(p')[k % 2]}={(k + 1) / 100})" for k in range(defenses - 1)]
    attacks = ["prior_only", *(f"inverting_gradients(steps=300, tv={k / 1000})" for k in range(ATTACKS - 1))]
    found, clients = Made(), Made()
    for data, (k, defense), seed in product(range(datasets), enumerate(["none", *strengths]), range(SEEDS)):
        named = {"client": f"{data:04x}{k:06x}{seed:02x}", "dataset": f"medmnist(flag='set{data}')", "model": "lenet"}
        named |= {"defense": defense, "seed": seed, "training": "fedsgd"}
        clients.append(named | {"utility": 0.9 - k / 100, "strength": k / 100, "status": "ok", "classes": 2})
        for a, attack in enumerate(attacks):
            cell = named | {"cell": f"{a:02x}{named['client']}", "checkpoint": "final", "batch": 1, "threat": "D+kp"}
            cell |= {"labels": "inferred", "rounds": 1, "attack": attack, "adaptive": a % 3 == 2}
            found.append(cell | {"status": "ok", "gallery": 100, "level": 10.0 + a - k / 10})
    return found, clients


def columns(cells: Made) -> Iterator[tuple[str, Any]]:
    """Every column of the rows, each cell's victims in turn."""
    draws, total = np.random.default_rng(1), len(cells) * VICTIMS
    psnr = np.repeat([cell["level"] for cell in cells], VICTIMS) + draws.normal(size=total)
    made = {
        "mse": 10 ** (-psnr / 10),
        "psnr": psnr,
        "ssim": psnr / 50,
        "victim": np.tile(np.arange(VICTIMS), len(cells)),
    }
    for name, kind in CELL_COLUMNS.items():
        type_ = getattr(pa, kind)()
        if name in made or name in SCORED:
            values = pa.array(made[name] if name in made else draws.random(total).round(3), type_)
        elif name in ("image", "test_index"):
            values = pa.array(np.zeros(total, int) if name == "image" else made["victim"], type_)
        else:
            few = pa.array([cell.get(name) for cell in cells], type_)
            values = few.take(pa.array(np.repeat(np.arange(len(cells)), VICTIMS)))
        yield name, values


def synthesise(out: Path, datasets: int, defenses: int) -> int:
    """Pack so many results into a folder; how many rows they are."""
    cells, clients = made_up(datasets, defenses)
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in CLIENT_COLUMNS.items()])
    tables = {"cells": pa.table(dict(columns(cells))), "clients": pa.Table.from_pylist(clients, schema)}
    origin = packed.Origin("0" * 40, '{"commit": "' + "0" * 40 + '"}')
    names = {"cells": [cell["cell"] for cell in cells], "clients": [client["client"] for client in clients]}
    parts = {kind: packed.Part(table, dict.fromkeys(names[kind], origin)) for kind, table in tables.items()}
    out.mkdir(parents=True, exist_ok=True)
    packed.write(out, {kind: packed.join(kind, [part]) for kind, part in parts.items()})
    planned = [{name: cell[name] for name in cell if name != "level"} | {"status": "planned"} for cell in cells]
    Store(out).write_grid({"protocol": 1, "suite": {"name": "million", "version": 1}, "cells": planned})
    packed.seal(out)
    return len(tables["cells"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=10)
    parser.add_argument("--defenses", type=int, default=31)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = synthesise(Path(folder), chosen.datasets, chosen.defenses)
        env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "gibench", "report", f"out={folder}", "--format", "markdown"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"{rows:,} rows, {len(shown.splitlines()):,} lines of markdown: {seconds:.1f} s, {mib:.0f} MiB at most")
    if seconds > GOAL_SECONDS or mib > GOAL_MIB:
        raise SystemExit(f"more than the goal of {GOAL_SECONDS:.0f} s and {GOAL_MIB} MiB")


if __name__ == "__main__":
    main()
