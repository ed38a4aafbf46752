"""The bound of differential privacy on `identified`, as it holds in each row's setting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gibench.bounds import gaussian
from gibench.threat import LETTERS

STATISTICS = "bn_stats"  # sent beside the message and without noise: no bound holds for who sees them


def with_bound(table: pd.DataFrame) -> pd.DataFrame:
    """Adds `rero_bound`: the share of images that any one attack can identify, on average over the gallery.

    Attacked images took part for sure and were not trained on: each is protected by the messages about it alone,
    `rounds` Gaussian releases without amplification by sampling. The best guess without them is right with
    probability kappa = guesses / candidates. A batch's guesses are matched to its images by the truth, so that every
    image has as many as the batch; its candidates are the gallery without the others of the batch. Given labels leave
    those of one class: averaged over classes of any sizes that is a factor of the number of classes.
    """
    guesses = table["batch"] * table["classes"].where(table["labels"] == "given", 1.0)
    kappa = (guesses / (table["gallery"] - table["batch"] + 1).clip(lower=1)).clip(upper=1)
    bound = gaussian(kappa.to_numpy(np.float64), (table["gdp_mu"] * table["rounds"] ** 0.5).to_numpy(np.float64))
    return table.assign(rero_bound=np.where(table["threat"].map(_outside).astype(bool), np.nan, bound))


def _outside(threat: str) -> bool:
    return STATISTICS in LETTERS.get(threat.partition("+")[0], {STATISTICS})
