"""A planted fault through the whole house: DP-SGD that forgets its noise, its accounting unchanged."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.bounds import gaussian
from gibench.cell import run_cell, run_client
from gibench.defenses.dpsgd import DPSGD
from gibench.draws import Draws
from gibench.grid import Cell, cells
from gibench.leaderboard import aggregate
from gibench.store import Store
from gibench.suite import Suite
from gibench.types import Batch, Memory, Params, Update

SUITE = Suite(
    name="planted",
    datasets=["digits"],
    models=["mlp"],
    defenses=["dpsgd(sigma=1)"],
    attacks=["analytic_fc"],
    checkpoints=["init"],
    victims=6,
    client_images=40,
    aux_images=60,
    training={"clients": 4, "epochs": 1},  # type: ignore[arg-type]
)


@dataclass(frozen=True)
class NoiseFree(DPSGD):
    """Claims sigma and adds nothing."""

    def gradient(
        self, net: nn.Module, batch: Batch, draws: Draws, params: Params | None = None, memory: Memory | None = None
    ) -> Update:
        return DPSGD(sigma=0, clip=self.clip).gradient(net, batch, draws, params)


@pytest.mark.parametrize(("defense", "caught"), [(DPSGD(sigma=1), False), (NoiseFree(sigma=1), True)])
def test_forgotten_noise_is_found_out(tmp_path: Path, defense: DPSGD, caught: bool) -> None:
    store = Store(tmp_path)
    planned = [
        replace(cell, client=replace(cell.client, defense=defense))
        for cell in cells(SUITE)
        if cell.client.defense.entry_name() == "dpsgd"
    ]
    store.open({"protocol": 1, "suite": {}, "cells": [described(cell) for cell in planned]})
    run_client(planned[0].client, store, "cpu")
    for cell in planned:
        run_cell(cell, store, "cpu")
    row = aggregate(store.read()).set_index("attack").loc["analytic_fc"]
    assert row["status"] == "ok"
    assert row["rero_bound"] == pytest.approx(float(gaussian(1 / row["gallery"], 1.0)))
    assert (row["identified"] == 1) == caught
    assert row["flags"].startswith("beats_bound") == caught


def described(cell: Cell) -> dict[str, object]:
    return {**cell.describe(), "status": "planned", "reason": ""}
