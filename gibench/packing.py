"""From a folder of many small files to one of few large ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from gibench import packed
from gibench.errors import InputError
from gibench.store import Store


def pack(store: Store, into: Store, planned: bool = False) -> None:
    """Join the rows of all results of `store` into few files of `into`, which may be the same folder.

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


def keep_pictures(store: Store, into: Store, wanted: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Keep these images (their victims' and their own numbers) of these cells in the packed folder `into`, and no
    others; those that neither folder has are left out."""
    kept = {}
    for cell, places in wanted.items():
        images = store.read_images(cell) or into.read_images(cell)
        if images and len((some := _some(images, places))["places"]):
            kept[cell] = some
    try:
        packed.write_pictures(into.out, kept)
        packed.seal(into.out)
    except OSError as error:
        raise InputError(f"{into.out} cannot be written: {error.strerror}; give a folder that can") from None


def _some(images: Mapping[str, Any], places: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Of a cell's images those at `places`, as `packed.pictures` gives them."""
    import numpy as np

    if "places" in images:
        there = {tuple(place): k for k, place in enumerate(images["places"].tolist())}
        found = [place for place in places if place in there]
        some = {name: array[[there[place] for place in found]] for name, array in images.items() if name != "places"}
    else:
        v, b = np.min([array.shape[:2] for array in images.values()], axis=0)  # an undefended message may have fewer
        found = [place for place in places if place[0] < v and place[1] < b]
        ks, js = np.array(found, dtype=np.int64).reshape(-1, 2).T
        some = {name: array[ks, js][:, None] for name, array in images.items()}
    return some | {"places": np.array(found, dtype=np.int64).reshape(-1, 2)}


def _strangers(kind: str, parts: Sequence[packed.Part], grid: Mapping[str, Any]) -> set[str]:
    """The results that the grid does not name. It does not list the sweeps of targets: with these no client is one."""
    if kind == "clients" and grid.get("matches"):
        return set()
    named = {work.get(packed.IDS[kind]) for work in [*grid["cells"], *grid.get("audits", [])]}
    return {name for part in parts for name in part.origins} - named
