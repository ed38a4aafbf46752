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


def gallery(results: Results, shown: Report, read: Callable[[str], Mapping[str, Any]]) -> Iterator[Shown]:
    """Every defense whose images are there, in the report's order.

    read: the byte arrays (v, b, c, h, w) of a cell by name, or nothing.
    """
    columns = [*SETTING, "defense", "attack", "cell", "seed", "victim", "image", "psnr"]
    rows = named_training(results.rows.reindex(columns=columns))
    scored = rows[rows["psnr"].notna() & rows["victim"].notna()]
    by_place = dict(iter(scored.groupby(["defense", "checkpoint", "attack"], sort=False)))
    for number, table in enumerate(shown.tables):
        for line in table.lines:
            if line.leak != "floor" and line.checkpoint != "-":
                found = _defense(number, table, line, by_place, read)
                if found:
                    yield found


def _defense(
    number: int,
    table: Table,
    line: Line,
    by_place: Mapping[Any, pd.DataFrame],
    read: Callable[[str], Mapping[str, Any]],
) -> Shown | None:
    attack = _strongest(table.rows, line.name, line.checkpoint)
    mine = _images(table, by_place, (line.name, line.checkpoint, attack))
    if mine.empty or not (images := read(str(mine["cell"].iloc[0]))):
        return None
    bare_attack = _strongest(table.rows, UNDEFENDED, line.checkpoint)
    bare = _images(table, by_place, (UNDEFENDED, line.checkpoint, bare_attack))
    bare = bare[bare["seed"] == mine["seed"].iloc[0]]
    bare_images = read(str(bare["cell"].iloc[0])) if len(bare) and line.name != UNDEFENDED else {}
    ranked = mine.sort_values(["psnr", "victim", "image"], ascending=[False, True, True], kind="stable")
    places = dict(zip(RULES, (0, (len(ranked) - 1) // 2, len(ranked) - 1), strict=True))
    victims = [_victim(rule, ranked.iloc[k], images, bare, bare_images) for rule, k in places.items()]
    return Shown(number, line.name, line.checkpoint, one_line(attack), victims)


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


def _victim(
    rule: str, row: pd.Series, images: Mapping[str, Any], bare: pd.DataFrame, bare_images: Mapping[str, Any]
) -> Victim:
    at = int(row["victim"]), int(row["image"])
    same = bare[(bare["victim"] == row["victim"]) & (bare["image"] == row["image"])]["psnr"]
    found = {
        "truth": _at(images.get("victims"), at),
        "transmitted": _at(images.get("transmitted"), at),
        "undefended": _at(bare_images.get("reconstructions"), at),
        "defended": _at(images.get("reconstructions"), at),
    }
    if row["defense"] == UNDEFENDED:
        found["undefended"] = found.pop("defended")
    kept = {name: image for name, image in found.items() if image is not None}
    return Victim(rule, at[0], float(row["psnr"]), float(same.iloc[0]) if len(same) else float("nan"), kept)


def _at(images: Any, at: tuple[int, int]) -> Pixels | None:
    """One image (c, h, w), if it is there."""
    if images is None or at[0] >= images.shape[0] or at[1] >= images.shape[1]:
        return None
    return np.asarray(images[at], dtype=np.uint8)
