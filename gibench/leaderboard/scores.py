"""Scores per image: failed victims at the floor, and the two attacks that pick the best of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from gibench.leaderboard.cells import cell_table
from gibench.leaderboard.columns import BEST, ENSEMBLE, IMAGE, OBLIVIOUS, SSIM_OVER_HALF, WORST, is_prior

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
    rows = results.rows.reindex(columns=["cell", *IMAGE, *BEST, *ENSEMBLE, "gallery", "seconds", "status", "flags"])
    rows = rows[rows["victim"].notna()]
    numbers = [*IMAGE, *BEST, *ENSEMBLE, "gallery", "seconds"]
    rows = rows.assign(**{name: pd.to_numeric(rows[name], errors="coerce").astype("float64") for name in numbers})
    rows["seconds"] /= rows.groupby("cell")["cell"].transform("size")  # every row has the seconds of its whole cell
    places = cells[["cell", "place", "attack", "adaptive"]].dropna(subset="cell").drop_duplicates("cell")
    images = rows.astype({"cell": object}).merge(
        places.astype({"cell": object}), on="cell", how="inner", validate="many_to_one"
    )
    images["prior"] = images["attack"].map(is_prior).astype(bool)
    images["failed"] = (images["status"] == "failed") | images["psnr"].isna()
    floor = best(images[images["prior"] & ~images["failed"]])
    images = _at_the_floor(images, floor)
    oblivious = images[~images["adaptive"] | images["prior"]]
    pseudo = [
        best(part).reset_index().assign(attack=name)
        for name, part in ((OBLIVIOUS, oblivious), (WORST, _with_members(images)))
        if len(part)
    ]
    images = pd.concat([images, *pseudo], ignore_index=True)
    images[SSIM_OVER_HALF] = (images["ssim"] > 0.5).astype("float64").where(images["ssim"].notna())
    return Scores(cells, images, floor)


def _with_members(images: pd.DataFrame) -> pd.DataFrame:
    """An ensemble's images a second time, with the best that its members reached on each."""
    ensemble = images[images["worst_psnr"].notna()].assign(seconds=0.0)
    best_of = {name.removeprefix("worst_"): ensemble[name] for name in ENSEMBLE}
    return pd.concat([images, ensemble.assign(**best_of)]) if len(ensemble) else images


def best(images: pd.DataFrame) -> pd.DataFrame:
    """Per image the score that is best for the attacker, each score for itself; the costs add up."""
    return images.groupby(WHERE).agg(BEST | {"gallery": "min", "seconds": "sum"})


def _at_the_floor(images: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """A failed victim counts as answered with the prior: an attacker can always do that."""
    failed = images["failed"]
    if failed.any():
        places = pd.MultiIndex.from_frame(images.loc[failed, WHERE])
        images.loc[failed, list(BEST)] = floor[list(BEST)].reindex(places).to_numpy()
    return images
