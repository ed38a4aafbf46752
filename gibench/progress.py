"""What a user watches while a suite runs; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gibench.workers import Event, Job

if TYPE_CHECKING:
    from gibench.runner import Plan, Summary


class Watch:
    """Follows the events of a run."""

    def __init__(self, console: Console, out: str) -> None:
        self.console, self.out = console, out
        self.since = time.monotonic()
        self.total = 0
        self.left: dict[str, Job] = {}
        self.busy: dict[int, Job] = {}
        self.seconds: dict[str, list[float]] = {}
        self.workers = 1
        self.live: Live | None = None

    def planned(self, plan: Plan, workers: int) -> None:
        self.workers = workers
        self.left = {job.id: job for job in plan.jobs}
        self.total = len(self.left)
        kinds = Counter(job.kind for job in plan.jobs)
        if self.total:
            sought = sum(job.judged for job in plan.jobs)
            matching = f" ({sought} of them to find strengths of equal utility)" if sought else ""
            audits = f"{kinds['audit']} audits to make, " if plan.examinations else ""
            self.console.print(
                Text(
                    f"suite {plan.suite.name}: {kinds['client']} clients to train{matching}, "
                    f"{kinds['cell']} cells to attack, {audits}{len(plan.done)} results there already, "
                    f"{len(plan.skipped)} pairs skipped; {workers} workers, results in {self.out}"
                ),
                soft_wrap=True,
            )

    def heard(self, event: Event) -> None:
        if event.kind == "started":
            self.busy[event.worker] = event.job
        else:
            self.busy.pop(event.worker, None)
        if event.kind in ("done", "failed"):
            self.left.pop(event.job.id, None)
        if event.kind == "done":
            self.seconds.setdefault(_sort(event.job), []).append(event.seconds)
        if event.kind in ("retried", "failed"):
            word = "failed, tried once more" if event.kind == "retried" else "FAILED"
            self.console.print(Text(f"{word}: {event.job.label}: {event.reason}", style="red"), soft_wrap=True)
        elif event.kind == "done" and self.live is None:
            done = self.total - len(self.left)
            line = f"[{done:>{len(str(self.total))}}/{self.total}] {clock(self._elapsed())} {event.job.label}"
            self.console.print(Text(f"{line} ({event.seconds:.1f} s)"), soft_wrap=True)

    def ended(self, summary: Summary, next_command: str) -> None:
        if not self.total:
            self.console.print(Text(f"nothing to do: all {summary.already} results are in {self.out}"))
        else:
            self.console.print(
                Text(
                    f"{summary.done} done, {summary.already} were there already, {summary.skipped} pairs skipped, "
                    f"{len(summary.failed)} failed, in {clock(self._elapsed())}; results in {self.out}"
                ),
                soft_wrap=True,
            )
        for label, reason in summary.failed:
            self.console.print(Text(f"failed: {label}: {reason}", style="red"), soft_wrap=True)
        if summary.failed:
            self.console.print(Text("the same command tries the failed ones again"))
        self.console.print(Text(f"next: {next_command}"))

    def __rich__(self) -> Group:
        done = self.total - len(self.left)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=max(self.total, 1), completed=done, width=40),
            f"{done}/{self.total}",
            f"elapsed {clock(self._elapsed())}",
            f"left about {clock(self._remaining())}" if self.seconds else "",
        )
        width = self.console.width - 12
        lines = [Text(f"  worker {n}: {job.label}"[:width]) for n, job in sorted(self.busy.items())]
        return Group(head, *lines)

    def _elapsed(self) -> float:
        return time.monotonic() - self.since

    def _remaining(self) -> float:
        """Mean seconds of each sort of job so far, the overall mean for sorts not seen yet, over all workers."""
        means = {sort: sum(values) / len(values) for sort, values in self.seconds.items()}
        overall = sum(means.values()) / len(means)
        return sum(means.get(_sort(job), overall) for job in self.left.values()) / self.workers


@contextlib.contextmanager
def shown(out: str) -> Iterator[Watch]:
    """A watch on the screen while the block runs."""
    console = Console()
    watch = Watch(console, out)
    if not console.is_terminal:
        yield watch
        return
    with Live(watch, console=console, refresh_per_second=4, transient=True) as live:
        watch.live = live
        yield watch


def _sort(job: Job) -> str:
    return job.kind + " " + job.label.split("(")[0].split(" on ")[0].split(" seed ")[0]


def clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
