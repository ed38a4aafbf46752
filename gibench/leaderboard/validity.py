"""Does a setting prove anything? Only where the undefended attack clearly beats the floor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gibench.leaderboard.aggregate import clustered
from gibench.leaderboard.bootstrap import interval
from gibench.leaderboard.cells import verdict
from gibench.leaderboard.columns import SETTING, UNDEFENDED, is_prior
from gibench.leaderboard.scores import Scores, scores

if TYPE_CHECKING:
    from gibench.store import Results

LEAST_GAIN = 3.0


def validity(results: Results, read: Scores | None = None) -> pd.DataFrame:
    """One row per setting: valid, the strongest undefended attack, its gain over the floor in dB with its 95 %
    interval (paired per image), and the reason why the setting is not valid. `read`: the scores, where at hand."""
    read = scores(results) if read is None else read
    bare = read.cells[read.cells["defense"] == UNDEFENDED]
    images = read.images[read.images["place"].isin(bare["place"])]
    images = images.assign(gain=images["psnr"] - images["floor_psnr"])
    parts = dict(iter(images.groupby(["place", "attack"], sort=False, observed=True)))
    undefended = dict(iter(bare.groupby("setting")))
    rows = []
    for number, first in read.cells.drop_duplicates("setting").set_index("setting")[SETTING].iterrows():
        rows.append(first.to_dict() | _judge(_strongest(parts, undefended.get(number, bare.iloc[:0]))))
    return pd.DataFrame(rows, columns=[*SETTING, "valid", "attack", "gain", "gain_low", "gain_high", "reason"])


def _strongest(parts: dict[Any, pd.DataFrame], cells: pd.DataFrame) -> dict[str, Any]:
    """The single attack with the greatest mean gain; attacks that failed are no evidence.

    parts: the images by place and attack; cells: of the undefended place.
    """
    found: dict[str, Any] = {"attack": "", "gain": math.nan, "gain_low": math.nan, "gain_high": math.nan}
    strongest: pd.DataFrame | None = None
    for (place, attack), part in cells.groupby(["place", "attack"], sort=False):
        if (place, attack) not in parts or is_prior(attack) or verdict(part.to_dict("records"))[0] != "ok":
            continue
        gains = parts[place, attack].dropna(subset="gain")
        if len(gains) and not gains["gain"].mean() <= found["gain"]:
            found |= {"attack": attack, "gain": float(gains["gain"].mean())}
            strongest = gains
    if strongest is not None:
        low, high = interval(*clustered(strongest, ["gain"]))
        found |= {"gain_low": float(low[0]), "gain_high": float(high[0])}
    return found


def _judge(found: dict[str, Any]) -> dict[str, Any]:
    gain, low, high = found["gain"], found["gain_low"], found["gain_high"]
    if np.isnan(gain):
        reason = "no evidence: no undefended attack has a result here; this setting proves nothing yet"
    elif gain < LEAST_GAIN:
        shown = math.floor(gain * 10 + 1e-6) / 10  # 2.97 must not read as 3.0
        reason = (
            f"no evidence: the undefended attack gains only {shown:.1f} dB over the floor here; "
            "this setting proves nothing"
        )
    elif np.isnan(low):
        reason = "no evidence: one victim is too few to tell the undefended attack's gain from chance"
    elif low <= 0:
        reason = (
            f"no evidence: the undefended attack's gain of {gain:.1f} dB over the floor is not significant here "
            f"(95 % interval {low:.1f} to {high:.1f} dB); this setting proves nothing"
        )
    else:
        reason = ""
    return found | {"valid": not reason, "reason": reason}
