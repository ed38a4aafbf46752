"""Scores per image: failed victims at the floor, and the two attacks that pick the best of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from gibench.leaderboard.cells import cell_table
from gibench.leaderboard.columns import BEST, IMAGE, OBLIVIOUS, WORST, is_prior

if TYPE_CHECKING:
    from gibench.store import Results

WHERE = ["place", *IMAGE]


@dataclass(frozen=True)
class Scores:
    """Everything that the leaderboard averages.

    cells: one row per cell with its outcome; images: one row per image and attack, pseudo-attacks included;
    floor: what the prior alone gets, indexed by place, seed, victim and image.
    """

    cells: pd.DataFrame
    images: pd.DataFrame
    floor: pd.DataFrame


def scores(results: Results) -> Scores:
    """Read the rows once: where each image belongs, and its scores."""
    cells = cell_table(results)
    rows = results.rows.reindex(columns=["cell", *IMAGE, *BEST, "seconds", "status"])
    rows = rows[rows["victim"].notna()]
    numbers = [*IMAGE, *BEST, "seconds"]
    rows = rows.assign(**{name: pd.to_numeric(rows[name], errors="coerce").astype("float64") for name in numbers})
    places = cells[["cell", "place", "attack", "adaptive"]].dropna(subset="cell").drop_duplicates("cell")
    images = rows.astype({"cell": object}).merge(
        places.astype({"cell": object}), on="cell", how="inner", validate="many_to_one"
    )
    images["prior"] = images["attack"].map(is_prior).astype(bool)
    images["failed"] = (images["status"] == "failed") | images["psnr"].isna()
    floor = best(images[images["prior"] & ~images["failed"]])
    images = _at_the_floor(images, floor)
    pseudo = [
        best(part).reset_index().assign(attack=name)
        for name, part in ((OBLIVIOUS, images[~images["adaptive"] | images["prior"]]), (WORST, images))
        if len(part)
    ]
    return Scores(cells, pd.concat([images, *pseudo], ignore_index=True), floor)


def best(images: pd.DataFrame) -> pd.DataFrame:
    """Per image the score that is best for the attacker, each score for itself; the costs add up."""
    return images.groupby(WHERE).agg(BEST | {"seconds": "sum"})


def _at_the_floor(images: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """A failed victim counts as answered with the prior: an attacker can always do that."""
    failed = images["failed"]
    if failed.any():
        places = pd.MultiIndex.from_frame(images.loc[failed, WHERE])
        images.loc[failed, list(BEST)] = floor[list(BEST)].reindex(places).to_numpy()
    return images
