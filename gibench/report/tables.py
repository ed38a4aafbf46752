"""What every report shows, before it becomes text: tables with their lines and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.leaderboard import aggregate, validity
from gibench.leaderboard.columns import PLACE, PLAIN, PSEUDO, SETTING, UNDEFENDED
from gibench.leaderboard.scores import scores
from gibench.report.headline import HIGH_DB, LOW_DB, Line, defense_line, floor_line
from gibench.report.text import one_line

if TYPE_CHECKING:
    from gibench.store import Results

TABLE = [name for name in SETTING if name != "checkpoint"]
UNSAID = {"training": PLAIN, "rounds": 1}
SHOWN_NOTES = 12
SPREAD = ["psnr"]  # of this score the reports for readers show the interval
EMPTY = "No results yet: nothing has been run, or nothing of it could be read."
LEGEND = (
    "How to read it: a higher PSNR means that more of the image leaks. The floor (prior only) is what an attacker gets "
    "without seeing any update; gain is worst minus floor. Worst: per image the best of all attacks, mean and 95 % "
    "interval, at the checkpoint (at) that leaks most. Oblivious: the attacks unaware of the defense. Model accuracy: "
    "final model, defense on at inference; raw: on raw images; of the floor: a classifier trained on the attacker's "
    "auxiliary images alone, which needs no client. Attack accuracy: the true class can be read off the "
    "reconstruction; identified: the true image can be picked from a gallery; bound: the largest share of images that "
    "differential privacy lets one attack identify. "
    f"Leak: low < {LOW_DB:.0f} dB of gain, some, HIGH > {HIGH_DB:.0f} dB; unproven: no evidence that nothing leaks. "
    "* = a lower bound, results are lacking."
)


@dataclass(frozen=True)
class Table:
    """All defenses in one setting, all checkpoints taken together; `rows` are the aggregated rows behind it."""

    title: str
    lines: list[Line]
    notes: list[str]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Report:
    title: str
    tables: list[Table]
    notes: list[str]


def report(results: Results) -> Report:
    """Everything that a reader sees, in order."""
    read = scores(results)
    board, valid = aggregate(results, read, SPREAD), validity(results, read)
    tables = [
        _table(name, rows, valid)
        for name, part in titled(board, results.grid.get("cells", []))
        for _, rows in part.groupby(TABLE, sort=False, dropna=False)
    ]
    return Report(title(results, board), tables, [*_cell_notes(board), *not_counted(results)])


def titled(board: pd.DataFrame, planned: list[dict[str, Any]]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows under every title that a suite gives to parts of its grid, in its order; "" where it gives none.

    A place may stand under several titles, as the undefended client does.
    """
    under: dict[str, set[tuple[Any, ...]]] = {}
    for cell in planned:
        place = tuple(cell.get(name, UNSAID.get(name)) for name in PLACE)
        for name in cell.get("titles") or [""]:
            under.setdefault(one_line(name), set()).add(place)
    if under.keys() <= {""}:
        yield "", board
        return
    places = pd.MultiIndex.from_frame(board[PLACE])
    for name, members in under.items():
        yield name, board[places.isin(list(members))]


def title(results: Results, board: pd.DataFrame) -> str:
    suite = results.grid.get("suite", {})
    name = " ".join(str(suite[key]) for key in ("name", "version") if key in suite) or "-"
    commit = ", ".join(c[:12] + ("-dirty" if "dirty" in c[12:] else "") for c in results.commit.split(", "))
    protocol = results.grid.get("protocol", "-")
    return one_line(
        f"gibench · suite {name} · protocol {protocol} · commit {commit or '-'} · n = {images(board)} images per row"
    )


def images(board: pd.DataFrame) -> str:
    """How many images are behind a row: one number or the least and the most."""
    counts = board.loc[(board["status"] == "ok") & ~board["attack"].isin(PSEUDO), "n"]
    return "-" if counts.empty else f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"


def granted(row: pd.Series) -> str:
    """What the attacker of a setting sees."""
    rounds = f"{row['rounds']} round{'s' if row['rounds'] != 1 else ''}"
    trained = "" if row["training"] == PLAIN else f" · {row['training']}"
    return one_line(f"threat {row['threat']} · labels {row['labels']} · {rounds}{trained}")


def setting_title(row: pd.Series) -> str:
    """The head of a table: what all its rows share."""
    parts = [row["dataset"], row["model"], f"batch {row['batch']}", granted(row)]
    return one_line(" · ".join(map(str, parts)))


def _table(name: str, rows: pd.DataFrame, valid: pd.DataFrame) -> Table:
    first = rows.iloc[0]
    here = valid[(valid[TABLE] == first[TABLE]).all(axis=1)]
    verdicts = dict(zip(here["checkpoint"], here["valid"], strict=True))
    pseudo = rows[rows["attack"].isin(PSEUDO)]
    lines = [defense_line(part, verdicts) for _, part in pseudo.groupby("defense", sort=False)]
    bare = next((line.checkpoint for line in lines if line.name == UNDEFENDED), "")
    floor = floor_line(rows, bare)
    flags = [f"{one_line(row.checkpoint)}: {row.reason}" for row in here.itertuples() if not row.valid]
    flags += [
        f"{one_line(row.defense)} at {one_line(row.checkpoint)}, {one_line(row.attack)}: {one_line(row.flags)}"
        for row in rows.itertuples()
        if row.flags
    ]
    return Table(f"{name} · " * bool(name) + setting_title(first), [floor, *lines] if floor else lines, flags, rows)


def _cell_notes(board: pd.DataFrame) -> list[str]:
    """Failed, missing and skipped pairs, and the incomplete ones, as a short list: one line per attack and reason."""
    odd = board[~board["attack"].isin(PSEUDO) & ((board["status"] != "ok") | (board["reason"] != ""))]
    odd = odd.assign(status=odd["status"].replace("ok", "incomplete"))
    found = []
    for status in ("failed", "missing", "incomplete", "skipped"):
        for (attack, reason), part in odd[odd["status"] == status].groupby(["attack", "reason"], sort=False):
            where = f"{_some(part['defense'])} [{_some(part['dataset'] + ' ' + part['checkpoint'])}]"
            found.append(one_line(f"{status} ({len(part)}): {attack} on {where}: {reason}"))
    more = len(found) - SHOWN_NOTES
    return (
        found if more <= 0 else [*found[:SHOWN_NOTES], f"and {more} more lines like these: see the csv or json format"]
    )


def not_counted(results: Results) -> list[str]:
    """Results in the folder that belong to no planned cell or cannot be read."""
    damaged = [f"damaged, not counted: {one_line(name)}" for name in results.damaged]
    planned = {cell["cell"] for cell in results.grid.get("cells", [])}
    others = set(results.rows.reindex(columns=["cell"])["cell"].unique()) - planned
    strangers = [f"{len(others)} recorded cells belong to another run in this folder"] if planned and others else []
    return strangers + damaged


def _some(values: Iterable[str]) -> str:
    """The first three different values and how many more there are."""
    different = list(dict.fromkeys(values))
    return ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")
