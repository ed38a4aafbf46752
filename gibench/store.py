"""Results on disk: one parquet file per cell and per client, written once, whole or not at all.

    out/grid.json                 suite, protocol and every cell and examination, skipped ones with their reason
    out/cells/<cell>.parquet      one row per victim image
    out/clients/<client>.parquet  one row
    out/failed/<cell>.parquet     one row with the reason; a later run tries these again
    out/audits/<examination>.parquet   one row per measure; out/failed_audits/ is to it what failed/ is to cells/
    out/images/<cell>.safetensors victims, transmitted images and reconstructions as bytes
    out/cache/                    trained weights; may be deleted

A file's schema metadata holds where it comes from (`provenance`). A folder that is kept is packed (`packed.py`): the
same rows in few files. What a later run adds lies beside them as above, and replaces what is packed under its name.
No torch is imported here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gibench import atomic, checksums, packed
from gibench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

RUNS = Path("runs")  # where results go unless `out` is given; results/ holds those that are committed
NAMES = {
    "cell": "string", "client": "string", "dataset": "string", "model": "string", "defense": "string", "seed": "int64",
    "training": "string",
    "checkpoint": "string", "batch": "int64", "threat": "string", "labels": "string", "rounds": "int64",
    "attack": "string", "adaptive": "bool_",
}  # fmt: skip
SCORES = {
    "victim": "int64", "image": "int64", "test_index": "int64",
    **{f"{m}{of}": "float64" for of in ("", "_sent", "_change") for m in ("mse", "psnr", "ssim")},
    "attacker_accuracy": "float64", "identified": "float64", "gallery": "int64", "label_accuracy": "float64",
    "loss": "float64", "steps": "int64", "tuned": "string",
}  # fmt: skip
TIMES = {"fit_seconds": "float64", "study_seconds": "float64", "step_ratio": "float64"}  # of a client
COSTS = {"seconds": "float64", "peak_mib": "float64"}  # two runs of a cell may differ in these alone
OUTCOME = {"status": "string", "reason": "string"}
ENSEMBLE = {
    **{f"worst_{name}": "float64" for name in ("mse", "psnr", "ssim", "attacker_accuracy", "identified")},
    "worst_label_accuracy": "float64", "members": "string", "flags": "string",
}  # fmt: skip
CELL_COLUMNS = NAMES | SCORES | ENSEMBLE | COSTS | OUTCOME
BOUNDS = {"gdp_mu": "float64", "rero_bound": "float64", "rero_bound_training": "float64"}
UTILITY = ("utility", "balanced_accuracy", "auc", "cross_entropy")
LATER = {*BOUNDS, "classes", "strength", "step_ratio", *(f"{name}_val" for name in UTILITY)}
"""Columns that may be absent from files which an earlier gibench wrote."""
CLIENT_COLUMNS = {
    **{name: NAMES[name] for name in ("client", "dataset", "model", "defense", "seed", "training")},
    **{f"{name}{suffix}": "float64" for suffix in ("", "_raw", "_val") for name in UTILITY},
    "epsilon": "float64", "delta": "float64", "sampling_rate": "float64", "accountant": "string",
    **BOUNDS, "classes": "int64", "strength": "float64",
    "images": "int64", "rounds": "int64", "upload_bytes": "float64", "judge_accuracy": "float64",
    **TIMES, **COSTS, **OUTCOME,
}  # fmt: skip

AUDIT_COLUMNS = {
    "examination": "string",
    **{name: NAMES[name] for name in ("client", "dataset", "model", "defense", "seed", "training")},
    "audit": "string", "group": "string", "name": "string", "value": "float64", "unit": "string", "note": "string",
    **COSTS, **OUTCOME,
}  # fmt: skip
COLUMNS = {
    "cells": CELL_COLUMNS, "failed": CELL_COLUMNS, "clients": CLIENT_COLUMNS, "audits": AUDIT_COLUMNS,
    "failed_audits": AUDIT_COLUMNS,
}  # fmt: skip
"""By kind of results."""


@dataclass(frozen=True)
class Results:
    """What reports read."""

    rows: pd.DataFrame
    clients: pd.DataFrame
    grid: dict[str, Any]
    commit: str
    damaged: list[str]
    audits: pd.DataFrame


class Store:
    """One results folder."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)

    def open(self, grid: Mapping[str, Any]) -> None:
        """Prepare the folder for a run of `grid`. InputError if it cannot be written or holds another protocol."""
        self.check(grid["protocol"])
        try:
            for name in (*COLUMNS, "images", "cache"):
                (self.out / name).mkdir(parents=True, exist_ok=True)
            for left in self.out.rglob(f"{atomic.PART}*"):  # of a run that was killed while writing
                left.unlink(missing_ok=True)
            self.write_grid(grid)
        except OSError as error:
            raise InputError(f"out={self.out} cannot be written: {error.strerror}; give a folder that can") from None

    def write_grid(self, grid: Mapping[str, Any]) -> None:
        self._write("grid.json", lambda path: path.write_text(json.dumps(grid, separators=(",", ":"), default=str)))
        checksums.reseal(self.out, "grid.json")

    def check(self, protocol: int) -> None:
        """InputError if the folder holds results of another protocol version."""
        if (self.out / "grid.json").exists() and (found := self.grid()["protocol"]) != protocol:
            raise InputError(
                f"{self.out} holds results of protocol {found}, this gibench writes {protocol}; choose another out="
            )

    def grid(self) -> dict[str, Any]:
        """What the last run in this folder set out to do."""
        path = self.out / "grid.json"
        try:
            grid: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            raise InputError(
                f"{self.out} holds no results; run `gibench run suite=NAME out={self.out}` first"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        return grid

    def finished(self, kind: str) -> set[str]:
        """The ids of all cells ("cells"), clients ("clients") or examinations ("audits") with results."""
        return {path.stem for path in packed.singles(self.out, kind)} | packed.origins(self.out, kind).keys()

    def write_rows(
        self, kind: str, name: str, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]
    ) -> None:
        """The rows of one cell, client or examination; columns that a row lacks are null."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if strange := {name for row in rows for name in row} - COLUMNS[kind].keys():
            raise ValueError(f"rows of {kind} hold the unknown columns {', '.join(sorted(strange))}")
        schema = _schema(kind).with_metadata({"gibench": json.dumps(provenance, sort_keys=True, default=str)})
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
        slim = {"write_statistics": False, "use_dictionary": False, "compression": "zstd"}
        self._write(f"{kind}/{name}.parquet", lambda path: pq.write_table(table, path, **slim))  # many small files

    def drop_failure(self, name: str) -> None:
        for kind in ("failed", "failed_audits"):
            (self.out / kind / f"{name}.parquet").unlink(missing_ok=True)

    def remember(self) -> None:
        """Note this folder as the one that `gibench report` reads when none is named."""
        with contextlib.suppress(OSError):  # a convenience of the working folder, which may be read-only
            RUNS.mkdir(exist_ok=True)
            (RUNS / "last").write_text(str(self.out.absolute()))

    def find_cell(self, beginning: str) -> str:
        """The one cell with results whose id begins so."""
        ids = sorted(self.finished("cells"))
        found = [name for name in ids if name.startswith(beginning)]
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} cells begin with" if found else "no cell begins with"
        shown = ", ".join((found or ids)[:5])
        raise InputError(
            f"{what} '{beginning}' in {self.out}; there are {len(ids)}: {shown}{', ...' if len(ids) > 5 else ''}"
        )

    def cell_rows(self, name: str) -> pd.DataFrame:
        """The rows of one cell."""
        return self.rows_of("cells", name)

    def rows_of(self, kind: str, name: str) -> pd.DataFrame:
        """The rows of one result of a kind."""
        import pyarrow.parquet as pq

        path = self.out / kind / f"{name}.parquet"
        found = pq.read_table(path) if path.exists() else packed.rows(self.out, kind, name)
        frame: pd.DataFrame = found.to_pandas()
        return frame

    def provenance(self, kind: str, name: str) -> dict[str, Any]:
        import pyarrow.parquet as pq

        path = self.out / kind / f"{name}.parquet"
        if not path.exists() and (origin := packed.origins(self.out, kind).get(name)):
            return dict(json.loads(origin.text))
        metadata = pq.read_schema(path).metadata or {}
        found: dict[str, Any] = json.loads(metadata.get(b"gibench", b"{}"))
        return found

    def write_tensors(self, place: str, tensors: Mapping[str, Tensor]) -> None:
        from safetensors.torch import save_file

        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._write(f"{place}.safetensors", lambda path: save_file(plain, path))

    def read_tensors(self, place: str) -> dict[str, Tensor] | None:
        """Tensors on the CPU, or None if they are not there."""
        from safetensors.torch import load_file

        path = self.out / f"{place}.safetensors"
        return load_file(path) if path.exists() else None

    def write_json(self, place: str, value: Mapping[str, Any]) -> None:
        self._write(place, lambda path: path.write_text(json.dumps(value)))

    def read_json(self, place: str) -> dict[str, Any] | None:
        path = self.out / place
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def read_images(self, cell: str) -> dict[str, Any]:
        """Byte arrays (v, b, c, h, w) by name: victims, transmitted, reconstructions; what is packed: see there."""
        from safetensors.numpy import load_file

        path = self.out / "images" / f"{cell}.safetensors"
        return dict(load_file(path)) if path.exists() else packed.pictures(self.out, cell)

    def read(self) -> Results:
        """All results of the folder; damaged files are named, the others still read."""
        import pandas as pd

        damaged: list[str] = []
        commits: set[str] = set()
        clients = self._frame("clients", damaged, commits)
        found = {}
        for kind, failures in packed.FAILURES.items():
            done = self._frame(kind, damaged, commits)
            ids = set(done[packed.IDS[kind]].unique())
            failed = self._frame(failures, damaged, commits, without=ids)  # it failed before it was done
            found[kind] = pd.concat([done, failed], ignore_index=True) if len(failed) else done
        rows, audits, grid = found["cells"], found["audits"], self.grid()
        if not len(rows) and not len(audits) and not damaged:
            raise InputError(f"{self.out} holds no results yet; `gibench run suite=... out={self.out}` makes them")
        return Results(rows, clients, grid, ", ".join(sorted(commits)) or "unknown", damaged, audits)

    def tampered(self) -> list[str]:
        """The packed files whose checksum is not that with which they were packed."""
        return packed.tampered(self.out)

    def parts(self, kind: str, damaged: list[str], strict: bool = False) -> list[packed.Part]:
        """What can be read of a kind, as `packed.parts` says; strict: as it is written."""
        schema = _schema(kind) if strict else _schema(kind, string="large_string")  # what pandas takes without a copy
        return packed.parts(self.out, kind, schema, LATER, damaged, strict)

    def frame(self, kind: str) -> pd.DataFrame:
        """The rows of a kind, as far as they can be read."""
        return self._frame(kind, [], set())

    def _frame(self, kind: str, damaged: list[str], commits: set[str], without: Collection[str] = ()) -> pd.DataFrame:
        found = packed.join(kind, self.parts(kind, damaged), without)
        commits |= {origin.commit for origin in found.origins.values()}
        table = found.table
        del found
        frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)  # not twice in memory
        return frame

    def _write(self, place: str, writer: Callable[[Path], object]) -> None:
        atomic.write(self.out / place, writer)


def _schema(kind: str, string: str = "string") -> pa.Schema:
    import pyarrow as pa

    types = ((column, string if type_ == "string" else type_) for column, type_ in COLUMNS[kind].items())
    return pa.schema([(column, getattr(pa, type_)()) for column, type_ in types])


def read_results(out: str | Path) -> Results:
    """The results in a folder, as pandas frames: `rows` (one per victim image and cell), `clients`, and `audits` (one
    per measure and examination); and the grid."""
    return Store(out).read()


def default_out(suite: str) -> Path:
    """Where a run of the suite puts its results unless told."""
    return RUNS / suite


def located(suite: str | None = None, out: str | None = None) -> Store:
    """The results of `out`, of the named suite (a local run, otherwise the committed one), or of the run made last."""
    if out:
        return Store(out)
    if suite:
        name = Path(suite).stem if suite.endswith(".toml") else suite
        committed = Path("results") / name
        use_committed = committed.is_dir() and not default_out(name).is_dir()
        return Store(committed if use_committed else default_out(name))
    try:
        return Store((RUNS / "last").read_text().strip())
    except OSError:
        raise InputError("no run was made from this folder yet; name one with suite=NAME or out=DIR") from None
