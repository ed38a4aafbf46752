"""What the page holds back until something is clicked: every attack, every cell and where it comes from, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from gibench.leaderboard.columns import PLAIN, is_prior
from gibench.report.html.cells import cells
from gibench.report.html.embedded import Pool
from gibench.report.html.pictures import pictures
from gibench.report.tables import TABLE, Report
from gibench.report.text import decimals, one_line, percent, seconds, span

if TYPE_CHECKING:
    from gibench.store import Results


class Source(Protocol):
    """A results folder, as far as the page asks it about single cells; `Store` is one."""

    def provenance(self, kind: str, name: str) -> dict[str, Any]: ...

    def read_images(self, cell: str) -> dict[str, Any]: ...


def payload(results: Results, shown: Report, source: Source | None) -> dict[str, Any]:
    """`attacks`: per table its lines; `cells`: by id; `pool`: the texts that both refer to by number; `pictures`."""
    pool = Pool()
    attacks = [[_attack(row, pool) for row in table.rows.to_dict("records")] for table in shown.tables]
    numbers = {_setting(table.rows.iloc[0].to_dict()): number for number, table in enumerate(shown.tables)}
    found = cells(results, source, pool, lambda cell: numbers.get(_setting(cell), -1))
    return {
        "attacks": attacks,
        "cells": found,
        "pictures": pictures(results, shown, source) if source else {"images": [], "shown": {}, "left": 0},
        "pool": pool.items,
    }


def _setting(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a cell shares with the rows of its table."""
    given = {**row, "training": PLAIN if pd.isna(row.get("training")) else row["training"]}
    return tuple(str(given.get(name, 1)) for name in TABLE)


def _attack(row: Mapping[str, Any], pool: Pool) -> dict[str, Any]:
    """One attack at one checkpoint on one defense, as it is read; `psnr` and `prior` say which attack leads."""
    psnr, prior = row["psnr"], is_prior(row["attack"])
    texts = [
        decimals(psnr, 1) + span(row["psnr_low"], row["psnr_high"]),
        decimals(row["ssim"], 2),
        decimals(row["mse"], 4),
        percent(row["attacker_accuracy"]),
        percent(row["identified"]),
        percent(row["label_accuracy"]),
        decimals(row["psnr_sent"], 1),
        decimals(row["floor_psnr"], 1),
        decimals(row["undefended_psnr"], 1),
        seconds(row["seconds"] / row["n"]) if row["n"] else "-",
    ]
    notes = [row["status"] if row["status"] != "ok" else "", row["reason"], row["flags"]]
    return {
        "d": pool.place(one_line(row["defense"])),
        "c": pool.place(one_line(row["checkpoint"])),
        "a": pool.place(one_line(row["attack"])),
        "k": int(row["adaptive"]),
        "n": int(row["n"]),
        "p": None if pd.isna(psnr) else round(float(psnr), 4),
        "f": int(prior),
        "t": [pool.place(text) for text in texts],
        "m": pool.place(one_line("; ".join(filter(None, notes)))),
    }
