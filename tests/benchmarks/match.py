"""The comparison on one work: final quality first, then speed in turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.contender import Answer, Contender
from benchmarks.floor import floor_seconds
from benchmarks.works import CUDA, TARGETS, WORKS, Targets, Work, one_thread

ROUNDS = 5
WITHIN = 0.5  # dB of the rival's own result
OVER_FLOOR = 3.0  # dB by which the rival must beat the mean image: below there is no quality to equal


def compare(
    name: str, rounds: int = ROUNDS, count: int = TARGETS, psnr_rival: float | None = None
) -> list[dict[str, Any]]:
    """One row for one process on each side and, on CPUs, one for two against two.

    `psnr_rival` is the rival's mean on these targets where it is known: the longest part of a large net.
    """
    one_thread()
    work = (WORKS | CUDA)[name]
    sizes = (1, 2) if work.device == "cpu" else (1,)
    if psnr_rival is None:
        with contenders("rival", name, max(sizes)) as processes:
            psnr_rival = quality(processes, work.rival_steps, count)
    wanted = max(psnr_rival - WITHIN, mean_image_psnr(work, count) + OVER_FLOOR - WITHIN)
    with contenders("ours", name, max(sizes)) as processes:
        steps, psnr = fewest(processes, work.ladder, wanted, count)
    some = Targets(work, 0, 1)
    floor = floor_seconds(some.net, some.batch.x[:, 0])
    return [
        row(name, work, size, steps, psnr, psnr_rival, floor, *in_turns(name, work, size, rounds)) for size in sizes
    ]


def mean_image_psnr(work: Work, count: int) -> float:
    """What is guessed without any message: the mean auxiliary image, on the targets."""
    targets = Targets(work, 0, count)
    guess = targets.aux.mean(0).expand_as(targets.batch.x[:, 0])
    return statistics.fmean(targets.psnr(guess))


@contextmanager
def contenders(side: str, name: str, size: int) -> Iterator[list[Contender]]:
    """`size` processes of one side."""
    with ExitStack() as stack:
        yield [stack.enter_context(Contender(side, name)) for _ in range(size)]


def quality(processes: Sequence[Contender], steps: int, count: int) -> float:
    """Mean PSNR over `count` targets shared out to the processes."""
    answers = together(processes, count // len(processes), steps)
    return statistics.fmean(score for answer in answers for score in answer["psnr"])


def fewest(
    processes: Sequence[Contender], ladder: Sequence[int], wanted: float, count: int
) -> tuple[int | None, float]:
    """The first rung of the ladder whose mean PSNR is as wanted, or None, and the PSNR there."""
    psnr = float("nan")
    for steps in ladder:
        psnr = quality(processes, steps, count)
        if psnr >= wanted:
            return steps, psnr
    return None, psnr


def in_turns(name: str, work: Work, size: int, rounds: int) -> tuple[float, float, float, float]:
    """Median problem-iterations per second of ours and of the rival, and the peak memory of one process of each."""
    asked = {"ours": work.ours_round, "rival": work.rival_round}
    rates: dict[str, list[float]] = {side: [] for side in asked}
    peaks = dict.fromkeys(asked, 0.0)
    with contenders("ours", name, size) as ours, contenders("rival", name, size) as rivals:
        sides = {"ours": ours, "rival": rivals}
        for turn in range(rounds + 1):
            for side, processes in sides.items():
                targets, steps = asked[side]
                answers = together(processes, targets, steps)
                peaks[side] = max(answer["peak_mib"] for answer in answers)
                if turn:  # the first is a warm-up
                    rates[side].append(size * targets * steps / max(answer["seconds"] for answer in answers))
    return statistics.median(rates["ours"]), statistics.median(rates["rival"]), peaks["ours"], peaks["rival"]


def together(processes: Sequence[Contender], count: int, steps: int) -> list[Answer]:
    """`count` targets for each process, all at once."""
    for place, process in enumerate(processes):
        process.ask(place * count, count, steps)
    return [process.answer() for process in processes]


def row(
    name: str,
    work: Work,
    size: int,
    steps: int | None,
    psnr: float,
    psnr_rival: float,
    floor: float,
    rate: float,
    rate_rival: float,
    peak: float,
    peak_rival: float,
) -> dict[str, Any]:
    """`ratio` is that of targets per minute at equal PSNR, None where no rung of the ladder reaches it."""
    ours, rival = (None if n is None else 60 * r / n for r, n in ((rate, steps), (rate_rival, work.rival_steps)))
    return {
        "work": name,
        "threads": size,
        "rival": f"{size} x breaching 0.1.2, TV {work.rival_tv}",
        "ratio": None if ours is None or rival is None else ours / rival,
        "ratio_iterations": rate / rate_rival,
        "psnr": psnr,
        "psnr_rival": psnr_rival,
        "steps": steps,
        "steps_rival": work.rival_steps,
        "iterations_per_s": rate,
        "iterations_per_s_rival": rate_rival,
        "targets_per_min": ours,
        "targets_per_min_rival": rival,
        "floor_share": floor * rate / size,
        "peak_mib": peak,
        "peak_mib_rival": peak_rival,
    }
