"""Results on disk: one parquet file per cell and per client, written once, whole or not at all.

    out/grid.json                 suite, protocol and every cell of the grid, skipped ones with their reason
    out/cells/<cell>.parquet      one row per victim image
    out/clients/<client>.parquet  one row
    out/failed/<cell>.parquet     one row with the reason; a later run tries these again
    out/images/<cell>.safetensors victims, transmitted images and reconstructions as bytes
    out/cache/                    trained weights; may be deleted

A file's schema metadata holds where it comes from (`provenance`). No torch is imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gibench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
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


@dataclass(frozen=True)
class Results:
    """What reports read."""

    rows: pd.DataFrame
    clients: pd.DataFrame
    grid: dict[str, Any]
    commit: str
    damaged: list[str]


class Store:
    """One results folder."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)

    def open(self, grid: Mapping[str, Any]) -> None:
        """Prepare the folder for a run of `grid`. InputError if it cannot be written or holds another protocol."""
        self.check(grid["protocol"])
        try:
            for name in ("cells", "clients", "failed", "images", "cache"):
                (self.out / name).mkdir(parents=True, exist_ok=True)
            for left in self.out.rglob(".part-*"):  # of a run that was killed while writing
                left.unlink(missing_ok=True)
            self._write("grid.json", lambda path: path.write_text(json.dumps(grid, indent=1, default=str)))
        except OSError as error:
            raise InputError(f"out={self.out} cannot be written: {error.strerror}; give a folder that can") from None

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
        """The ids of all cells (kind "cells") or clients ("clients") with results."""
        return {path.stem for path in (self.out / kind).glob("*.parquet")}

    def write_rows(
        self, kind: str, name: str, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]
    ) -> None:
        """The rows of one cell or client; columns that a row lacks are null."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = CLIENT_COLUMNS if kind == "clients" else CELL_COLUMNS
        if strange := {name for row in rows for name in row} - set(columns):
            raise ValueError(f"rows of {kind} hold the unknown columns {', '.join(sorted(strange))}")
        schema = pa.schema([(column, getattr(pa, type_)()) for column, type_ in columns.items()])
        schema = schema.with_metadata({"gibench": json.dumps(provenance, sort_keys=True, default=str)})
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
        slim = {"write_statistics": False, "use_dictionary": False, "compression": "zstd"}
        self._write(f"{kind}/{name}.parquet", lambda path: pq.write_table(table, path, **slim))  # many small files

    def drop_failure(self, name: str) -> None:
        (self.out / "failed" / f"{name}.parquet").unlink(missing_ok=True)

    def remember(self) -> None:
        """Note this folder as the one that `gibench report` reads when none is named."""
        with contextlib.suppress(OSError):  # a convenience of the working folder, which may be read-only
            RUNS.mkdir(exist_ok=True)
            (RUNS / "last").write_text(str(self.out.absolute()))

    def find_cell(self, beginning: str) -> str:
        """The one cell with results whose id begins so."""
        ids = sorted(path.stem for path in (self.out / "cells").glob("*.parquet"))
        found = [name for name in ids if name.startswith(beginning)]
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} cells begin with" if found else "no cell begins with"
        shown = ", ".join((found or ids)[:5])
        raise InputError(
            f"{what} '{beginning}' in {self.out}; there are {len(ids)}: {shown}{', ...' if len(ids) > 5 else ''}"
        )

    def clients(self) -> pd.DataFrame:
        """The row of every client that can be read."""
        return self._frame("clients", CLIENT_COLUMNS, [], set())

    def cell_rows(self, name: str) -> pd.DataFrame:
        """The rows of one cell."""
        import pyarrow.parquet as pq

        frame: pd.DataFrame = pq.read_table(self.out / "cells" / f"{name}.parquet").to_pandas()
        return frame

    def provenance(self, kind: str, name: str) -> dict[str, Any]:
        import pyarrow.parquet as pq

        metadata = pq.read_schema(self.out / kind / f"{name}.parquet").metadata or {}
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
        """Byte arrays (v, b, c, h, w) by name: victims, transmitted, reconstructions."""
        from safetensors.numpy import load_file

        path = self.out / "images" / f"{cell}.safetensors"
        return dict(load_file(path)) if path.exists() else {}

    def read(self) -> Results:
        """All results of the folder; damaged files are named, the others still read."""
        import pandas as pd

        damaged: list[str] = []
        commits: set[str] = set()
        done, failed = (self._frame(kind, CELL_COLUMNS, damaged, commits) for kind in ("cells", "failed"))
        rows = pd.concat([done, failed]) if len(failed) else done
        clients = self._frame("clients", CLIENT_COLUMNS, damaged, commits)
        grid = self.grid()
        if not len(rows) and not damaged:
            raise InputError(f"{self.out} holds no results yet; `gibench run suite=... out={self.out}` makes them")
        commit = ", ".join(sorted(commits)) or "unknown"
        return Results(rows.reset_index(drop=True), clients, grid, commit, damaged)

    def _frame(self, kind: str, columns: Mapping[str, str], damaged: list[str], commits: set[str]) -> pd.DataFrame:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(column, getattr(pa, type_)()) for column, type_ in columns.items()])
        tables = []
        for path in sorted((self.out / kind).glob("*.parquet")):
            try:
                table = pq.read_table(path)
                for name in LATER.intersection(columns).difference(table.column_names):
                    table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
                tables.append(table.select(list(columns)).cast(schema.with_metadata(table.schema.metadata)))
                commits.add(json.loads((table.schema.metadata or {})[b"gibench"])["commit"])
            except (pa.ArrowException, OSError, KeyError, ValueError):
                damaged.append(str(path))
        joined = pa.concat_tables([t.replace_schema_metadata() for t in tables]) if tables else schema.empty_table()
        frame: pd.DataFrame = joined.to_pandas()
        return frame

    def _write(self, place: str, write: Any) -> None:
        """Write beside the target, then rename: readers see the whole file or none."""
        target = self.out / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part(target.parent) as part:
            write(part)
            os.replace(part, target)


@contextlib.contextmanager
def _part(folder: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
    os.close(handle)
    os.chmod(name, 0o644)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def read_results(out: str | Path) -> Results:
    """The results in a folder: `rows` (one per victim image and cell) and `clients` as pandas frames, and the grid."""
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
