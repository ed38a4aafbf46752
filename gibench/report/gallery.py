"""Which reconstructions are shown: by rule, not by choice.

Per defense the single attack with the highest mean PSNR at the checkpoint of its headline, in its first seed; of its
images the one with the highest, the median and the lowest PSNR; beside them the same images without a defense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gibench.leaderboard.cells import named_training
from gibench.leaderboard.columns import PSEUDO, SETTING, UNDEFENDED
from gibench.report.headline import Line
from gibench.report.tables import TABLE, Report, Table
from gibench.report.text import one_line

if TYPE_CHECKING:
    from gibench.store import Results

Pixels = NDArray[np.uint8]
Place = tuple[int, int]
RULES = ("leaks most", "median", "leaks least")


@dataclass(frozen=True)
class Victim:
    """images: by kind (truth, transmitted, undefended, defended) bytes (c, h, w); what is lacking is left out."""

    rule: str
    index: int
    psnr: float
    bare_psnr: float
    images: dict[str, Pixels]


@dataclass(frozen=True)
class Shown:
    """table: its number in the report; attack: whose reconstructions are shown."""

    table: int
    defense: str
    checkpoint: str
    attack: str
    victims: list[Victim]


@dataclass(frozen=True)
class _Pick:
    """One victim: place: its number and that of its image, with which arrays of images are indexed."""

    rule: str
    place: Place
    psnr: float
    bare_psnr: float


@dataclass(frozen=True)
class _Choice:
    """The victims of one defense; bare: the cell that shows them undefended, if there is one."""

    table: int
    line: Line
    attack: str
    cell: str
    bare: str
    picks: list[_Pick]


def gallery(results: Results, shown: Report, read: Callable[[str], Mapping[str, Any]]) -> Iterator[Shown]:
    """Every defense whose images are there, in the report's order.

    read: the byte arrays of a cell by name, as `Store.read_images` gives them, or nothing.
    """
    for choice in _choices(results, shown):
        if images := read(choice.cell):
            bare = read(choice.bare) if choice.bare else {}
            victims = [_victim(pick, choice.line.name, images, bare) for pick in choice.picks]
            line = choice.line
            yield Shown(choice.table, line.name, line.checkpoint, one_line(choice.attack), victims)


def exhibits(results: Results, shown: Report) -> dict[str, list[Place]]:
    """Which images of which cells `gallery` asks for: what a folder has to keep for it."""
    found = dict[str, set[Place]]()
    for choice in _choices(results, shown):
        for cell in filter(None, (choice.cell, choice.bare)):
            found.setdefault(cell, set()).update(pick.place for pick in choice.picks)
    return {cell: sorted(places) for cell, places in sorted(found.items())}


def _choices(results: Results, shown: Report) -> Iterator[_Choice]:
    columns = [*SETTING, "defense", "attack", "cell", "seed", "victim", "image", "psnr"]
    rows = named_training(results.rows.reindex(columns=columns))
    scored = rows[rows["psnr"].notna() & rows["victim"].notna()]
    by_place = dict(iter(scored.groupby(["defense", "checkpoint", "attack"], sort=False)))
    for number, table in enumerate(shown.tables):
        for line in table.lines:
            if line.leak != "floor" and line.checkpoint != "-":
                yield from _of_defense(number, table, line, by_place)


def _of_defense(number: int, table: Table, line: Line, by_place: Mapping[Any, pd.DataFrame]) -> Iterator[_Choice]:
    """None where no single attack has scored images."""
    attack = _strongest(table.rows, line.name, line.checkpoint)
    mine = _images(table, by_place, (line.name, line.checkpoint, attack))
    if mine.empty:
        return
    bare_attack = _strongest(table.rows, UNDEFENDED, line.checkpoint)
    bare = _images(table, by_place, (UNDEFENDED, line.checkpoint, bare_attack))
    bare = bare[bare["seed"] == mine["seed"].iloc[0]]
    bare_cell = str(bare["cell"].iloc[0]) if len(bare) and line.name != UNDEFENDED else ""
    ranked = mine.sort_values(["psnr", "victim", "image"], ascending=[False, True, True], kind="stable")
    places = dict(zip(RULES, (0, (len(ranked) - 1) // 2, len(ranked) - 1), strict=True))
    picks = [_pick(rule, ranked.iloc[k], bare) for rule, k in places.items()]
    yield _Choice(number, line, attack, str(mine["cell"].iloc[0]), bare_cell, picks)


def _pick(rule: str, row: pd.Series, bare: pd.DataFrame) -> _Pick:
    same = bare[(bare["victim"] == row["victim"]) & (bare["image"] == row["image"])]["psnr"]
    place = int(row["victim"]), int(row["image"])
    return _Pick(rule, place, float(row["psnr"]), float(same.iloc[0]) if len(same) else float("nan"))


def _strongest(rows: pd.DataFrame, defense: str, checkpoint: str) -> str:
    """The attack whose mean is highest; empty where none has a result."""
    own = rows[(rows["defense"].map(one_line) == defense) & (rows["checkpoint"].map(one_line) == checkpoint)]
    own = own[~own["attack"].isin(PSEUDO) & own["psnr"].notna()]
    return "" if own.empty else str(own.sort_values("psnr", ascending=False, kind="stable")["attack"].iloc[0])


def _images(table: Table, by_place: Mapping[Any, pd.DataFrame], place: tuple[str, str, str]) -> pd.DataFrame:
    """The scored images of one attack in the first seed of this table's setting."""
    if place not in by_place:
        return pd.DataFrame(columns=["cell", "seed", "victim", "image", "psnr"])
    rows, first = by_place[place], table.rows.iloc[0]
    for name in TABLE:
        rows = rows[(rows[name] == first[name]) | rows[name].isna()]
    return rows[rows["seed"] == rows["seed"].min()]


def _victim(pick: _Pick, defense: str, images: Mapping[str, Any], bare: Mapping[str, Any]) -> Victim:
    found = {
        "truth": _at(images, "victims", pick.place),
        "transmitted": _at(images, "transmitted", pick.place),
        "undefended": _at(bare, "reconstructions", pick.place),
        "defended": _at(images, "reconstructions", pick.place),
    }
    if defense == UNDEFENDED:
        found["undefended"] = found.pop("defended")
    kept = {name: image for name, image in found.items() if image is not None}
    return Victim(pick.rule, pick.place[0], pick.psnr, pick.bare_psnr, kept)


def _at(images: Mapping[str, Any], kind: str, place: Place) -> Pixels | None:
    """One image (c, h, w), if it is there."""
    if kind not in images:
        return None
    if "places" in images:  # few of them are kept
        kept = [tuple(at) for at in images["places"].tolist()]
        return np.asarray(images[kind][kept.index(place), 0], dtype=np.uint8) if place in kept else None
    found = images[kind]
    if place[0] >= found.shape[0] or place[1] >= found.shape[1]:
        return None
    return np.asarray(found[place], dtype=np.uint8)
