"""Results against what is expected of them: what moved, in either direction, and whether that is a failure.

A number fails if it moved by more than its tolerance and the two 95 % intervals, the expected and the found one, do
not overlap; without an interval (utility, a single victim) its tolerance decides alone. The same victims, seeds and
attack generators are behind both, so that nothing but the code and the rounding of another machine can move it: the
tolerance has room for rounding, the intervals for a number that rests on few images. An attack that became weaker is
a failure like a defense that leaks more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gibench.errors import InputError
from gibench.expectations import Expectations, Number, expectations_of, is_clean, with_kept
from gibench.leaderboard.audits import audited
from gibench.leaderboard.cells import FAILED_SHARE, cell_table
from gibench.report.text import one_line

if TYPE_CHECKING:
    from gibench.store import Results, Store

SHOWN = 40
FAILS = ("moved", "gone", "new", "other n")


@dataclass(frozen=True)
class Change:
    """One number. verdict: same, within (tolerance), noise (the intervals overlap), or one of FAILS."""

    key: str
    old: Number | None
    new: Number | None
    verdict: str

    @property
    def fails(self) -> bool:
        return self.verdict in FAILS


@dataclass(frozen=True)
class Outcome:
    """All numbers, and what else is wrong, a line each."""

    changes: list[Change]
    problems: list[str]

    @property
    def passed(self) -> bool:
        return not self.problems and not any(change.fails for change in self.changes)


def check(store: Store, expected: Expectations, also: Sequence[str] = ()) -> Outcome:
    """Compare the results of a folder with what is expected of them. also: problems that were found elsewhere."""
    results = store.read()
    found = expectations_of(results)
    problems = [*_identity(expected, found), *_broken(store, results), *also]
    return Outcome(changes(expected, found), problems)


def accepted(store: Store, old: Expectations | None, also: Sequence[str] = ()) -> Expectations:
    """What would be expected from now on; tolerances and `clean` of the old expectations are kept. InputError if the
    results are incomplete, damaged, not clean where the old ones ask for that, or for any of the problems in `also`."""
    results = store.read()
    if problems := [*_broken(store, results), *also]:
        raise InputError(f"these results cannot be accepted: {problems[0]}")
    new = expectations_of(results, clean=is_clean(results.commit))
    if old is not None:
        new = with_kept(new, old)
    if new.clean and not is_clean(results.commit):
        raise InputError(f"these results cannot be accepted: {_unclean(results.commit)}")
    return new


def changes(expected: Expectations, found: Expectations) -> list[Change]:
    """Every number of either side."""
    keys = [*expected.numbers, *(key for key in found.numbers if key not in expected.numbers)]
    pairs = [(key, expected.numbers.get(key), found.numbers.get(key)) for key in keys]
    return [Change(key, old, new, _verdict(old, new)) for key, old, new in pairs]


def _verdict(old: Number | None, new: Number | None) -> str:
    if old is None or new is None:
        return "new" if old is None else "gone"
    if old.n != new.n:
        return "other n"
    moved = abs(new.value - old.value)
    if moved <= old.tolerance * (1 + 1e-6):
        return "same" if moved <= 1e-5 * abs(old.value) else "within"
    apart = new.low > old.high or new.high < old.low
    unknown = any(math.isnan(end) for number in (old, new) for end in (number.low, number.high))
    return "moved" if apart or unknown else "noise"


def _identity(expected: Expectations, found: Expectations) -> Iterator[str]:
    """Other things than were expected cannot be compared."""
    for name in ("suite", "version", "protocol", "cells"):
        was, now = getattr(expected, name), getattr(found, name)
        if was != now:
            what = {"version": "suite version", "cells": "number of cells"}.get(name, name)
            yield f"{what} {one_line(now)} instead of {one_line(was)}"
    if expected.clean and not is_clean(found.commit):
        yield _unclean(found.commit)


def _unclean(commit: str) -> str:
    return f"results of an unknown or changed source tree (commit {one_line(commit) or '-'}), and clean = true"


def _broken(store: Store, results: Results) -> list[str]:
    """Files that are not what was written, and cells without a result."""
    tampered: list[str] = getattr(store, "tampered", list)()
    found = [f"changed after it was written: {one_line(name)}" for name in tampered]
    found += [f"cannot be read: {one_line(name)}" for name in results.damaged]
    cells = cell_table(results)
    lost = (cells["status"] == "ok") & (cells["failed"] > FAILED_SHARE * cells["victims"])
    cells["status"] = cells["status"].mask(lost, "failed")
    for status in ("failed", "missing"):
        odd = cells[cells["status"] == status]
        if len(odd):
            first = odd.iloc[0]
            what = f"{first['attack']} on {first['defense']} at {first['checkpoint']}"
            reason = f": {first['reason']}" if first["reason"] else ""
            found.append(one_line(f"{len(odd)} cells {status}, first {what}{reason}"))
    audits = audited(results)
    for status, odd in audits[audits["status"].isin(["failed", "missing"]) | (audits["reason"] != "")].groupby(
        "status"
    ):
        if status != "skipped":
            first, word = odd.iloc[0], "incomplete" if status == "ok" else status
            what = f"{word}, first {first['audit']} of {first['defense']}: {first['reason']}"
            found.append(one_line(f"audits {what}"))
    return found


def print_changes(outcome: Outcome, console: Console) -> None:
    """What moved, as a table, then what else is wrong, then a line of counts."""
    shown = [change for change in outcome.changes if change.verdict not in ("same", "within")]
    if shown:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
        table.add_column("number", overflow="fold", ratio=1)
        for head in ("expected", "found", "change"):
            table.add_column(head, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for change in shown[:SHOWN]:
            table.add_row(*_cells(change))
        console.print(table)
    if len(shown) > SHOWN:
        console.print(Text(f"and {len(shown) - SHOWN} more numbers like these"))
    for problem in outcome.problems:
        console.print(Text(f"! {problem}"))
    counts = {name: sum(change.verdict == name for change in outcome.changes) for name in ("within", "noise", *FAILS)}
    words = {"within": "within their tolerance", "noise": "beyond it but not significant", "other n": "of another n"}
    told = [f"{count} {words.get(name, name)}" for name, count in counts.items() if count]
    same = sum(change.verdict == "same" for change in outcome.changes)
    console.print(Text(f"{len(outcome.changes)} numbers: {', '.join([f'{same} the same', *told])}"))


def _cells(change: Change) -> list[Text]:
    moved = "" if change.old is None or change.new is None else f"{change.new.value - change.old.value:+.4g}"
    texts = [one_line(change.key), _shown(change.old), _shown(change.new), moved, change.verdict]
    return [Text(text) for text in texts]


def _shown(number: Number | None) -> str:
    if number is None:
        return "-"
    span = "" if math.isnan(number.low) or math.isnan(number.high) else f"\n[{number.low:.4g}, {number.high:.4g}]"
    return f"{number.value:.4g}{span}\nn = {number.n}" if number.n else f"{number.value:.4g}{span}"
