"""How long jobs will take, from the timings that earlier runs recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median

from gibench.packed import IDS
from gibench.store import Store
from gibench.workers import Job

Timings = dict[tuple[str, ...], float]


def recorded(folders: Iterable[Path]) -> Timings:
    """Median seconds by (dataset, model, name): of clients the defense's name, of cells and audits their own."""
    found: dict[tuple[str, ...], list[float]] = {}
    for folder in folders:
        for kind, entry in (("clients", "defense"), ("cells", "attack"), ("audits", "audit")):
            rows = Store(folder).frame(kind).drop_duplicates(IDS[kind])
            seconds = rows.reindex(columns=["seconds", "fit_seconds", "study_seconds"]).fillna(0.0).sum(axis=1)
            names = rows[entry].str.split("(").str[0]
            for *key, spent in zip(rows["dataset"], rows["model"], names, seconds, strict=True):
                found.setdefault(tuple(key), []).append(spent)
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
    from gibench.grid import Client

    client = job.work if isinstance(job.work, Client) else job.work.client
    return client.dataset.spec(), client.model.spec(), job.work.entry.entry_name()
