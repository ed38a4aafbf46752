"""`PYTHONPATH=tests python -m benchmarks.overhead [defense ...]`: what a defense adds to a client's step.

A step makes the messages of 16 clients with one image each, on one thread; the defended and the plain one are made in
turns, and the ratio is that of their medians. Learning a defense beforehand is not part of a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
from rich.console import Console
from rich.table import Table
from scene import held, net_of

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.machine import keep_freed_memory
from gibench.message import make_message
from gibench.registry import build, names
from gibench.types import Images, Memory

CLIENTS, ROUNDS = 16, 5
CHANNELS, CLASSES = 3, 5  # of ihc
SHORT = {"dcs": "dcs(steps=5)"}  # in place of default settings that take minutes for a step


def overhead(spec: str, model: str, rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds of a step without and with the defense."""
    parts = build("datasets", "ihc").load()
    few = Images(parts.aux.x[:128], parts.aux.y[:128])
    defense = cast(Defense, build("defenses", spec)).fit(few, Draws(("fit",)))
    plain = net_of(model, CHANNELS, CLASSES)
    changed = defense.network(net_of(model, CHANNELS, CLASSES)).eval()
    batch, memory = held(parts.client, CLIENTS, 1), cast(Memory, {})

    def step(turn: int, net: torch.nn.Module, hooks: Defense) -> Callable[[], object]:
        draws = Draws(("step", turn), range(CLIENTS))
        return lambda: make_message(net, hooks, batch, draws, hooks.local(None), memory)

    seconds: dict[str, list[float]] = {"plain": [], "defended": []}
    for turn in range(rounds + 1):
        for side, one in (("plain", step(turn, plain, Defense())), ("defended", step(turn, changed, defense))):
            start = time.perf_counter()
            one()
            if turn:  # the first is a warm-up
                seconds[side].append(time.perf_counter() - start)
    return statistics.median(seconds["plain"]), statistics.median(seconds["defended"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("defenses", nargs="*", metavar="defense", help="specs; all at their defaults by default")
    parser.add_argument("--models", nargs="*", default=["lenet", "convnet"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as workers do
    table = Table("defense", *chosen.models, title="time of a client's step, as a multiple of the undefended one's")
    for spec in chosen.defenses or [SHORT.get(name, name) for name in names("defenses") if name != "none"]:
        ratios = [defended / plain for plain, defended in (overhead(spec, model) for model in chosen.models)]
        table.add_row(spec, *(f"{ratio:.2f}x" for ratio in ratios))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
