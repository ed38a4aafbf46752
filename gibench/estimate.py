"""How long jobs will take, from the timings that earlier runs recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median

from gibench.workers import Job

Timings = dict[tuple[str, ...], float]


def recorded(folders: Iterable[Path]) -> Timings:
    """Median seconds of clients by (dataset, model, defense name) and of cells by (dataset, model, attack name)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[tuple[str, ...], list[float]] = {}
    for folder in folders:
        for kind, entry in (("clients", "defense"), ("cells", "attack")):
            for path in (folder / kind).glob("*.parquet"):
                try:
                    row = pq.read_table(path).slice(0, 1).to_pylist()[0]
                except (pa.ArrowException, OSError, IndexError):
                    continue  # a damaged file is named by the report; it only lacks as a timing
                extra = (row.get("fit_seconds") or 0) + (row.get("study_seconds") or 0)
                key = (row["dataset"], row["model"], row[entry].partition("(")[0])
                found.setdefault(key, []).append((row["seconds"] or 0) + extra)
    return {key: median(values) for key, values in found.items()}


def estimate(jobs: Iterable[Job], timings: Timings) -> tuple[float, int]:
    """Seconds of work of the jobs with a recorded timing, and the number of jobs without one.

    A dataset or model without timings borrows the median of the same defense or attack elsewhere.
    """
    by_name: dict[str, list[float]] = {}
    for (_, _, name), seconds in timings.items():
        by_name.setdefault(name, []).append(seconds)
    total, unknown = 0.0, 0
    for job in jobs:
        dataset, model, name = _key(job)
        if name in by_name:
            total += timings.get((dataset, model, name)) or median(by_name[name])
        else:
            unknown += 1
    return total, unknown


def _key(job: Job) -> tuple[str, str, str]:
    from gibench.grid import Cell

    client = job.work.client if isinstance(job.work, Cell) else job.work
    entry = job.work.attack if isinstance(job.work, Cell) else job.work.defense
    return client.dataset.spec(), client.model.spec(), entry.entry_name()
