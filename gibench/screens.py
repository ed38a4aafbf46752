"""What a user reads beside the leaderboard: a plan, a listing, a cell."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gibench.estimate import estimate, recorded
from gibench.progress import clock

if TYPE_CHECKING:
    import pandas as pd

    from gibench.defenses import Defense
    from gibench.examinations import Examination
    from gibench.grid import Cell
    from gibench.runner import Plan

SHOWN_METRICS = (
    "psnr", "ssim", "mse", "attacker_accuracy", "identified", "label_accuracy", "psnr_sent", "psnr_change"
)  # fmt: skip


def print_plan(plan: Plan, folders: Sequence[Path], out: str) -> None:
    """The grid as a table per dataset and model, the skipped pairs, the time it would take."""
    console = _console()
    console.print(Text(f"suite {plan.suite.name} {plan.suite.version}: {plan.suite.summary}"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in ("dataset", "model", "clients", "to train", "cells", "done", "to run", "skipped"):
        words = heading in ("dataset", "model")
        table.add_column(
            heading, justify="left" if words else "right", overflow="fold", min_width=16 if words else None
        )
    open_jobs = {job.id for job in plan.jobs}
    work: list[Cell | Examination] = [*plan.cells, *plan.examinations]
    groups: dict[tuple[str, str], list[Cell | Examination]] = {}
    for one in work:
        groups.setdefault((one.client.dataset.spec(), one.client.model.spec()), []).append(one)
    examined = {one.id for one in plan.examinations}
    for (dataset, model), planned in groups.items():
        clients = {client.id for one in planned if not one.skip for client in one.clients}
        cells = [one for one in planned if one.id not in examined]
        kept = [cell for cell in cells if not cell.skip]
        to_run = sum(cell.id in open_jobs for cell in kept)
        figures = (
            len(clients),
            len(clients & open_jobs),
            len(kept),
            len(kept) - to_run,
            to_run,
            len(cells) - len(kept),
        )
        table.add_row(dataset, model, *(str(figure) for figure in figures))
    console.print(table)
    if plan.suite.match:
        _print_targets(plan, console)
    console.print(Text(f"defenses: {_listed(one.client.defense.spec() for one in work)}"), soft_wrap=True)
    console.print(Text(f"attacks: {_listed(cell.attack.spec() for cell in plan.cells)}"), soft_wrap=True)
    if plan.examinations:
        _print_audits(plan, console)
    reasons = Counter((one.entry.entry_name(), _names(one.client.defense), one.skip) for one in plan.skipped)
    for (attack, defense, reason), count in reasons.items():
        console.print(Text(f"skipped {count} x {attack} on {defense}: {reason}"), soft_wrap=True)
    seconds, unknown = estimate(plan.jobs, recorded(folders))
    known = len(plan.jobs) - unknown
    about = (
        f"about {clock(seconds)} of work for one worker, by recorded timings"
        if known
        else "no timings are recorded yet"
    )
    lacking = f", {unknown} jobs of a sort that was never timed" if known and unknown else ""
    console.print(Text(f"{len(plan.jobs)} jobs to do: {about}{lacking}; results in {out}"), soft_wrap=True)


def _print_targets(plan: Plan, console: Console) -> None:
    """How far the search for strengths of equal utility is; a defense is attacked where its is found."""
    lines = plan.calibration.matches.values()
    states = Counter(line.status for line in lines)
    families = _listed(line.family for line in lines)
    targets = _listed(f"{line.target} ({line.measure})" for line in lines)
    console.print(Text(f"matched utility of {families} at {targets}"), soft_wrap=True)
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    console.print(Text(f"targets: {told}; cells of a defense are planned when its strength is found"), soft_wrap=True)


def _print_audits(plan: Plan, console: Console) -> None:
    kept = [one for one in plan.examinations if not one.skip]
    done = sum(one.id in plan.done for one in kept)
    counts = f"{len(kept)} examinations, {done} done, {len(kept) - done} to run"
    console.print(Text(f"audits: {_listed(one.audit.spec() for one in plan.examinations)}: {counts}"), soft_wrap=True)


def print_listing(kind: str, entries: list[dict[str, Any]]) -> None:
    """A row per entry: name, meaning, settings with defaults, needs."""
    console = _console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), leading=1)
    for heading, share in ((kind, 2), ("meaning", 4), ("settings = default", 3), ("needs", 2)):
        table.add_column(heading, overflow="fold", ratio=share)
    for entry in entries:
        shown = "" if kind == "suites" else "\n".join(_setting(field) for field in entry["fields"])
        meaning = entry["summary"] + _strength(entry)
        table.add_row(*(Text(part) for part in (entry["name"], meaning, shown, ", ".join(entry["needs"]))))
    console.print(table)


def print_cell(rows: pd.DataFrame, origin: dict[str, Any]) -> None:
    """Settings, numbers over the victims, and where they come from."""
    console = _console()
    first = rows.iloc[0]
    console.print(Text(f"cell {first.cell} (client {first.client})", style="bold"))
    names = [
        "dataset",
        "model",
        "defense",
        "attack",
        "checkpoint",
        "batch",
        "threat",
        "labels",
        "rounds",
        "seed",
        "tuned",
    ]
    for name in names:
        console.print(Text(f"  {name:<11}{first[name]}"), soft_wrap=True)
    table = Table("metric", "mean", "lowest", "highest", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in SHOWN_METRICS:
        values = rows[name].dropna()
        if len(values):
            table.add_row(name, *(f"{value:.4g}" for value in (values.mean(), values.min(), values.max())))
    console.print(table)
    failed = rows[rows.status == "failed"]
    console.print(
        Text(f"{len(rows)} images, {len(failed)} failed{': ' + failed.iloc[0].reason if len(failed) else ''}")
    )
    settings = origin.pop("cell", {})
    console.print(Text("origin: " + json.dumps(origin)), soft_wrap=True)
    console.print(Text("all settings: " + json.dumps(settings)), soft_wrap=True)


def _console() -> Console:
    """As wide as the terminal; 100 columns in a file or a pipe."""
    return Console() if sys.stdout.isatty() else Console(width=100)


def _names(defense: Defense) -> str:
    """A defense without its settings, `a + b` for a stack."""
    return re.sub(r"\(.*?\)", "", defense.spec())


def _listed(specs: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(specs))


def _strength(entry: dict[str, Any]) -> str:
    """Of a defense, where it acts and its knob from weakest to strongest."""
    if not entry.get("knob"):
        return ""
    return f"\n{entry['place']}; {entry['knob']}: {', '.join(f'{value:g}' for value in entry['sweep'])}"


def _setting(field: dict[str, Any]) -> str:
    default = json.dumps(field["default"])
    return f"{field['name']} = {default}"
