"""The headline numbers of a suite's results, and the file that holds what they are expected to be."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.errors import InputError
from gibench.leaderboard import aggregate, matched
from gibench.leaderboard.audits import audited
from gibench.leaderboard.columns import OBLIVIOUS, PSEUDO, UNDEFENDED, WORST
from gibench.leaderboard.points import GROUP, TABLE, TRAINED, has_matches, worst_row

if TYPE_CHECKING:
    from gibench.store import Results

TOLERANCES = {"ssim": 0.02, "attacker_accuracy": 0.05, "utility": 0.02}
PSNR_DB, RATIO, EXACT_DB, SHARE = 0.5, 0.12, 40.0, 0.05
"""Half a dB, which is 12 % of an MSE. Over 40 dB rounding decides: there a tenth of what is above is added."""

PART = " | "  # between the parts of a number's key, the first of which is its setting
SCORES = ("psnr", "ssim", "attacker_accuracy", "mse")
HEAD = {"suite": str, "version": int, "protocol": int, "commit": str, "clean": bool, "cells": int}


@dataclass(frozen=True)
class Number:
    """A headline number with its 95 % interval (null where there is none), what it may move by, and its images."""

    value: float
    low: float
    high: float
    tolerance: float
    n: int


@dataclass(frozen=True)
class Expectations:
    """What a suite's results were when they were accepted. clean: only results of a committed tree pass."""

    suite: str
    version: int
    protocol: int
    commit: str
    clean: bool
    cells: int
    numbers: dict[str, Number]


def expectations_of(results: Results, clean: bool = False) -> Expectations:
    """The headline numbers of results.

    With matched utility per setting, target and family: the worst case as PSNR, SSIM, attacker accuracy and MSE, and
    the utility. Otherwise per setting and defense the PSNR of `worst` and of `oblivious` at the worst checkpoint, per
    attack the undefended PSNR at every checkpoint, so that an attack that got weaker shows behind a stronger one, and
    per defense the utility. In either case every measure of the audits, of which a share may move by 5 points.
    """
    suite = results.grid.get("suite", {})
    return Expectations(
        suite=str(suite.get("name", "")),
        version=int(suite.get("version", 1)),
        protocol=int(results.grid.get("protocol", 0)),
        commit=results.commit,
        clean=clean,
        cells=sum(cell.get("status") != "skipped" for cell in results.grid.get("cells", [])),
        numbers=dict([*(_matched(results) if has_matches(results) else _unmatched(results)), *_audited(results)]),
    )


def is_clean(commit: str) -> bool:
    """Whether every file came from a committed tree, or from a released version."""
    return bool(commit) and not any(part in ("", "unknown") or "dirty" in part for part in commit.split(", "))


def read_expectations(path: Path) -> Expectations:
    """InputError if the file is not there or does not hold what it must."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        head = {name: given[name] for name in HEAD}
        if wrong := [name for name, kind in HEAD.items() if type(head[name]) is not kind]:
            raise ValueError(f"{wrong[0]} = {head[wrong[0]]!r} is not of the type {HEAD[wrong[0]].__name__}")
        numbers = {
            f"{setting}{PART}{rest}": _read(entry)
            for setting, entries in given["numbers"].items()
            for rest, entry in entries.items()
        }
        return Expectations(**head, numbers=numbers)
    except FileNotFoundError:
        raise InputError(f"nothing is expected yet: {path} is not there; `gibench check --accept` writes it") from None
    except KeyError as error:
        raise InputError(f"{path} is not a file of expectations: {error} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a file of expectations: {error}") from None


def as_toml(expected: Expectations) -> str:
    """The text of an expectations file: a table per setting, one line per number, six digits."""
    head = [f"{name} = {_quoted(getattr(expected, name))}" for name in ("suite", "commit")]
    head += [f"{name} = {json.dumps(getattr(expected, name))}" for name in HEAD if name not in ("suite", "commit")]
    lines = ["# Written by `gibench check --accept`; a tolerance or `clean` set by hand is kept.", *head]
    settings: dict[str, list[str]] = {}
    for key, number in expected.numbers.items():
        setting, _, rest = key.partition(PART)
        settings.setdefault(setting, []).append(f"{_quoted(rest)} = {{ {_fields(number)} }}")
    for setting, entries in settings.items():
        lines += ["", f"[numbers.{_quoted(setting)}]", *entries]
    return "\n".join(lines if settings else [*lines, "", "[numbers]"]) + "\n"


def with_kept(new: Expectations, old: Expectations) -> Expectations:
    """The new numbers with what a person may have set by hand in the old file: tolerances and `clean`."""
    kept = {
        key: replace(number, tolerance=old.numbers[key].tolerance) if key in old.numbers else number
        for key, number in new.numbers.items()
    }
    return replace(new, clean=old.clean, numbers=kept)


def _matched(results: Results) -> Iterator[tuple[str, Number]]:
    for row in matched(results).to_dict("records"):
        where = f"{_setting(row, GROUP)}{PART}{row['family']}"
        for metric in SCORES:
            yield from _number(f"{where}{PART}{metric}", metric, row)
        yield from _number(f"{where}{PART}utility", "utility", row)


def _unmatched(results: Results) -> Iterator[tuple[str, Number]]:
    board = aggregate(results)
    for _, rows in board.groupby([*TABLE, "defense"], sort=False, dropna=False):
        worst = worst_row(rows[rows["attack"] == WORST])
        where = f"{_setting(worst, TABLE)}{PART}{worst['defense']}"
        blind = rows[(rows["attack"] == OBLIVIOUS) & (rows["checkpoint"] == worst["checkpoint"])].iloc[0]
        yield from _number(f"{where}{PART}worst{PART}psnr", "psnr", worst)
        yield from _number(f"{where}{PART}oblivious{PART}psnr", "psnr", blind)
        for row in rows.to_dict("records") if worst["defense"] == UNDEFENDED else []:
            if row["attack"] not in PSEUDO:
                yield from _number(f"{where}{PART}{row['attack']} at {row['checkpoint']}{PART}psnr", "psnr", row)
    for row in board.drop_duplicates([*TRAINED, "defense"]).to_dict("records"):
        yield from _number(f"{_setting(row, TRAINED)}{PART}{row['defense']}{PART}utility", "utility", row)


def _audited(results: Results) -> Iterator[tuple[str, Number]]:
    """Every measure of every audit but times, which no two runs share."""
    for row in audited(results).to_dict("records"):
        if row["seeds"] and row["unit"] != "s":
            key = [_setting(row, TRAINED), f"{row['defense']}", row["audit"], row["group"], row["name"]]
            value = float(row["value"])
            tolerance = SHARE if row["unit"] == "share" else RATIO * abs(value)
            yield PART.join(part for part in key if part), Number(value, math.nan, math.nan, tolerance, 0)


def _setting(row: Mapping[str, Any] | pd.Series, columns: list[str]) -> str:
    named = {"batch": "batch {}", "labels": "labels {}", "rounds": "rounds {}"}
    return " · ".join(named.get(name, "{}").format(row[name]) for name in columns)


def _number(key: str, metric: str, row: Mapping[str, Any] | pd.Series) -> Iterator[tuple[str, Number]]:
    """The number under its key; nothing where it is not known."""
    value = float(row[metric])
    if not math.isfinite(value):
        return
    low, high = (float(row.get(f"{metric}_{end}", math.nan)) for end in ("low", "high"))
    tolerance = TOLERANCES.get(metric, RATIO * value)
    if metric == "psnr":
        tolerance = PSNR_DB + 0.1 * max(0.0, value - EXACT_DB)
    yield key, Number(value, low, high, tolerance, 0 if metric == "utility" else int(row["n"]))


def _fields(number: Number) -> str:
    known = {name: getattr(number, name) for name in ("value", "low", "high", "tolerance")}
    texts = [f"{name} = {float(f'{value:.6g}')!r}" for name, value in known.items() if not math.isnan(value)]
    return ", ".join([*texts, f"n = {number.n}"])


def _read(entry: Mapping[str, Any]) -> Number:
    numbers = {name: float(entry[name]) for name in ("value", "tolerance")}
    low, high = (float(entry.get(name, math.nan)) for name in ("low", "high"))
    if not (numbers["tolerance"] >= 0 and math.isfinite(numbers["value"])):
        raise ValueError("a number needs a finite value and a tolerance of at least 0")
    return Number(low=low, high=high, n=int(entry["n"]), **numbers)


def _quoted(text: str) -> str:
    """A TOML string; its escapes are those of JSON, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
