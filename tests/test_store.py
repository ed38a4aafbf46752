"""Results on disk: whole or not at all, readable beside damage, the same bytes for the same rows."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from gibench.errors import InputError
from gibench.store import CELL_COLUMNS, CLIENT_COLUMNS, Store, read_results

GRID = {"protocol": 1, "suite": {"name": "t"}, "cells": []}
ORIGIN = {"commit": "abc", "device": "cpu"}


def row(cell: str, victim: int = 0, **changes: object) -> dict[str, object]:
    base = {
        "cell": cell,
        "client": "k",
        "dataset": "digits",
        "seed": 0,
        "adaptive": True,
        "victim": victim,
        "mse": 0.25,
    }
    return base | {"psnr": 6.02, "steps": 10, "status": "ok"} | changes


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "out")
    made.open(GRID)
    return made


def left_over(store: Store) -> list[Path]:
    return list(store.out.rglob(".part-*"))


def test_what_an_ensemble_adds_is_kept_and_an_unknown_column_is_refused(store: Store) -> None:
    ensemble = {"worst_psnr": 30.0, "worst_mse": 0.001, "members": '{"lti": 20.0}', "flags": "masked"}
    store.write_rows("cells", "c1", [row("c1", **ensemble), row("c1", 1)], ORIGIN)
    found = read_results(store.out).rows
    assert {name: found[name][0] for name in ensemble} == ensemble
    assert found["worst_psnr"].isna().tolist() == [False, True]
    with pytest.raises(ValueError, match="unknown columns surprise"):
        store.write_rows("cells", "c2", [row("c2", surprise=1)], ORIGIN)


def test_rows_come_back_as_they_were(store: Store) -> None:
    rows = [row("c1", 0), row("c1", 1, mse=None, psnr=None, status="failed", reason="not finite")]
    store.write_rows("cells", "c1", rows, ORIGIN)
    store.write_rows("clients", "k", [{"client": "k", "utility": 0.9, "epsilon": float("inf")}], ORIGIN)
    found = read_results(store.out)
    assert list(found.rows.columns) == list(CELL_COLUMNS)
    assert list(found.clients.columns) == list(CLIENT_COLUMNS)
    assert found.rows.victim.tolist() == [0, 1]
    assert found.rows.mse[0] == 0.25
    assert found.rows.mse.isna().tolist() == [False, True]
    assert found.rows.reason.isna().tolist() == [True, False]
    assert found.rows.reason[1] == "not finite"
    assert found.clients.epsilon.tolist() == [float("inf")]
    assert (found.grid, found.commit, found.damaged) == (GRID, "abc", [])
    assert store.provenance("cells", "c1") == ORIGIN
    assert "c1" in store.finished("cells")
    assert "c2" not in store.finished("cells")


def test_clients_of_an_earlier_version_are_read_and_lack_only_what_it_did_not_know(store: Store) -> None:
    store.write_rows("clients", "k", [{"client": "k", "epsilon": 5.5, "strength": 1.0}], ORIGIN)
    path = store.out / "clients" / "k.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["strength", "gdp_mu", "rero_bound", "classes"]), path)
    store.write_rows("cells", "c1", [row("c1")], ORIGIN)
    found = read_results(store.out)
    assert found.damaged == []
    assert found.clients[["epsilon", "strength", "classes"]].isna().values.tolist() == [[False, True, True]]
    pq.write_table(table.drop_columns(["epsilon"]), path)
    assert read_results(store.out).damaged == [str(path)]


def test_same_rows_give_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        store = Store(tmp_path / name)
        store.open(GRID)
        store.write_rows("cells", "c", [row("c", i) for i in range(5)], ORIGIN)
        written.append((store.out / "cells" / "c.parquet").read_bytes())
    assert written[0] == written[1]
    store.write_rows("cells", "d", [row("c", i, mse=0.3) for i in range(5)], ORIGIN)
    assert (store.out / "cells" / "d.parquet").read_bytes() != written[0]


def test_failures_are_rows_too_until_they_are_dropped(store: Store) -> None:
    store.write_rows("cells", "c1", [row("c1")], ORIGIN)
    store.write_rows("failed", "c2", [row("c2", status="failed", reason="out of memory")], ORIGIN)
    assert read_results(store.out).rows.cell.tolist() == ["c1", "c2"]
    store.drop_failure("c2")
    store.drop_failure("c2")
    assert read_results(store.out).rows.cell.tolist() == ["c1"]


def test_a_writer_that_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(TypeError):
        store.write_json("cache/x.json", {"a": object()})
    assert not (store.out / "cache" / "x.json").exists()
    with pytest.raises(Exception, match="'one'"):
        store.write_rows("cells", "c1", [row("c1", victim="one")], ORIGIN)  # type: ignore[arg-type]
    assert "c1" not in store.finished("cells")
    with pytest.raises((ValueError, RuntimeError)):
        store.write_tensors("images/c1", {"a": torch.eye(3).to_sparse()})
    assert store.read_images("c1") == {}
    assert left_over(store) == []


def test_a_writer_that_raises_leaves_what_was_there(store: Store) -> None:
    store.write_json("cache/x.json", {"a": 1})
    with pytest.raises(TypeError):
        store.write_json("cache/x.json", {"a": object()})
    assert store.read_json("cache/x.json") == {"a": 1}
    store.write_rows("cells", "c1", [row("c1")], ORIGIN)
    before = (store.out / "cells" / "c1.parquet").read_bytes()
    with pytest.raises(Exception, match="'one'"):
        store.write_rows("cells", "c1", [row("c1", victim="one")], ORIGIN)  # type: ignore[arg-type]
    assert (store.out / "cells" / "c1.parquet").read_bytes() == before


def test_a_half_written_file_is_never_seen_under_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of the write: the target is absent, the part is cleared when the folder is opened again."""

    def killed(table: object, path: Path, **slim: object) -> None:
        Path(path).write_bytes(b"PAR1 half")
        assert "c1" not in store.finished("cells")
        (store.out / "cells" / ".part-left").write_bytes(b"of another process that was killed")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write_rows("cells", "c1", [row("c1")], ORIGIN)
    assert "c1" not in store.finished("cells")
    assert [path.name for path in left_over(store)] == [".part-left"]
    store.open(GRID)
    assert left_over(store) == []


@pytest.mark.parametrize("content", [b"", b"PAR1 not really", None])
def test_a_damaged_file_is_named_and_the_others_are_read(store: Store, content: bytes | None) -> None:
    for name in ("c1", "c2", "c3"):
        store.write_rows("cells", name, [row(name)], ORIGIN)
    path = store.out / "cells" / "c2.parquet"
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    found = read_results(store.out)
    assert found.damaged == [str(path)]
    assert found.rows.cell.tolist() == ["c1", "c3"]


def test_results_from_before_a_column_existed_are_read(store: Store) -> None:
    import pyarrow.parquet as pq

    store.write_rows("cells", "c1", [row("c1")], ORIGIN)
    store.write_rows("clients", "k1", [{"client": "k1", "step_ratio": 2.0, "status": "ok"}], ORIGIN)
    path = store.out / "clients" / "k1.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["step_ratio"]), path)
    found = store.read()
    assert found.damaged == []
    assert found.clients.client.tolist() == ["k1"]
    assert found.clients.step_ratio.isna().all()


def test_a_file_of_other_columns_is_damaged(store: Store) -> None:
    store.write_rows("cells", "c1", [row("c1")], ORIGIN)
    path = store.out / "cells" / "c2.parquet"
    pq.write_table(pq.read_table(store.out / "cells" / "c1.parquet").drop_columns(["psnr"]), path)
    found = read_results(store.out)
    assert (found.damaged, found.rows.cell.tolist()) == ([str(path)], ["c1"])


def test_commits_of_all_files_are_listed(store: Store) -> None:
    for name in ("b", "a"):
        store.write_rows("cells", name, [row(name)], ORIGIN | {"commit": name * 3})
    assert read_results(store.out).commit == "aaa, bbb"


def test_results_of_another_protocol_are_refused_and_left_alone(store: Store) -> None:
    store.write_rows("cells", "c1", [row("c1")], ORIGIN)
    with pytest.raises(InputError, match=r"protocol 1.*writes 2"):
        store.open(GRID | {"protocol": 2})
    assert store.grid() == GRID
    assert "c1" in store.finished("cells")
    store.open(GRID | {"suite": {"name": "other"}})
    assert store.grid()["suite"] == {"name": "other"}
    assert "c1" in store.finished("cells")


def test_empty_folders_are_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(InputError, match="holds no results"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no results yet"):
        read_results(store.out)
    (store.out / "grid.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_results(store.out)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store(tmp_path / "file" / "out").open(GRID)


def test_tensors_and_images_round_trip(store: Store) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([1, 255], dtype=torch.uint8)}
    store.write_tensors("images/c1", tensors)
    back = store.read_tensors("images/c1")
    assert back is not None
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert store.read_images("c1")["b"].tolist() == [1, 255]
    assert store.read_tensors("images/c2") is None
    assert store.read_images("c2") == {}
    assert store.read_json("cache/nothing.json") is None


def test_colleagues_may_read_every_file(store: Store) -> None:
    store.write_tensors("images/abc", {"x": torch.zeros(1)})
    store.write_json("cache/choice.json", {})
    files = [path for path in store.out.rglob("*") if path.is_file()]
    assert len(files) > 1
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}


def test_the_grid_is_plain_json(store: Store) -> None:
    assert json.loads((store.out / "grid.json").read_text()) == GRID
