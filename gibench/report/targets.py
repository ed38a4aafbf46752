"""Which targets of utility a defense of a table meets: the tags beside its name, and the diamonds of a figure."""

from __future__ import annotations

import pandas as pd

from gibench.leaderboard.points import TRAINED
from gibench.report.tables import Table
from gibench.report.text import one_line


def met(table: Table, matches: pd.DataFrame) -> dict[str, list[str]]:
    """Targets by defense, as the table writes it. matches: all that were recorded, of every dataset and model."""
    here = matches[(matches[TRAINED] == table.rows.iloc[0][TRAINED]).all(axis=1) & (matches["status"] == "matched")]
    found: dict[str, list[str]] = {}
    for match in here.itertuples():
        found.setdefault(one_line(match.defense), []).append(one_line(match.target))
    return found
