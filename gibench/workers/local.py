"""Local processes, one torch thread each; on GPUs one process per device.

A job that raises, or whose process dies, costs itself only: it is tried once more and then reported as failed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self

from gibench.machine import keep_freed_memory
from gibench.workers import Event, Job, perform


class LocalWorkers:
    """`devices` names the device of each process; results go to the folder `out`. Processes start with their first job
    and stay for the next jobs until the context ends.
    """

    def __init__(self, devices: Sequence[str], out: str) -> None:
        self._seats = [_Seat(number, device, out) for number, device in enumerate(devices)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for seat in self._seats:
            seat.stop()

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Run every job whose predecessors succeeded."""
        waiting, finished, failed = list(jobs), set[str](), dict[str, str]()
        known = {job.id for job in jobs}
        tries: dict[str, int] = {}
        while waiting or any(seat.job for seat in self._seats):
            for job in [j for j in waiting if any(p in failed for p in j.after)]:
                waiting.remove(job)
                failed[job.id] = next(failed[p] for p in job.after if p in failed)
                yield Event("failed", job, -1, reason=failed[job.id])
            for seat in self._seats:
                ready = (j for j in waiting if all(p in finished or p not in known for p in j.after))
                if seat.job is None and (next_job := next(ready, None)):
                    waiting.remove(next_job)
                    seat.start(next_job)
                    yield Event("started", next_job, seat.number)
            for seat in _answered([seat for seat in self._seats if seat.job]):
                job, reason, seconds = seat.collect()
                if not reason:
                    finished.add(job.id)
                    yield Event("done", job, seat.number, seconds)
                elif tries.setdefault(job.id, 1) < 2:
                    tries[job.id] += 1
                    waiting.insert(0, job)
                    yield Event("retried", job, seat.number, seconds, reason)
                else:
                    failed[job.id] = f"client failed: {reason}" if job.kind == "client" else reason
                    yield Event("failed", job, seat.number, seconds, reason)


class _Seat:
    """A worker process and the job it holds; a process that died is replaced."""

    def __init__(self, number: int, device: str, out: str) -> None:
        self.number, self.device, self.out = number, device, out
        self.job: Job | None = None
        self.process: BaseProcess | None = None
        self.pipe: Connection | None = None
        self.since = 0.0

    def start(self, job: Job) -> None:
        if self.process is None or not self.process.is_alive():
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.out, self.device), daemon=True)
            self.process.start()
            theirs.close()
        assert self.pipe is not None
        self.job, self.since = job, time.monotonic()
        self.pipe.send(job)

    def collect(self) -> tuple[Job, str, float]:
        """The finished job, why it failed or an empty text, and its seconds."""
        assert self.job is not None
        assert self.pipe is not None
        assert self.process is not None
        job, self.job = self.job, None
        try:
            reason: str = self.pipe.recv()
        except EOFError:
            self.process.join()
            reason = _obituary(self.process.exitcode)
            self.process = None
        return job, reason, time.monotonic() - self.since

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()


def _answered(busy: list[_Seat]) -> list[_Seat]:
    by_pipe = {seat.pipe: seat for seat in busy if seat.pipe is not None}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe), timeout=1.0)]  # type: ignore[index]


def _obituary(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"worker killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"worker ended with exit code {code}"


def _serve(pipe: Connection, out: str, device: str) -> None:
    """The loop of a worker process: answers each job with an empty text or the reason why it failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    keep_freed_memory()
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            perform(job, out, device)
            pipe.send("")
        except Exception as error:
            text = " ".join(str(error).split()) or "no message"
            pipe.send(f"{type(error).__name__}: {text}"[:500])


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
