"""Many results in few files: how they are kept once they are made.

    out/cells.parquet, clients.parquet, failed.parquet, audits.parquet, failed_audits.parquet   all rows, sorted by id;
        the numbers of cells, one row per victim, to six digits
    out/provenance.parquet   a row per cell, client and examination: kind, id, commit, and all it comes from (text)
    out/pictures.safetensors of few victims of few cells: <cell>/victims, transmitted, reconstructions, places
    out/checksums.json       of each of these and of grid.json

Equal results give equal bytes. No torch is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gibench import atomic, checksums
from gibench.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

IDS = {
    "cells": "cell", "clients": "client", "failed": "cell", "audits": "examination", "failed_audits": "examination"
}  # fmt: skip
"""The kinds of results, and the column that names a result of each."""
FAILURES = {"cells": "failed", "audits": "failed_audits"}
"""Where the failures of a kind are kept; one whose result is there no longer counts."""
ORIGINS = "provenance.parquet"
PICTURES = "pictures.safetensors"
FILES = [*(f"{kind}.parquet" for kind in IDS), ORIGINS, PICTURES, "grid.json"]
ROW_GROUP = 1 << 17  # rows that are read together when one cell is asked for


@dataclass(frozen=True)
class Origin:
    """Where the rows of one cell or client come from: the commit, and everything as JSON."""

    commit: str
    text: str


@dataclass(frozen=True)
class Part:
    """Rows of some cells or clients, in the order of their ids, and where each comes from."""

    table: pa.Table
    origins: Mapping[str, Origin]


def singles(out: Path, kind: str) -> list[Path]:
    """The cells or clients in files of their own."""
    return sorted((out / kind).glob("*.parquet"))


def parts(
    out: Path, kind: str, schema: pa.Schema, later: Collection[str], damaged: list[str], strict: bool
) -> list[Part]:
    """What can be read of a kind, with the columns of the schema: nothing, what is packed, then the newer single files.

    The paths of others join `damaged`: unreadable files, files that lack a column which no gibench lacked (`later` may
    be absent), and if `strict` those of which joining would lose something.
    """
    import pyarrow as pa

    found, together = [Part(schema.empty_table(), {})], out / f"{kind}.parquet"
    for path in [*([together] if together.exists() else []), *singles(out, kind)]:
        try:
            part = whole(out, kind) if path is together else single(path)
            if strict:
                _check(part, IDS[kind], schema)
            found.append(Part(_filled(part.table, schema, later), part.origins))
        except (pa.ArrowException, OSError, KeyError, ValueError, InputError):
            damaged.append(str(path))
    return found


def _check(part: Part, id_column: str, schema: pa.Schema) -> None:
    """KeyError where joining would lose something."""
    if unknown := set(part.table.column_names) - set(schema.names):
        raise KeyError(f"unknown columns {unknown}")
    if strange := set(part.table[id_column].unique().to_pylist()) ^ part.origins.keys():
        raise KeyError(f"rows without provenance or provenance without rows: {strange}")


def _filled(table: pa.Table, schema: pa.Schema, later: Collection[str]) -> pa.Table:
    import pyarrow as pa

    for name in sorted(set(schema.names).intersection(later).difference(table.column_names)):
        table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
    return table.select(schema.names).cast(schema)


def single(path: Path) -> Part:
    """One cell or client from a file of its own. Without provenance: KeyError; no JSON: ValueError."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    text = (table.schema.metadata or {})[b"gibench"].decode()
    return Part(table.replace_schema_metadata(), {path.stem: Origin(json.loads(text)["commit"], text)})


def whole(out: Path, kind: str) -> Part:
    """All that is packed of a kind, texts as dictionaries."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = out / f"{kind}.parquet"
    texts = [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]
    table = pq.read_table(path, read_dictionary=texts)  # few different ones: half the time of reading them one by one
    return Part(table, origins(out, kind))


def rows(out: Path, kind: str, name: str) -> pa.Table:
    """What is packed of one cell or client."""
    import pyarrow.parquet as pq

    return pq.read_table(out / f"{kind}.parquet", filters=[(IDS[kind], "==", name)])


def pictures(out: Path, cell: str) -> dict[str, Any]:
    """What is kept of a cell's images: byte arrays (k, 1, c, h, w) by name, and as `places` (k, 2) the numbers of the
    victims and of their images; nothing if nothing is kept. InputError if the file is damaged."""
    from safetensors import SafetensorError, safe_open

    path = out / PICTURES
    if not path.exists():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if name.startswith(f"{cell}/")]  # noqa: SIM118  it is no mapping
            return {name.split("/")[1]: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged; take it anew from where it came from: {error}") from None


def write_pictures(out: Path, kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what `pictures` gives, by cell."""
    from safetensors.numpy import save_file

    arrays = {f"{cell}/{name}": array for cell, named in sorted(kept.items()) for name, array in sorted(named.items())}
    if arrays:
        atomic.write(out / PICTURES, lambda part: save_file(arrays, part))
    else:
        (out / PICTURES).unlink(missing_ok=True)


def origins(out: Path, kind: str) -> dict[str, Origin]:
    """Of all that is packed of a kind, by id. InputError if the file is damaged: what is done would be done again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = out / ORIGINS
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path, filters=[("kind", "==", kind)])
        texts = [table[name].to_pylist() for name in ("id", "commit", "text")]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} is damaged; take it anew from where it came from: {error}") from None
    return {name: Origin(commit, text) for name, commit, text in zip(*texts, strict=True)}


def join(kind: str, parts: Sequence[Part], without: Collection[str] = ()) -> Part:
    """One part of several (not none), the newest last: it alone speaks of its ids. Sorted by id, some ids left out."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found, tables = dict[str, Origin](), []
    hidden = set(without)
    for part in reversed(parts):
        table = part.table
        if not hidden.isdisjoint(part.origins):
            table = table.filter(pc.invert(pc.is_in(table[IDS[kind]], pa.array(sorted(hidden), table[IDS[kind]].type))))
        found |= {name: origin for name, origin in part.origins.items() if name not in hidden}
        hidden |= part.origins.keys()
        tables.append(table)
    joined = pa.concat_tables(reversed(tables))
    order = pc.sort_indices(joined[IDS[kind]])  # stable: the rows of one id keep their order
    if not np.array_equal(order, np.arange(len(order))):
        joined = joined.take(order)
    return Part(joined, found)


def write(out: Path, parts: Mapping[str, Part]) -> None:
    """Write the rows of every kind and where they come from."""
    import pyarrow as pa

    for kind, part in parts.items():
        path = out / f"{kind}.parquet"
        if not len(part.table):
            path.unlink(missing_ok=True)
            continue
        table = part.table.combine_chunks()
        floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
        others = [name for name in table.column_names if name not in floats]
        if kind == "cells":  # nearly all that is stored, and further digits are noise that does not compress
            table = _shortened(_rounded(table, floats))
        how = {"use_dictionary": others, "use_byte_stream_split": floats, "write_statistics": [IDS[kind]]}
        _write(path, table, **how)
    lines = [
        {"kind": kind, "id": name, "commit": origin.commit, "text": origin.text}
        for kind, part in parts.items()
        for name, origin in sorted(part.origins.items())
    ]
    schema = pa.schema([(name, pa.string()) for name in ("kind", "id", "commit", "text")])
    table = pa.Table.from_pylist(lines, schema=schema)
    # the texts are all different and much alike: the compressor finds what they share, a dictionary would not
    _write(out / ORIGINS, table, use_dictionary=["kind", "commit"], write_statistics=["kind"])


def _rounded(table: pa.Table, floats: Collection[str]) -> pa.Table:
    """These columns with 20 significant bits, six digits."""
    import numpy as np
    import pyarrow as pa

    for name in floats:
        column = table[name].combine_chunks()
        part, exponent = np.frexp(column.to_numpy(zero_copy_only=False))  # NaN where there is nothing
        rounded = pa.array(np.ldexp(np.round(part * 2**20) / 2**20, exponent), mask=np.asarray(column.is_null()))
        table = table.set_column(table.column_names.index(name), name, rounded)
    return table


def _shortened(table: pa.Table) -> pa.Table:
    """What each attack of an ensemble found, in decibels, with six digits, too."""
    import pyarrow as pa

    def shorter(text: str | None) -> str | None:
        return text and json.dumps({name: float(f"{number:.6g}") for name, number in json.loads(text).items()})

    if "members" not in table.column_names:
        return table
    texts = pa.array([shorter(text) for text in table["members"].to_pylist()], pa.string())
    return table.set_column(table.column_names.index("members"), "members", texts)


def seal(out: Path) -> None:
    """Note the checksums of what is packed."""
    checksums.seal(out, _present(out))


def tampered(out: Path) -> list[str]:
    """The packed files that are not what was packed: altered, lost, or added since."""
    packed = (out / ORIGINS).exists() or (out / checksums.SUMS).exists()
    return checksums.tampered(out, _present(out)) if packed else []


def _present(out: Path) -> Iterable[str]:
    return [name for name in FILES if (out / name).exists()]


def _write(path: Path, table: pa.Table, **how: Any) -> None:
    import pyarrow.parquet as pq

    how |= {"compression": "zstd", "compression_level": 19, "row_group_size": ROW_GROUP}
    atomic.write(path, lambda part: pq.write_table(table, part, **how))
