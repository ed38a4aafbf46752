"""The gallery of a packed folder is that of the run: it keeps the images that are shown, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic_results as made
import torch
from results_folder import images

from gibench.errors import InputError
from gibench.packing import keep_pictures
from gibench.report.gallery import Shown, exhibits, gallery
from gibench.report.tables import report
from gibench.store import Store

PLANNED = made.cells()
RESULTS = made.results(PLANNED, made.rows(PLANNED))
SHOWN = report(RESULTS)
WANTED = exhibits(RESULTS, SHOWN)


@pytest.fixture
def run(tmp_path: Path) -> Store:
    store = Store(tmp_path / "run")
    for cell, named in images(PLANNED).items():
        store.write_tensors(f"images/{cell}", {name: torch.from_numpy(array) for name, array in named.items()})
    return store


@pytest.fixture
def kept(run: Store, tmp_path: Path) -> Store:
    store = Store(tmp_path / "kept")
    store.out.mkdir()
    keep_pictures(run, store, WANTED)
    return store


def told(shown: list[Shown]) -> list[object]:
    """Comparable: arrays as lists."""
    return [
        (place.table, place.defense, place.checkpoint, place.attack, v.rule, v.index, v.psnr, v.bare_psnr, rows)
        for place in shown
        for v in place.victims
        for rows in [{kind: image.tolist() for kind, image in v.images.items()}]
    ]


def test_it_shows_what_the_run_shows(run: Store, kept: Store) -> None:
    shown = told(list(gallery(RESULTS, SHOWN, run.read_images)))
    assert len(shown) == 3 * len({cell["defense"] for cell in PLANNED})
    assert repr(told(list(gallery(RESULTS, SHOWN, kept.read_images)))) == repr(shown)


def test_no_other_image_is_kept(run: Store, kept: Store) -> None:
    for cell in images(PLANNED):
        found = kept.read_images(cell)
        assert bool(found) == (cell in WANTED)
        if found:
            assert [tuple(place) for place in found["places"].tolist()] == WANTED[cell]
            whole = run.read_images(cell)["reconstructions"]
            assert np.array_equal(found["reconstructions"][:, 0], [whole[place] for place in WANTED[cell]])


def test_it_can_be_packed_again_from_what_is_kept(kept: Store, tmp_path: Path) -> None:
    file = kept.out / "pictures.safetensors"
    before = file.read_bytes()
    keep_pictures(Store(tmp_path / "nothing"), kept, WANTED)
    assert file.read_bytes() == before
    cell, places = next(iter(WANTED.items()))
    keep_pictures(Store(tmp_path / "nothing"), kept, {cell: [*places[:1], (99, 0)], "unknown": [(0, 0)]})
    assert kept.read_images(cell)["places"].tolist() == [list(places[0])]
    keep_pictures(Store(tmp_path / "nothing"), kept, {})
    assert not file.exists()


def test_images_that_a_message_does_not_have_are_left_out(run: Store, tmp_path: Path) -> None:
    store = Store(tmp_path / "kept")
    store.out.mkdir()
    cell = next(iter(WANTED))
    keep_pictures(run, store, {cell: [(0, 6), (2, 0), (99, 0)]})
    found = store.read_images(cell)
    assert found["places"].tolist() == [[2, 0]]
    assert np.array_equal(found["victims"], run.read_images(cell)["victims"][[2]])
    keep_pictures(run, Store(tmp_path / "kept"), {cell: [(0, 6)]})
    assert store.read_images(cell) == {}, "not a cell without images"


def test_a_changed_or_damaged_file_is_told(kept: Store) -> None:
    assert kept.tampered() == []
    file = kept.out / "pictures.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert kept.tampered() == [str(file)]
    with pytest.raises(InputError, match="is damaged"):
        kept.read_images(next(iter(WANTED)))
