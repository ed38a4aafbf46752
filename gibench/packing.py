"""From a folder of many small files to one of few large ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from gibench import packed
from gibench.errors import InputError
from gibench.store import Store


def pack(store: Store, into: Store, planned: bool = False) -> None:
    """Join all results of `store` but images and caches into few files of `into`, which may be the same folder.

    What `into` holds stays, unless `store` has the same cell or client. Its small files are gone afterwards.
    planned: what the last run in `store` did not plan is left out, as after a change of its suite.
    InputError where a file is damaged or has a column that this gibench does not know: it would be lost.
    """
    grid = store.grid()
    into.check(grid["protocol"])
    found: dict[str, packed.Part] = {}
    for kind in packed.IDS:
        damaged: list[str] = []
        parts = [part for source in (into, store) for part in source.parts(kind, damaged, strict=True)]
        if damaged:
            raise InputError(f"{damaged[0]} cannot be packed: it is damaged, or another gibench wrote it")
        done = (found[of].origins for of, failures in packed.FAILURES.items() if failures == kind)
        strangers = _strangers(kind, parts, grid) if planned else set()
        found[kind] = packed.join(kind, parts, strangers.union(next(done, {})))
    if not any(part.origins for part in found.values()):
        raise InputError(f"{store.out} holds no results yet; `gibench run suite=... out={store.out}` makes them")
    try:
        packed.write(into.out, found)
        into.write_grid(grid)
        packed.seal(into.out)
        for path in [path for kind in packed.IDS for path in packed.singles(into.out, kind)]:
            path.unlink()
        for kind in packed.IDS:
            with contextlib.suppress(OSError):  # not there, or a stranger's file is in it
                (into.out / kind).rmdir()
    except OSError as error:
        raise InputError(f"{into.out} cannot be written: {error.strerror}; give a folder that can") from None


def _strangers(kind: str, parts: Sequence[packed.Part], grid: Mapping[str, Any]) -> set[str]:
    """The results that the grid does not name. It does not list the sweeps of targets: with these no client is one."""
    if kind == "clients" and grid.get("matches"):
        return set()
    named = {work.get(packed.IDS[kind]) for work in [*grid["cells"], *grid.get("audits", [])]}
    return {name for part in parts for name in part.origins} - named
