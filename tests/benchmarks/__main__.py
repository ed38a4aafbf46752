"""`PYTHONPATH=tests python -m benchmarks [work ...]`: a table, and bench.json in the current folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.match import ROUNDS, compare
from benchmarks.works import CUDA, TARGETS, WORKS

COLUMNS = {
    "work": "{}", "rival": "{}", "ratio": "{:.1f}x", "ratio_iterations": "{:.1f}x", "psnr": "{:.2f}",
    "psnr_rival": "{:.2f}", "steps": "{}", "steps_rival": "{}", "iterations_per_s": "{:.0f}",
    "iterations_per_s_rival": "{:.0f}", "floor_share": "{:.0%}", "peak_mib": "{:.0f}", "peak_mib_rival": "{:.0f}",
}  # fmt: skip


def main() -> None:
    known = WORKS | (CUDA if torch.cuda.is_available() else {})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", metavar="work", help=f"some of {', '.join(known)}; all by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds, in turns")
    parser.add_argument("--targets", type=int, default=TARGETS, help="on which the final PSNR is compared, even")
    parser.add_argument("--rival-psnr", type=float, help="breaching's mean on the targets of the one work, if known")
    chosen = parser.parse_args()
    if unknown := set(chosen.works) - set(known):
        parser.error(f"unknown work {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if chosen.rival_psnr is not None and len(chosen.works) != 1:
        parser.error("--rival-psnr belongs to one work; name it")
    rows = []
    for name in chosen.works or known:
        rows += compare(name, chosen.rounds, chosen.targets, chosen.rival_psnr)
        Path("bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    table = Table(*COLUMNS, title="gibench beside breaching; ratio: targets per minute at equal PSNR")
    for found in rows:
        table.add_row(*("-" if found[key] is None else form.format(found[key]) for key, form in COLUMNS.items()))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
