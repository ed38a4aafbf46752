"""Scores per image: failed victims at the floor, and the two attacks that pick the best of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gibench.leaderboard.cells import cell_table
from gibench.leaderboard.columns import BEST, ENSEMBLE, IMAGE, OBLIVIOUS, PSEUDO, SSIM_OVER_HALF, WORST, is_prior

if TYPE_CHECKING:
    from gibench.store import Results

WHERE = ["place", *IMAGE]


@dataclass(frozen=True)
class Scores:
    """Everything that the leaderboard averages.

    cells: one row per cell with its outcome; images: one row per image and attack, pseudo-attacks included, with the
    number of the `line` of one attack at one place, of the `spot` of one image there, and with the floor's PSNR;
    floor: what the prior alone gets, indexed by place, seed, victim and image.
    """

    cells: pd.DataFrame
    images: pd.DataFrame
    floor: pd.DataFrame


def scores(results: Results) -> Scores:
    """Read the rows once: where each image belongs, and its scores."""
    cells = cell_table(results)
    images = _placed(results.rows, cells)
    images["spot"] = numbered([images[name] for name in WHERE])
    spots = (
        images.loc[~images["spot"].duplicated() & (images["spot"] >= 0), ["spot", *WHERE]]
        .set_index("spot")
        .sort_index()
    )
    floor = best(images[images["prior"] & ~images["failed"]])
    images = _at_the_floor(images, floor)
    oblivious = images[~images["adaptive"] | images["prior"]]
    pseudo = [
        spots.join(best(_fully_met(part)), how="inner")
        .reset_index()
        .assign(attack=name, **dict.fromkeys(TOLD, False))
        .astype({"attack": images["attack"].dtype})
        for name, part in ((OBLIVIOUS, oblivious), (WORST, _with_members(images)))
        if len(part)
    ]
    images = pd.concat([images.drop(columns=ENSEMBLE), *pseudo], ignore_index=True)
    images[SSIM_OVER_HALF] = (images["ssim"] > 0.5).astype("float64").where(images["ssim"].notna())
    attacks = images["attack"].cat
    images["line"] = images["place"].to_numpy(np.int64) * len(attacks.categories) + attacks.codes
    images["floor_psnr"] = floor["psnr"].reindex(images["spot"]).to_numpy()
    return Scores(cells, images, spots.join(floor, how="inner").set_index(WHERE))


TOLD = ("adaptive", "prior", "failed")
"""What is told of an image's attack; of the pseudo-attacks none is true."""


def _placed(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The rows about images of known cells, with the place, the attack and its kind, numbers as numbers."""
    rows = rows.reindex(columns=["cell", *IMAGE, *BEST, *ENSEMBLE, "gallery", "seconds", "status", "flags"])
    if (whole := rows["victim"].isna()).any():  # cells that failed as a whole
        rows = rows[~whole]
    known = cells[["cell", "place", "attack", "adaptive"]].dropna(subset="cell").drop_duplicates("cell")
    known["prior"] = known["attack"].map(is_prior).astype(bool)
    known["attack"] = pd.Categorical(known["attack"], list(dict.fromkeys([*cells["attack"], *PSEUDO])))
    of, found = pd.factorize(rows["cell"])
    size = np.bincount(of[of >= 0], minlength=len(found) + 1)
    at = np.append(pd.Index(known["cell"].astype(object)).get_indexer(pd.Index(found).astype(object)), -1)[of]
    numbers = [*IMAGE, *BEST, *ENSEMBLE, "gallery", "seconds"]
    images = {name: pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64) for name in numbers}
    images["seconds"] = images["seconds"] / size[of]  # every row has the seconds of its whole cell
    failed = (rows["status"] == "failed").to_numpy(bool) | np.isnan(images["psnr"])
    placed = pd.DataFrame({**images, "failed": failed, "flags": rows["flags"].array}, copy=False)
    if (at < 0).any():
        placed, at = placed[at >= 0].reset_index(drop=True), at[at >= 0]
    return placed.assign(**{name: known[name].array.take(at) for name in ("place", "attack", "adaptive", "prior")})


def numbered(columns: list[pd.Series[Any]]) -> NDArray[np.int64]:
    """Numbers of the different rows of these columns, ascending as the rows do; -1 where a value is null."""
    number, lost = np.zeros(len(columns[0]), np.int64), np.zeros(len(columns[0]), bool)
    for column in columns:
        codes, values = pd.factorize(column, sort=True)
        number, lost = number * len(values) + codes, lost | (codes < 0)
    number[lost] = -1
    ascending: NDArray[np.int64] = pd.factorize(number, sort=True)[0].astype(np.int64)
    return ascending - int(lost.any())


def _fully_met(images: pd.DataFrame) -> pd.DataFrame:
    """At each place the images of the seeds that most attacks met. The best of fewer says less: a mean over both would
    weigh an attack by the seeds that it had, to the credit of the defense."""
    met = images[["place", "seed", "attack"]].drop_duplicates()
    attacks = met.groupby(["place", "seed"]).size()
    fully = attacks == attacks.groupby("place").transform("max")
    if fully.all():
        return images
    return images[fully.reindex(pd.MultiIndex.from_frame(images[["place", "seed"]]), fill_value=False).to_numpy()]


def _with_members(images: pd.DataFrame) -> pd.DataFrame:
    """An ensemble's images a second time, with the best that its members reached on each."""
    ensemble = images[images["worst_psnr"].notna()].assign(seconds=0.0)
    best_of = {name.removeprefix("worst_"): ensemble[name] for name in ENSEMBLE}
    return pd.concat([images, ensemble.assign(**best_of)]) if len(ensemble) else images


def best(images: pd.DataFrame) -> pd.DataFrame:
    """Per spot the score that is best for the attacker, each score for itself; the costs add up."""
    return images[images["spot"] >= 0].groupby("spot").agg(BEST | {"gallery": "min", "seconds": "sum"})


def _at_the_floor(images: pd.DataFrame, floor: pd.DataFrame) -> pd.DataFrame:
    """A failed victim counts as answered with the prior: an attacker can always do that."""
    if not images["failed"].any():
        return images
    found = floor[list(BEST)].reindex(images["spot"]).set_index(images.index)
    return images.assign(**{name: images[name].where(~images["failed"], found[name]) for name in BEST})
