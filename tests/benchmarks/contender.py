"""One contender in a process of its own: `python -m benchmarks.contender ours lenet` answers requests line by line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

Answer = dict[str, Any]


class Contender:
    """The other end of the line. `ask` sends a request; `answer` waits for it."""

    def __init__(self, side: str, work: str) -> None:
        self.command = [sys.executable, "-m", "benchmarks.contender", side, work]

    def __enter__(self) -> Contender:
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self.process.kill()
        self.process.communicate()

    def ask(self, first: int, count: int, steps: int) -> None:
        assert self.process.stdin is not None
        print(json.dumps([first, count, steps]), file=self.process.stdin, flush=True)

    def answer(self) -> Answer:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.command)} ended without an answer; its error is above")
        answer: Answer = json.loads(line)
        return answer


def serve(side: str, name: str) -> None:
    """Read requests [first, count, steps]; write seconds of the attack alone, PSNR and the peak memory so far.

    On a CPU they are the process's own seconds, which is what a clock shows where nobody else works: neighbours slow
    the clock of one side or the other, and not the processor's.
    """
    from benchmarks import ours, rival
    from benchmarks.works import CUDA, WORKS, Targets, one_thread
    from gibench.machine import peak_mib

    one_thread()
    work, reconstruct = (WORKS | CUDA)[name], {"ours": ours, "rival": rival}[side].reconstruct
    now = time.process_time if work.device == "cpu" else time.perf_counter
    for line in sys.stdin:
        first, count, steps = json.loads(line)
        targets = Targets(work, first, count)
        targets.view  # noqa: B018  the messages are not part of the attack
        if side == "rival":
            rival.attacker(targets, 1)  # nor is its import
        start = now()
        found = reconstruct(targets, steps)
        psnr = targets.psnr(found)  # waits for a GPU
        answer = {"seconds": now() - start, "psnr": psnr, "peak_mib": peak_mib(work.device)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
