"""Packed results read as the unpacked ones do, go on from there, and tell when they were touched."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gibench.cli import app
from gibench.errors import InputError
from gibench.estimate import recorded
from gibench.grid import Cell
from gibench.packing import pack
from gibench.runner import make_plan
from gibench.store import Results, Store
from gibench.suite import load_suite


def named(cell: str) -> dict[str, object]:
    names = {"cell": cell, "client": f"k{cell}", "dataset": "digits", "model": "lenet", "attack": "dlg(steps=3)"}
    names |= {"defense": "none", "training": "fedsgd", "checkpoint": "init", "threat": "D+kp", "labels": "given"}
    return names | {"batch": 1, "rounds": 1, "adaptive": False}


GRID = {"protocol": 1, "suite": {"name": "t"}, "cells": [named("b") | {"status": "planned", "reason": ""}]}


def row(cell: str, victim: int = 0, **changes: object) -> dict[str, object]:
    return (
        named(cell)
        | {"seed": 0, "victim": victim, "psnr": 0.125 + victim / 4, "seconds": 2.5, "status": "ok"}
        | changes
    )


def add(store: Store, cell: str, commit: str = "one", **changes: object) -> None:
    rows = [row(cell, victim, **changes) for victim in (2, 0, 1)]  # in an order of their own
    store.write_rows("cells", cell, rows, {"commit": commit, "cell": {"attack": {"steps": 3, "tv": None}}, "n": cell})


def fail(store: Store, cell: str) -> None:
    origin = {"commit": "failing", "cell": {}}
    store.write_rows("failed", cell, [row(cell, status="failed", reason="out of memory", psnr=None)], origin)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "out")
    made.open(GRID)
    for cell in "cab":
        add(made, cell, commit=f"commit {cell}")
        client = {"client": f"k{cell}", "dataset": "digits", "model": "lenet", "defense": "none", "utility": 0.9}
        made.write_rows("clients", f"k{cell}", [client | {"seconds": 1.0, "fit_seconds": 0.5}], {"commit": "kay"})
    fail(made, "d")
    return made


def same(found: Results, expected: Results) -> None:
    pd.testing.assert_frame_equal(found.rows, expected.rows, check_exact=True)
    pd.testing.assert_frame_equal(found.clients, expected.clients, check_exact=True)
    assert (found.grid, found.commit, found.damaged) == (expected.grid, expected.commit, expected.damaged)


def small(store: Store) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in store.out.glob("*/*.parquet"))


def test_a_packed_folder_reads_as_the_unpacked_one(store: Store, tmp_path: Path) -> None:
    kept = Store(tmp_path / "kept")
    pack(store, kept)
    same(kept.read(), store.read())
    files = {"cells.parquet", "clients.parquet", "failed.parquet", "provenance.parquet", "grid.json", "checksums.json"}
    assert {path.name for path in kept.out.iterdir()} == files
    assert kept.finished("cells") == store.finished("cells") == {"a", "b", "c"}
    assert kept.finished("clients") == {"ka", "kb", "kc"}
    assert kept.find_cell("b") == "b"
    pd.testing.assert_frame_equal(kept.cell_rows("b"), store.cell_rows("b"), check_exact=True)
    for kind, name in (("cells", "a"), ("clients", "kb"), ("failed", "d")):
        assert kept.provenance(kind, name) == store.provenance(kind, name)
    assert (
        recorded([kept.out])
        == recorded([store.out])
        == {("digits", "lenet", "dlg"): 2.5, ("digits", "lenet", "none"): 1.5}
    )


def test_packing_in_place_leaves_no_small_file_and_keeps_images_and_cache(store: Store) -> None:
    before = store.read()
    store.write_json("cache/kept.json", {"a": 1})
    pack(store, store)
    assert small(store) == []
    assert store.read_json("cache/kept.json") == {"a": 1}
    same(store.read(), before)
    packed = {path.name: path.read_bytes() for path in store.out.iterdir() if path.is_file()}
    pack(store, store)
    assert packed == {path.name: path.read_bytes() for path in store.out.iterdir() if path.is_file()}


def test_numbers_of_cells_are_kept_to_six_digits_others_as_they_are(tmp_path: Path) -> None:
    made, exact = Store(tmp_path / "out"), [1 / 3, -1e300 / 3, math.inf, math.nan, 2**-1074, 0.0, None]
    made.open(GRID)
    found = json.dumps({"prior_only": 100 / 7, "dlg": math.nan})
    rows = [row("b", k, psnr=number, members=found if k else None) for k, number in enumerate(exact)]
    made.write_rows("cells", "b", rows, {"commit": "one"})
    client = {"client": "kb", "dataset": "digits", "model": "lenet", "defense": "none", "utility": 1 / 3}
    made.write_rows("clients", "kb", [client], {"commit": "one"})
    before = made.read()
    pack(made, made)
    after = pq.read_table(made.out / "cells.parquet")["psnr"].to_pylist()
    assert after[2:] == pytest.approx(exact[2:], abs=0, nan_ok=True)
    for found, number in zip(after[:2], exact[:2], strict=True):
        assert found != number
        assert abs(found / number - 1) < 2**-20
        assert (math.frexp(found)[0] * 2**20).is_integer()
    assert pq.read_table(made.out / "cells.parquet")["members"].to_pylist()[:2] == [
        None, '{"prior_only": 14.2857, "dlg": NaN}'
    ]  # fmt: skip
    pd.testing.assert_frame_equal(made.read().clients, before.clients, check_exact=True)


def test_equal_results_give_equal_bytes_whatever_the_order_in_which_they_came(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.open(GRID)
    for path in sorted(store.out.glob("*/*.parquet"), reverse=True):
        other.open(GRID)
        shutil.copy(path, other.out / path.parent.name)
        pack(other, other)  # one by one
    pack(store, store)
    for path in store.out.iterdir():
        assert path.is_dir() or path.read_bytes() == (other.out / path.name).read_bytes(), path.name


def test_what_comes_later_lies_beside_and_wins(store: Store, tmp_path: Path) -> None:
    """New cells, one that was made again, and one that failed before."""
    plain = Store(shutil.copytree(store.out, tmp_path / "plain"))
    pack(store, store)
    for one in (store, plain):
        one.open(GRID)
        add(one, "b", commit="again", psnr=30.0)
        add(one, "d", commit="at last")
        add(one, "e", commit="new")
    plain.drop_failure("d")
    store.drop_failure("d")
    assert small(store) == ["cells/b", "cells/d", "cells/e"]
    same(store.read(), plain.read())
    assert store.read().rows["cell"].tolist() == [cell for cell in "abcde" for _ in range(3)]
    assert "commit b" not in store.read().commit
    assert store.provenance("cells", "b")["commit"] == "again"
    assert store.cell_rows("b")["psnr"].tolist() == [30.0] * 3
    pack(store, store)
    assert small(store) == []
    same(store.read(), plain.read())
    assert not (store.out / "failed.parquet").exists()


def test_packing_into_a_folder_keeps_what_it_has(store: Store, tmp_path: Path) -> None:
    kept, more = Store(tmp_path / "kept"), Store(tmp_path / "more")
    pack(store, kept)
    more.open(GRID | {"suite": {"name": "later"}})
    add(more, "b", psnr=40.0)
    add(more, "z")
    pack(more, kept)
    found = kept.read()
    assert sorted(set(found.rows["cell"])) == ["a", "b", "c", "d", "z"]
    assert found.rows.loc[found.rows["cell"] == "b", "psnr"].tolist() == [40.0] * 3
    assert found.grid["suite"] == {"name": "later"}
    assert small(more) == ["cells/b", "cells/z"], "the source stays as it is"


@pytest.mark.parametrize("targets", [False, True])
def test_what_is_planned_no_more_is_left_out_if_asked(store: Store, tmp_path: Path, targets: bool) -> None:
    kept, changed = Store(tmp_path / "kept"), [{"cell": "b", "client": "kb", "status": "planned"}]
    pack(store, kept)
    store.write_grid(GRID | {"cells": changed} | ({"matches": [{"family": "dpsgd"}]} if targets else {}))
    pack(store, kept, planned=True)
    found = kept.read()
    assert set(found.rows["cell"]) == {"b"}
    assert set(found.clients["client"]) == ({"ka", "kb", "kc"} if targets else {"kb"}), "a sweep is in no grid"
    assert kept.tampered() == []


def test_a_file_that_was_touched_is_named(store: Store) -> None:
    assert store.tampered() == [], "nothing is packed"
    pack(store, store)
    assert store.tampered() == []
    for name in ("cells.parquet", "provenance.parquet", "grid.json"):
        path = store.out / name
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert store.tampered() == [str(path)]
        path.unlink()
        assert store.tampered() == [str(path)]
        path.write_bytes(kept)
    sums = json.loads((store.out / "checksums.json").read_text())
    sums.pop("clients.parquet")
    (store.out / "checksums.json").write_text(json.dumps(sums))
    assert store.tampered() == [str(store.out / "clients.parquet")]
    (store.out / "checksums.json").unlink()
    assert len(store.tampered()) == 5


def test_what_is_packed_is_not_planned_again(tmp_path: Path) -> None:
    """Of the committed run: nothing to do for its suite, and for another seed only that seed."""
    kept = Store(shutil.copytree(Path(__file__).parents[1] / "results" / "quick", tmp_path / "quick"))
    assert make_plan(load_suite("quick", {}), kept).jobs == []
    more = make_plan(load_suite("quick", {"seeds": [0, 1]}), kept).jobs
    assert more
    assert all((job.work.client if isinstance(job.work, Cell) else job.work).seed == 1 for job in more)


def test_going_on_in_a_packed_folder_is_no_tampering(store: Store) -> None:
    pack(store, store)
    store.open(GRID | {"cells": []})
    add(store, "e")
    assert store.tampered() == []


def test_what_would_be_lost_is_not_packed(store: Store) -> None:
    path = store.out / "cells" / "b.parquet"
    whole = path.read_bytes()
    table = pq.read_table(path)
    newer = table.append_column("of_a_later_gibench", table["psnr"])
    for damage in (whole[:-20], newer, table.replace_schema_metadata({})):
        path.write_bytes(damage) if isinstance(damage, bytes) else pq.write_table(damage, path)
        with pytest.raises(InputError, match=r"b\.parquet cannot be packed"):
            pack(store, store)
    path.write_bytes(whole)
    path.rename(path.with_stem("other"))
    with pytest.raises(InputError, match=r"other\.parquet cannot be packed"):
        pack(store, store)
    assert len(small(store)) == 7


def test_damaged_packed_files_are_named_and_nothing_is_done_again(store: Store) -> None:
    pack(store, store)
    path = store.out / "clients.parquet"
    path.write_bytes(b"PAR1 not really")
    assert store.read().damaged == [str(path)]
    assert len(store.read().rows) == 10
    (store.out / "provenance.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"provenance\.parquet is damaged"):
        store.finished("cells")


def test_another_protocol_and_empty_folders_are_refused(store: Store, tmp_path: Path) -> None:
    kept = Store(tmp_path / "kept")
    kept.open(GRID | {"protocol": 2})
    with pytest.raises(InputError, match="protocol 2"):
        pack(store, kept)
    with pytest.raises(InputError, match="holds no results yet"):
        pack(kept, kept)


def test_the_command_packs_a_run_into_results(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["pack", "out=out"])
    assert done.output.startswith("results/out: 3 cells and 3 clients in 0.0 MiB"), done.output
    same(Store("results/out").read(), store.read())
    assert CliRunner().invoke(app, ["pack", "out=out", "--into", "elsewhere"]).exit_code == 0
    assert Store("elsewhere").tampered() == []
