"""Workers: jobs in, events out. Whoever runs jobs offers `run(jobs) -> events`; `local` does it with processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gibench.examinations import Examination
from gibench.grid import Cell, Client


@dataclass(frozen=True)
class Job:
    """One client to train, one cell to attack or one client to examine, after the jobs it depends on."""

    id: str
    work: Client | Cell | Examination
    after: tuple[str, ...] = ()
    judged: bool = False  # of a client only the utility is wanted: nobody attacks it

    @property
    def label(self) -> str:
        """One line for people."""
        if isinstance(self.work, Client):
            what = "try" if self.judged else "train"
            return f"{what} {self.work.dataset} {self.work.model} {self.work.defense} seed {self.work.seed}"
        client = self.work.client
        if isinstance(self.work, Examination):
            return f"audit {self.work.audit} of {client.dataset} {client.model} {client.defense} seed {client.seed}"
        cell = self.work
        setting = f"{client.dataset} {client.model} {client.defense} {cell.checkpoint}"
        return f"{cell.attack} on {setting} batch {cell.batch} seed {client.seed}"

    @property
    def kind(self) -> str:
        """client, cell or audit."""
        return "client" if isinstance(self.work, Client) else "cell" if isinstance(self.work, Cell) else "audit"


@dataclass(frozen=True)
class Event:
    """What happened to a job. `failed` is final; `retried` means that it will run once more."""

    kind: Literal["started", "done", "retried", "failed"]
    job: Job
    worker: int
    seconds: float = 0.0
    reason: str = ""


class Workers(Protocol):
    """The interface behind which local processes, and later clusters, run jobs."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]: ...


def perform(job: Job, out: str, device: str) -> None:
    """Do one job in this process."""
    from gibench.cell import run_cell, run_client
    from gibench.examine import run_examination
    from gibench.store import Store

    if isinstance(job.work, Client):
        run_client(job.work, Store(out), device, judged=job.judged)
    elif isinstance(job.work, Cell):
        run_cell(job.work, Store(out), device)
    else:
        run_examination(job.work, Store(out), device)
