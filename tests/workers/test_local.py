"""A job that raises, dies or dies once costs itself only."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest
from faulty import Faulty

from gibench.runner import describe_grid, execute, make_plan
from gibench.store import Store
from gibench.suite import Suite
from gibench.workers import Event, Job
from gibench.workers.local import LocalWorkers

SUITE = Suite(
    name="faults",
    datasets=["digits"],
    models=["lenet"],
    defenses=["none"],
    attacks=["prior_only"],
    checkpoints=["init"],
    victims=2,
    client_images=16,
    aux_images=60,
    training={"clients": 16, "epochs": 1},  # type: ignore[arg-type]
)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], Store, dict[str, str]]:
    folder = tmp_path_factory.mktemp("faults")
    store = Store(folder / "out")
    plan = make_plan(SUITE, store)
    (cell,) = plan.cells
    faulty = {how: replace(cell, attack=Faulty(how=how)) for how in ("raise", "die", str(folder / "once"))}
    jobs = [plan.jobs[0], *(Job(c.id, c, (cell.client.id,)) for c in faulty.values()), plan.jobs[1]]
    store.open(describe_grid(plan))
    with LocalWorkers(("cpu", "cpu"), str(store.out)) as workers:
        events = list(execute(replace(plan, cells=[cell, *faulty.values()], jobs=jobs), store, workers))
    return events, store, {Path(how).name: c.id for how, c in faulty.items()}


def test_the_others_go_on(ended) -> None:
    events, store, ids = ended
    assert not store.finished("cells") & {ids["raise"], ids["die"]}
    assert len(store.finished("cells")) == 2
    ends = [event.kind for event in events]
    assert ends.count("done") == 3  # the client, prior_only, and the one that died once
    assert ends.count("failed") == 2
    assert ids["once"] in store.finished("cells")


def test_each_failure_was_tried_twice_and_says_why(ended) -> None:
    events, _, ids = ended
    for how, reason in (("raise", "MemoryError: no room for 3 images second line"), ("die", "killed by SIGKILL")):
        own = [event for event in events if event.job.id == ids[how]]
        assert [event.kind for event in own] == ["started", "retried", "started", "failed"]
        assert reason in own[-1].reason
    assert [event.kind for event in events if event.job.id == ids["once"]] == ["started", "retried", "started", "done"]


def test_failures_are_rows_with_a_reason_and_no_numbers(ended) -> None:
    _, store, ids = ended
    rows = store.read().rows
    failed = rows[rows.status == "failed"]
    assert set(failed.cell) == {ids["raise"], ids["die"]}
    assert failed.psnr.isna().all()
    assert failed.reason.str.len().gt(0).all()


def test_a_client_that_fails_takes_its_cells_along(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = make_plan(SUITE.model_copy(update={"training": SUITE.training.model_copy(update={"lr": 1e30})}), store)
    store.open(describe_grid(plan))
    with LocalWorkers(("cpu",), str(tmp_path)) as workers:
        events = list(execute(plan, store, workers))
    assert not [event for event in events if event.kind == "done"]
    failed = [event.reason for event in events if event.kind == "failed"]
    assert all("client failed: FloatingPointError: training diverged" in reason for reason in failed[1:])
    assert store.read().rows.reason.str.contains("training diverged").all()


def test_processes_stay_for_the_next_jobs_and_go_with_the_context(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = make_plan(SUITE, store)
    store.open(describe_grid(plan))
    train, attack = plan.jobs
    with LocalWorkers(("cpu",), str(tmp_path)) as workers:
        assert [event.kind for event in workers.run([train])] == ["started", "done"]
        there = active_children()
        assert len(there) == 1
        assert [event.kind for event in workers.run([attack])] == ["started", "done"]
        assert active_children() == there
    assert not active_children()
