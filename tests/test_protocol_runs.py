"""Whole runs of the defenses that change the protocol: cohorts, memories, local training and stacks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from test_cli import call

from gibench.cell import load_trained
from gibench.grid import cells
from gibench.runner import make_plan, run
from gibench.store import COSTS, TIMES, Store, read_results
from gibench.suite import Suite

SECAGG, PRIVATE, STEPS = "secagg(clients=2)", "partial_share(layers=1)", "local_steps(epochs=2)"
STACK = f"prune(p=0.5) + {PRIVATE} + {SECAGG}"
SUITE = Suite(
    name="protocol",
    datasets=["digits"],
    models=["lenet(width=4)"],
    defenses=[SECAGG, PRIVATE, STEPS, STACK],
    attacks=[
        "inverting_gradients(steps=2, tv=0.01)",
        "adaptive_matching(steps=2, tv=0.01)",
        "fedavg_matching(steps=2, tv=0.01)",
        "idlg(steps=2, restarts=1)",
    ],
    checkpoints=["final"],
    batch_sizes=[2],
    victims=2,
    client_images=24,
    aux_images=40,
    training={"clients": 4, "epochs": 1, "batch": 2},  # type: ignore[arg-type]
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("protocol")
    before = torch.random.get_rng_state()
    ended = run(SUITE, folder, workers=1, device="cpu")
    torch.random.set_rng_state(before)
    assert ended.failed == []
    return folder


def test_every_pair_has_its_rows_or_its_reason(ran: Path) -> None:
    rows = read_results(ran).rows
    assert set(rows.status) == {"ok"}
    found = {(c.client.defense.spec(), c.attack.entry_name()): (c, rows[rows.cell == c.id]) for c in cells(SUITE)}
    for (defense, attack), (cell, own) in found.items():
        assert cell.images == (4 if SECAGG in defense else 2)
        if attack == "idlg":
            assert cell.skip == f"works on one image per message, not {cell.images}"
        elif attack == "fedavg_matching":
            assert ("no local training" in cell.skip) == (defense != STEPS)
        else:
            assert cell.skip == ""
        assert len(own) == (0 if cell.skip else 2 * cell.images)
        if not cell.skip:
            assert sorted(zip(own.victim, own.image, strict=True)) == [
                (v, i) for v in range(2) for i in range(cell.images)
            ]
            assert own.test_index.tolist() == list(range(2 * cell.images))
            assert own.psnr.notna().all()
    assert found[SECAGG, "prior_only"][1].victim.nunique() == 2


def test_clients_report_bytes_and_keep_their_memories(ran: Path) -> None:
    clients = read_results(ran).clients.set_index("defense")
    dense = clients.upload_bytes["none"]
    assert clients.upload_bytes[SECAGG] == 2 * dense
    assert clients.upload_bytes[STEPS] == dense
    head = 4 * (4 * 64 + 1) * 10
    assert clients.upload_bytes[PRIVATE] == dense - head
    assert clients.upload_bytes[STACK] == 2 * (dense - head)
    store = Store(ran)
    kept = {c.defense.spec(): load_trained(c, store, "cpu").memories["final"] for c in {x.client for x in cells(SUITE)}}
    assert kept["none"] == kept[SECAGG] == kept[STEPS] == {}
    assert {name: tuple(t.shape) for name, t in kept[PRIVATE].items()} == {"6.weight": (4, 10, 256), "6.bias": (4, 10)}
    assert set(kept[STACK]) == {"1/6.weight", "1/6.bias"}
    assert not torch.equal(kept[PRIVATE]["6.bias"][0], kept[PRIVATE]["6.bias"][1])


def test_what_is_lost_comes_back_the_same(ran: Path) -> None:
    def stable() -> pd.DataFrame:
        rows = read_results(ran).rows
        return rows.drop(columns=[c for c in (*COSTS, *TIMES) if c in rows]).sort_values(["cell", "victim", "image"])

    before, store = stable(), Store(ran)
    adaptive = [c for c in cells(SUITE) if not c.skip and c.attack.entry_name() == "adaptive_matching"]
    lost = [c for c in adaptive if c.client.defense.spec() in (STACK, PRIVATE)]
    for cell in lost:
        (ran / f"cells/{cell.id}.parquet").unlink()
    assert {job.id for job in make_plan(SUITE, store).jobs} == {cell.id for cell in lost}, "no client trains again"
    assert run(SUITE, ran, workers=1, device="cpu").done == len(lost)
    pd.testing.assert_frame_equal(before.reset_index(drop=True), stable().reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["victims=40"], ["victims=40 with 20 images behind a message (10 clients of secagg(clients=10))", "at most"]),
        (["victims=1", 'defenses=["secagg(clients=64)"]', "batch_sizes=[16]", "training.clients=64"], ["at most 0"]),
    ],
)
def test_too_few_images_for_a_cohort_are_one_line(
    settings: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["suite=smoke", "batch_sizes=[2]", 'defenses=["secagg(clients=10)"]']
    named = {s.split("=")[0] for s in settings}
    code, out, err = call(capsys, "run", *(s for s in base if s.split("=")[0] not in named), *settings)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    for word in words:
        assert word in err
    assert not list(tmp_path.iterdir())
