"""Run a suite: what is done stays, what is missing runs, what fails is recorded and tried again next time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gibench.calibration import Calibration, Known, calibrate
from gibench.errors import InputError
from gibench.examinations import Examination, examinations
from gibench.grid import PROTOCOL, Cell, Chosen, Client, as_written, cells, clients, titles
from gibench.store import Store, default_out
from gibench.suite import Suite
from gibench.workers import Event, Job, Workers
from gibench.workers.local import LocalWorkers


@dataclass(frozen=True)
class Plan:
    """A suite's grid against what a results folder holds."""

    suite: Suite
    cells: list[Cell]
    done: frozenset[str]  # ids of cells, clients and examinations with results
    jobs: list[Job]
    calibration: Calibration
    examinations: list[Examination]

    @property
    def chosen(self) -> Chosen:
        """The defenses that are attacked: those that meet a target, if the suite has any."""
        return self.calibration.chosen if self.suite.match else as_written

    @property
    def skipped(self) -> list[Cell | Examination]:
        planned: list[Cell | Examination] = [*self.cells, *self.examinations]
        return [work for work in planned if work.skip]


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
    chosen = calibration.chosen if suite.match else as_written
    grid, examined = cells(suite, chosen), examinations(suite, chosen)
    planned: list[Cell | Examination] = [*grid, *examined]
    running = [work for work in planned if not work.skip]
    answered = store.finished("cells") | store.finished("audits")
    open_work = [work for work in running if work.id not in answered]
    wanted = {client.id: client for client in clients(running)}
    needed = {client.id for work in open_work for client in work.clients}
    trained = store.finished("clients") & wanted.keys()
    kept = {id for id in trained if id not in needed or _has_weights(store, id)}
    jobs = [Job(id, client) for id, client in wanted.items() if id not in kept]
    jobs += [Job(id, client) for id, client in calibration.verified.items() if id not in wanted]
    known = wanted.keys() | calibration.verified.keys()
    jobs += [Job(id, client, judged=True) for id, client in calibration.tried.items() if id not in known]
    jobs += [Job(work.id, work, tuple({client.id: None for client in work.clients})) for work in open_work]
    done = frozenset(kept.union(work.id for work in running if work.id in answered))
    return Plan(suite, grid, done, jobs, calibration, examined)


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
        _check_data(cells(suite), examinations(suite))
    already, done, failed = len(plan.done), 0, dict[str, tuple[str, str]]()
    with LocalWorkers(devices, str(store.out)) as processes:
        while True:
            store.open(describe_grid(plan))
            on_plan(plan, len(devices))
            for event in execute(plan, store, processes):
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

    def described(planned: Sequence[Cell | Examination]) -> list[dict[str, Any]]:
        return [
            {**work.describe(), "status": "skipped" if work.skip else "planned", "reason": work.skip}
            | ({"titles": titled[work.id]} if work.id in titled else {})
            for work in planned
        ]

    audits = {"audits": described(plan.examinations)} if plan.examinations else {}
    targets = plan.calibration.describe() if plan.suite.match else {}
    suite = plan.suite.model_dump()
    return {"protocol": PROTOCOL, "suite": suite, "cells": described(plan.cells), **audits, **targets}


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


def _check_data(grid: list[Cell], examined: list[Examination]) -> None:
    """Every dataset is there, right, and has enough images to attack and to tune on."""
    for dataset in {client.dataset.spec(): client.dataset for client in clients(examined)}.values():
        dataset.ensure()
    wanted: dict[str, list[Cell]] = {}
    for cell in grid:
        wanted.setdefault(cell.client.dataset.spec(), []).append(cell)
    for name, asked in wanted.items():
        dataset = asked[0].client.dataset
        dataset.ensure()
        parts = dataset.load()
        most = max(asked, key=lambda cell: (cell.first_victim + cell.victims) * cell.images)
        if (most.first_victim + most.victims) * most.images > len(parts.test.y):
            after = f" after the first {most.first_victim}" if most.first_victim else ""
            raise InputError(
                f"victims={most.victims}{after} with {_messages_of(most)} are more than the {len(parts.test.y)} "
                f"test images of {name}; at most {max(0, len(parts.test.y) // most.images - most.first_victim)} "
                "are allowed"
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
    if isinstance(work, Client):
        return
    row = {**work.describe(), "status": "failed", "reason": event.reason, "seconds": event.seconds}
    kind, name = ("failed", "cell") if isinstance(work, Cell) else ("failed_audits", "examination")
    store.write_rows(kind, work.id, [row], provenance("cpu") | {name: work.identity()})


def _has_weights(store: Store, client: str) -> bool:
    names = (
        *(f"{name}{kind}" for name in ("init", "early", "final") for kind in ("", "-memory")),
        "defense",
        "studied",
    )
    return all((store.out / f"cache/clients/{client}/{name}.safetensors").exists() for name in names)
