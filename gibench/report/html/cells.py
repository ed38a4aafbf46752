"""Every cell that has a result: what it was, what came of it, where it comes from, and how to make it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.report.html.command import command
from gibench.report.html.embedded import Pool
from gibench.report.text import decimals, one_line, percent, seconds
from gibench.store import NAMES

if TYPE_CHECKING:
    from gibench.report.html.payload import Source
    from gibench.store import Results

CLIENT = ("utility", "utility_raw", "balanced_accuracy", "auc", "epsilon", "delta", "images", "upload_bytes", "seconds")
SHOWN_VERSIONS = ("gibench", "torch", "numpy")


def cells(
    results: Results, source: Source | None, pool: Pool, table_of: Callable[[Mapping[str, Any]], int]
) -> list[dict[str, Any]]:
    """Texts are numbers of the pool. `s`: settings, `o`: origin, `u`: the client, each a list of name and value."""
    rows = results.rows.reindex(columns=[*NAMES, "psnr", "seconds", "peak_mib", "tuned", "status", "reason", "flags"])
    psnr = pd.to_numeric(rows["psnr"], errors="coerce").groupby(rows["cell"]).agg(["mean", "size"])
    trained = _clients(results.clients)
    planned = {cell["cell"] for cell in results.grid.get("cells", [])}
    found = []
    for row in rows.drop_duplicates("cell").to_dict("records"):
        if planned and row["cell"] not in planned:
            continue
        origin = _origin(source, row)
        mean, size = psnr.loc[row["cell"]]
        found.append(
            {
                "id": one_line(row["cell"]),
                "t": table_of(row),
                **{key: pool.place(one_line(row[name])) for key, name in zip("dca", DCA, strict=True)},
                "seed": int(row["seed"]),
                "r": pool.place(_result(row, mean, size)),
                "s": [pool.place(pair) for pair in _settings(row, origin)],
                "o": [pool.place(pair) for pair in _comes_from(row, origin)],
                "u": pool.place(trained.get(row["client"], [])),
                "w": [pool.place(word) for word in _command(row, origin, results.grid.get("suite", {}))],
            }
        )
    return found


DCA = ("defense", "checkpoint", "attack")
Pairs = list[tuple[str, str]]


def _origin(source: Source | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the stored file says of itself; nothing for failures, and where it cannot be read."""
    if source is None:
        return {}
    try:
        return source.provenance("cells", row["cell"])
    except (OSError, ValueError, KeyError):
        return {}


def _command(row: Mapping[str, Any], origin: Mapping[str, Any], suite: Mapping[str, Any]) -> list[str]:
    identity = origin.get("cell")
    return command(row, identity if isinstance(identity, dict) else {}, suite)


def _result(row: Mapping[str, Any], mean: float, size: int) -> str:
    if row["status"] == "failed":
        return one_line(f"failed: {row['reason']}")
    flags = "" if pd.isna(row["flags"]) or not row["flags"] else f" · {row['flags']}"
    return one_line(f"{decimals(float(mean), 1)} dB, mean of {int(size)} images{flags}")


def _settings(row: Mapping[str, Any], origin: Mapping[str, Any]) -> Pairs:
    """The names of the cell, then every hyper-parameter of the entries behind it, defaults filled in."""
    pairs = [(name, _plain(row[name])) for name in NAMES if name not in ("cell", "client") and not pd.isna(row[name])]
    identity = origin.get("cell")
    identity = identity if isinstance(identity, dict) else {}
    client = identity.get("client", {})
    for kind, entry in (("attack", identity.get("attack")), *((k, client.get(k)) for k in KINDS)):
        if isinstance(entry, dict):
            pairs.append((f"{kind} settings", ", ".join(f"{k} = {_plain(v)}" for k, v in entry.items())))
    pairs += [("victims", _plain(identity["victims"]))] if "victims" in identity else []
    pairs += [("tuned", row["tuned"])] if isinstance(row["tuned"], str) and row["tuned"] else []
    return [(name, one_line(text)) for name, text in pairs]


KINDS = ("defense", "model", "dataset", "training")


def _comes_from(row: Mapping[str, Any], origin: Mapping[str, Any]) -> Pairs:
    versions = origin.get("versions", {})
    pairs = [
        ("commit", origin.get("commit")),
        ("machine", ", ".join(str(origin[key]) for key in ("gpu", "cpu") if origin.get(key)) or None),
        ("versions", ", ".join(f"{name} {versions[name]}" for name in SHOWN_VERSIONS if name in versions) or None),
        ("python", origin.get("python")),
        ("seconds", None if pd.isna(row["seconds"]) else seconds(row["seconds"])),
        ("memory", None if pd.isna(row["peak_mib"]) else f"{row['peak_mib']:.0f} MiB at most"),
    ]
    return [(name, one_line(value)) for name, value in pairs if value is not None]


def _clients(clients: pd.DataFrame) -> dict[Any, Pairs]:
    found = {}
    for row in clients.reindex(columns=["client", *CLIENT]).to_dict("records"):
        known = {name: float(row[name]) for name in CLIENT if pd.notna(row[name])}
        found[row["client"]] = [("client", one_line(row["client"])), *((n, _number(n, v)) for n, v in known.items())]
    return found


def _number(name: str, value: float) -> str:
    if name in ("utility", "utility_raw", "balanced_accuracy"):
        return percent(value, 1)
    return seconds(value) if name == "seconds" else f"{value:.4g}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} = {_plain(v)}" for k, v in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)
