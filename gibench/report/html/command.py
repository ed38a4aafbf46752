"""The command that makes one cell again, in a folder of its own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

CAPS = ("client_images", "aux_images", "tune_images")


def command(cell: Mapping[str, Any], identity: Mapping[str, Any], suite: Mapping[str, Any]) -> list[str]:
    """The words of a `gibench run`, each quoted for a shell.

    cell: how the grid describes it; identity: everything it depends on, as stored with its results, or nothing; then
    the suite's own values stand for what the identity would say. The command names every value that the result depends
    on and no further grids, so that it selects the cell whatever else the suite's file says. Beside it `gibench run`
    makes what a cell is read against: no defense, and the prior alone.
    """
    client = identity.get("client", {})
    given: dict[str, Any] = {f"{name}s": [str(cell[name])] for name in ("dataset", "model", "defense", "attack")}
    given |= {"checkpoints": [str(cell["checkpoint"])], "batch_sizes": [int(cell["batch"])]}
    given |= {"threats": [str(cell["threat"])], "seeds": [int(cell["seed"])]}
    found = {
        **suite,
        "rounds": cell.get("rounds"),
        **{name: value for name, value in {**client, **identity}.items() if value is not None},
    }
    given |= {name: found[name] for name in ("victims", "rounds", *CAPS) if found.get(name) is not None}
    training = client.get("training", suite.get("training")) or {}
    words = [f"suite={suite.get('name', 'NAME')}"]
    words += [f"{key}={toml(value)}" for key, value in given.items()]
    words += [f"training={toml(training)}"] if training else []
    words += ["extra=[]"] if suite.get("extra") else []
    words += ["match=[]"] if suite.get("match") else []
    return ["gibench", "run", *map(shlex.quote, [*words, f"out=runs/cell-{cell['cell']}"])]


def toml(value: Any) -> str:
    """A TOML value; what is null in a table is left out."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value)
