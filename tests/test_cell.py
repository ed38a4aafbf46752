"""The threat model is the View: what is not granted is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gibench.cell import load_trained, observe, run_cell, run_client, victims_of
from gibench.client import load_parts
from gibench.grid import Cell, cells
from gibench.store import Store
from gibench.suite import Suite

SUITE = Suite(
    name="seen",
    datasets=["digits"],
    models=["lenet(width=6)"],
    defenses=["none", "latent_perturb(autoencoder_epochs=1, epochs=1)"],
    attacks=["adaptive_matching(steps=2, tv=0.01)"],
    checkpoints=["init", "early", "final"],
    threats=["A", "B", "C", "D", "D+k", "D+kp", "D+klm", "E+kp"],
    victims=3,
    rounds=2,
    client_images=32,
    aux_images=60,
    training={"clients": 8, "epochs": 2, "protocol": "fedavg"},  # type: ignore[arg-type]
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Cell]]:
    store = Store(tmp_path_factory.mktemp("seen"))
    grid = [cell for cell in cells(SUITE) if cell.client.defense.entry_name() == "latent_perturb"]
    run_client(grid[0].client, store, "cpu")
    return store, grid


@pytest.mark.parametrize("threat", SUITE.threats)
def test_a_view_holds_what_the_threat_model_grants(trained: tuple[Store, list[Cell]], threat: str) -> None:
    store, grid = trained
    cell = next(c for c in grid if c.threat == threat and c.attack.adaptive)
    parts = load_parts(cell.client.dataset, 32, 60, "cpu")
    victims, _ = victims_of(parts.test, 3, 1)
    view, sent = observe(cell, cell.client, parts, victims, store, "cpu")
    letter, _, flags = threat.partition("+")
    assert (view.labels is not None) == ("l" in flags)
    assert (view.aux is not None) == (letter in "DE")
    assert (view.local is not None) == (letter in "CDE")
    assert (view.defense is not None) == ("k" in flags)
    assert bool(view.defense and view.defense.state) == ("k" in flags and "p" in flags)
    assert bool(view.studied) == ("p" in flags)
    assert len(view.rounds) == ("m" in flags)
    assert view.kind == "delta"
    for held in (view.update, *view.rounds):
        assert all(g is not None and len(g) == 3 for g in held.values())
    assert not torch.equal(sent.x, victims.x)


def test_all_attacks_of_a_setting_answer_the_same_message(trained: tuple[Store, list[Cell]]) -> None:
    store, grid = trained
    parts = load_parts(grid[0].client.dataset, 32, 60, "cpu")
    victims, _ = victims_of(parts.test, 3, 1)
    pair = [c for c in grid if c.threat == "D+kp" and c.checkpoint == "early"]
    assert len(pair) == 2
    one, other = (observe(c, c.client, parts, victims, store, "cpu")[0].update for c in pair)
    assert all(torch.equal(one[name], other[name]) for name in one)
    later = next(c for c in grid if c.threat == "D+kp" and c.checkpoint == "final")
    third = observe(later, later.client, parts, victims, store, "cpu")[0].update
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_later_victims_are_the_same_victims_as_in_a_longer_cell(trained: tuple[Store, list[Cell]]) -> None:
    store, grid = trained
    cell = next(c for c in grid if c.threat == "D+kp" and c.attack.adaptive)
    late = replace(cell, victims=1, first_victim=2)
    parts = load_parts(cell.client.dataset, 32, 60, "cpu")
    every, own = victims_of(parts.test, 3, 1)[0], victims_of(parts.test, 1, 1, 2)[0]
    (long, sent), (short, sent_late) = (
        observe(c, c.client, parts, v, store, "cpu") for c, v in ((cell, every), (late, own))
    )
    torch.testing.assert_close(sent.x[2:], sent_late.x)  # another batch size rounds otherwise
    for name, g in short.update.items():
        torch.testing.assert_close(long.update[name][2:], g)
    run_cell(late, store, "cpu")
    rows = store.cell_rows(late.id)
    assert rows[["victim", "image", "test_index"]].values.tolist() == [[2, 0, 2]]


def test_rows_compare_with_raw_and_with_transmitted_images(trained: tuple[Store, list[Cell]], tmp_path: Path) -> None:
    store, grid = trained
    cell = next(c for c in grid if c.threat == "D+kp" and c.attack.adaptive)
    run_cell(cell, store, "cpu")
    rows, images = store.cell_rows(cell.id), store.read_images(cell.id)
    assert len(rows) == 3
    sent, raw, back = (
        torch.from_numpy(images[name]).double() / 255 for name in ("transmitted", "victims", "reconstructions")
    )
    for column, a, b in (("mse", raw, back), ("mse_sent", sent, back), ("mse_change", raw, sent)):
        expected = (a - b).square().flatten(1).mean(1).tolist()
        assert rows[column].tolist() == pytest.approx(expected, abs=2e-3)
    held = load_trained(cell.client, store, "cpu")
    assert set(held.checkpoints) == {"init", "early", "final"}
