"""Run a suite: what is done stays, what is missing runs, what fails is recorded and tried again next time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gibench.calibration import Calibration, Known, calibrate
from gibench.errors import InputError
from gibench.grid import PROTOCOL, Cell, Chosen, as_written, cells, clients, titles
from gibench.store import Store, default_out
from gibench.suite import Suite
from gibench.workers import Event, Job, Workers
from gibench.workers.local import LocalWorkers


@dataclass(frozen=True)
class Plan:
    """A suite's grid against what a results folder holds."""

    suite: Suite
    cells: list[Cell]
    done: frozenset[str]  # ids of cells and clients with results
    jobs: list[Job]
    calibration: Calibration

    @property
    def chosen(self) -> Chosen:
        """The defenses that are attacked: those that meet a target, if the suite has any."""
        return self.calibration.chosen if self.suite.match else as_written

    @property
    def skipped(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.skip]


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    done: int
    already: int
    skipped: int
    failed: list[tuple[str, str]]  # label and reason


def make_plan(suite: Suite, store: Store, failures: Mapping[str, str] = MappingProxyType({})) -> Plan:
    """The jobs that can be done now, clients before their cells, in an order that keeps workers busy.

    Where a suite names targets, what comes next depends on what comes out: the plan after these jobs has more.
    `failures`: why trainings failed that are not to be tried again, by client id.
    """
    store.check(PROTOCOL)
    calibration = calibrate(suite, Known(_utilities(suite, store), failures))
    grid = cells(suite, calibration.chosen if suite.match else as_written)
    running = [cell for cell in grid if not cell.skip]
    answered = store.finished("cells")
    open_cells = [cell for cell in running if cell.id not in answered]
    wanted = {client.id: client for client in clients(running)}
    needed = {client.id for cell in open_cells for client in cell.clients}
    trained = store.finished("clients") & wanted.keys()
    kept = {id for id in trained if id not in needed or _has_weights(store, id)}
    jobs = [Job(id, client) for id, client in wanted.items() if id not in kept]
    jobs += [Job(id, client) for id, client in calibration.verified.items() if id not in wanted]
    known = wanted.keys() | calibration.verified.keys()
    jobs += [Job(id, client, judged=True) for id, client in calibration.tried.items() if id not in known]
    jobs += [Job(cell.id, cell, tuple({client.id: None for client in cell.clients})) for cell in open_cells]
    done = frozenset(kept.union(cell.id for cell in running if cell.id in answered))
    return Plan(suite, grid, done, jobs, calibration)


def run(
    suite: Suite,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    device: str = "auto",
    on_plan: Callable[[Plan, int], None] = lambda plan, workers: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Summary:
    """Run what is missing of `suite` into the folder `out` (default: runs/<suite>).

    `workers` processes (default: one per core, or one per GPU) on `device` (auto, cpu or cuda). `on_plan` hears
    what will run on how many workers, `on_event` what happens. Raises InputError before anything starts or changes.
    """
    store = Store(out or default_out(suite.name))
    devices = choose_devices(workers, device)
    plan = make_plan(suite, store)
    if plan.jobs:
        _check_data(cells(suite))
    already, done, failed = len(plan.done), 0, dict[str, tuple[str, str]]()
    while True:
        store.open(describe_grid(plan))
        on_plan(plan, len(devices))
        for event in execute(plan, store, LocalWorkers(devices, str(store.out))):
            on_event(event)
            done += event.kind == "done"
            if event.kind == "failed":
                failed[event.job.id] = (event.job.label, event.reason)
        plan = _after(plan, store, {id: reason for id, (_, reason) in failed.items()})
        if not plan.jobs:
            store.open(describe_grid(plan))
            return Summary(done, already, len(plan.skipped), list(failed.values()))


def execute(plan: Plan, store: Store, workers: Workers) -> Iterator[Event]:
    """Run the plan's jobs and record what fails."""
    for event in workers.run(plan.jobs):
        if event.kind == "done":
            store.drop_failure(event.job.id)
        elif event.kind == "failed":
            _record_failure(event, store)
        yield event


def _after(plan: Plan, store: Store, failures: Mapping[str, str]) -> Plan:
    """What the results of a plan make possible; nothing is done twice in one run."""
    tried = {(job.id, job.judged) for job in plan.jobs}
    following = make_plan(plan.suite, store, failures)
    jobs = [
        job
        for job in following.jobs
        if (job.id, job.judged) not in tried and not failures.keys() & {job.id, *job.after}
    ]
    return replace(following, jobs=jobs)


def _utilities(suite: Suite, store: Store) -> dict[str, float]:
    """What is known of the measure that a suite's targets are about, by client."""
    if suite.match is None:
        return {}
    clients = store.frame("clients")
    measured = clients.set_index("client")["utility_val" if suite.match.measure == "accuracy" else "auc_val"]
    return {str(id): float(value) for id, value in measured.dropna().items()}


def describe_grid(plan: Plan) -> dict[str, Any]:
    """What the folder's grid.json says."""
    titled = titles(plan.suite, plan.chosen)
    described = [
        {**cell.describe(), "status": "skipped" if cell.skip else "planned", "reason": cell.skip}
        | ({"titles": titled[cell.id]} if cell.id in titled else {})
        for cell in plan.cells
    ]
    targets = plan.calibration.describe() if plan.suite.match else {}
    return {"protocol": PROTOCOL, "suite": plan.suite.model_dump(), "cells": described, **targets}


def choose_devices(workers: int | None, device: str) -> tuple[str, ...]:
    """The device of each worker process."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device={device} is unknown; allowed: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: no CUDA device is available here; allowed: auto, cpu")
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: at least 1 is needed")
    if device == "cpu" or not torch.cuda.is_available():
        return ("cpu",) * (workers or os.cpu_count() or 1)
    count = torch.cuda.device_count()
    return tuple(f"cuda:{k % count}" for k in range(workers or count))


def _check_data(grid: list[Cell]) -> None:
    """Every dataset is there, right, and has enough images to attack and to tune on."""
    wanted: dict[str, list[Cell]] = {}
    for cell in grid:
        wanted.setdefault(cell.client.dataset.spec(), []).append(cell)
    for name, asked in wanted.items():
        dataset = asked[0].client.dataset
        dataset.ensure()
        parts = dataset.load()
        most = max(asked, key=lambda cell: cell.victims * cell.images)
        if most.victims * most.images > len(parts.test.y):
            raise InputError(
                f"victims={most.victims} with {_messages_of(most)} are more than the {len(parts.test.y)} "
                f"test images of {name}; at most {len(parts.test.y) // most.images} are allowed"
            )
        tuned = [cell for cell in asked if not cell.skip and cell.attack.open_fields()]
        most = max(tuned, key=lambda cell: cell.images, default=most)
        if tuned and most.images > len(parts.tune.y):
            raise InputError(
                f"{most.attack} cannot be tuned on {_messages_of(most)}: {name} has only {len(parts.tune.y)} tuning "
                f"images; give the attack the values of {', '.join(most.attack.open_fields())}"
            )


def _messages_of(cell: Cell) -> str:
    if cell.images == cell.batch:
        return f"batches of {cell.batch}"
    return f"{cell.images} images behind a message ({cell.images // cell.batch} clients of {cell.client.defense})"


def _record_failure(event: Event, store: Store) -> None:
    from gibench.machine import provenance

    work = event.job.work
    if isinstance(work, Cell):
        row = {**work.describe(), "status": "failed", "reason": event.reason, "seconds": event.seconds}
        store.write_rows("failed", work.id, [row], provenance("cpu") | {"cell": work.identity()})


def _has_weights(store: Store, client: str) -> bool:
    names = (
        *(f"{name}{kind}" for name in ("init", "early", "final") for kind in ("", "-memory")),
        "defense",
        "studied",
    )
    return all((store.out / f"cache/clients/{client}/{name}.safetensors").exists() for name in names)
