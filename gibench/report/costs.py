"""What each defense costs its clients: accuracy with and without it at inference, time, bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from gibench.leaderboard.cells import named_training
from gibench.report.text import code, decimals, percent

if TYPE_CHECKING:
    from gibench.store import Results

HEADS = ["defense", "accuracy", "on raw", "balanced", "AUC", "step time", "KiB sent", "learned in s", "seeds"]
TRAINED = ["dataset", "model", "training"]
NUMBERS = ["utility", "utility_raw", "balanced_accuracy", "auc", "step_ratio", "upload_bytes", "fit_seconds"]


def costs(rows: pd.DataFrame, results: Results) -> Iterator[list[str]]:
    """A line per defense of one setting's leaderboard rows, means over seeds; results without a number show a dash.
    Clients that were only tried on the way to a target are not among them.

    Step time: making a message, as a multiple of the undefended one's.
    """
    planned = {cell["client"] for cell in results.grid.get("cells", [])}
    clients = results.clients[results.clients["client"].isin(planned)] if planned else results.clients
    known = named_training(clients.reindex(columns=[*TRAINED, "defense", "status", *NUMBERS]))
    here = known[(known[TRAINED] == rows.iloc[0][TRAINED]).all(axis=1) & (known["status"] != "failed")]
    for defense in rows["defense"].unique():
        own = here[here["defense"] == defense]
        mean = own[NUMBERS].apply(pd.to_numeric, errors="coerce").mean()
        yield [
            code(defense),
            percent(mean["utility"], 1),
            percent(mean["utility_raw"], 1),
            percent(mean["balanced_accuracy"], 1),
            decimals(mean["auc"], 3),
            decimals(mean["step_ratio"], 2),
            decimals(mean["upload_bytes"] / 1024, 1),
            decimals(mean["fit_seconds"], 0),
            str(len(own)),
        ]
