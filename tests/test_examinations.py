"""Suites with audits: what is planned, run, resumed, recorded as failed, packed; and suites without them as before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from gibench.audits.fairness import Fairness
from gibench.errors import InputError
from gibench.examinations import examinations
from gibench.expectations import expectations_of
from gibench.grid import cells
from gibench.packing import pack
from gibench.report import FORMATS, render
from gibench.runner import Plan, describe_grid, execute, make_plan
from gibench.store import Store
from gibench.suite import Suite, load_suite
from gibench.workers import Event, Job, perform

SUITE = Suite(
    name="audited",
    datasets=["digits"],
    models=["lenet(width=2)"],
    defenses=["none", "prune(p=0.9)"],
    attacks=[],
    audits=["fairness", "contract"],
    client_images=64,
    aux_images=60,
    training={"clients": 16, "epochs": 1},  # type: ignore[arg-type]
)


class Here:
    """Does the jobs in this process."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        for job in jobs:
            try:
                perform(job, str(self.store.out), "cpu")
                yield Event("done", job, 0, 1.0)
            except ArithmeticError as error:
                yield Event("failed", job, 0, 1.0, str(error))


def run(store: Store, suite: Suite = SUITE) -> Plan:
    plan = make_plan(suite, store)
    store.open(describe_grid(plan))
    list(execute(plan, store, Here(store)))
    return plan


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("audited") / "out")
    run(store)
    return store


def test_without_attacks_there_are_no_cells_and_every_client_is_examined() -> None:
    assert cells(SUITE) == []
    found = examinations(SUITE)
    assert [(one.client.defense.spec(), one.audit.spec(), bool(one.skip)) for one in found] == [
        ("none", "fairness", False),
        ("none", "contract", False),
        ("prune(p=0.9)", "fairness", False),
        ("prune(p=0.9)", "contract", True),
    ]
    assert len({one.id for one in found}) == 4


def test_audits_change_no_cell_and_another_setting_is_another_examination() -> None:
    attacked = SUITE.model_copy(update={"attacks": ["prior_only"]})
    bare = attacked.model_copy(update={"audits": None})
    assert [cell.id for cell in cells(attacked)] == [cell.id for cell in cells(bare)] != []
    assert examinations(bare) == []
    ids = [
        {one.id for one in examinations(SUITE.model_copy(update=change))}
        for change in ({}, {"audits": ["contract(loss=1.0)"]}, {"seeds": [1]})
    ]
    assert not ids[0] & (ids[1] | ids[2])


def test_a_block_may_ask_for_audits_alone_and_nothing_is_a_mistake(tmp_path: Path) -> None:
    head = 'datasets = ["digits"]\nmodels = ["lenet"]\ndefenses = ["none"]\n'
    (tmp_path / "s.toml").write_text(
        head + 'attacks = ["prior_only"]\n[[extra]]\nattacks = []\naudits = ["fairness"]\nseeds = [1]\n'
    )
    suite = load_suite(str(tmp_path / "s.toml"))
    assert {cell.client.seed for cell in cells(suite)} == {0}
    assert {one.client.seed for one in examinations(suite)} == {1}
    for wrong in (head + "attacks = []\n", head + 'attacks = ["prior_only"]\n[[extra]]\nattacks = []\n'):
        (tmp_path / "s.toml").write_text(wrong)
        with pytest.raises(InputError, match="audits"):
            load_suite(str(tmp_path / "s.toml"))
    with pytest.raises(InputError, match="did you mean 'fairness'"):
        examinations(SUITE.model_copy(update={"audits": ["fairnes"]}))


def test_a_run_leaves_measures_and_a_second_one_has_nothing_to_do(ran: Store) -> None:
    plan = make_plan(SUITE, ran)
    assert plan.jobs == []
    assert len(plan.done) == 2 + 3
    found = ran.read()
    assert set(found.audits["audit"]) == {"fairness", "contract"}
    assert (found.audits["status"] == "ok").all()
    assert found.audits["value"].notna().all()
    assert len(found.rows) == 0
    planned = found.grid["audits"]
    assert [one["status"] for one in planned].count("skipped") == 1
    origin = ran.provenance("audits", planned[0]["examination"])
    assert origin["examination"]["client"]["seed"] == 0
    assert origin["examination"]["audit"]["name"] == "fairness"


def test_what_is_deleted_is_made_again_and_alone(ran: Store) -> None:
    before = ran.read().audits
    victim = sorted(ran.finished("audits"))[1]
    (ran.out / "audits" / f"{victim}.parquet").unlink()
    jobs = run(ran).jobs
    assert [(job.id, job.kind) for job in jobs] == [(victim, "audit")]
    costs = ["seconds", "peak_mib"]
    pd.testing.assert_frame_equal(ran.read().audits.drop(columns=costs), before.drop(columns=costs))


def test_a_failure_is_recorded_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Fairness, subject: object, draws: object) -> None:
        raise FloatingPointError("a scale is not finite")

    store = Store(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Fairness, "examine", broken)
        run(store)
    found = store.read().audits
    failed = found[found["status"] == "failed"]
    assert list(failed["reason"]) == ["a scale is not finite"] * 2
    assert "failed: none, prune(p=0.9): a scale is not finite" in render(store.read(), "terminal")
    assert [job.work.entry.entry_name() for job in run(store).jobs] == ["fairness"] * 2  # the second time it works
    assert (store.read().audits["status"] == "ok").all()
    assert list((store.out / "failed_audits").iterdir()) == []


def test_a_measure_that_is_no_number_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gibench.audits import Measure

    monkeypatch.setattr(Fairness, "examine", lambda *_: [Measure("g", "m", float("nan"))])
    store = Store(tmp_path / "out")
    run(store)
    failed = store.read().audits.query("status == 'failed'")
    assert list(failed["reason"]) == ["'m' of 'g' is not finite"] * 2


def test_packed_audits_read_as_before_and_go_on_from_there(ran: Store, tmp_path: Path) -> None:
    kept = Store(tmp_path / "kept")
    pack(ran, kept)
    assert (kept.out / "audits.parquet").exists()
    one, other = ran.read(), kept.read()
    pd.testing.assert_frame_equal(one.audits, other.audits)
    for form in FORMATS:
        if form != "html":
            assert render(one, form) == render(other, form)
    assert make_plan(SUITE, kept).jobs == []
    assert kept.tampered() == []
    path = kept.out / "audits.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    assert kept.tampered() == [str(path)]


def test_reports_show_audits_without_any_cell_and_say_what_was_skipped(ran: Store) -> None:
    for form in ("terminal", "markdown", "latex", "html"):
        text = render(ran.read(), form)
        assert "No results yet" not in text
        assert "none alone is examined" in " ".join(text.split())
    assert {row["audit"] for row in json.loads(render(ran.read(), "json"))["audits"]} == {"fairness", "contract"}


def test_measures_but_times_are_held_to_what_is_expected(ran: Store) -> None:
    numbers = expectations_of(ran.read()).numbers
    key = "digits · lenet(width=2) · fedsgd | none | contract | uniform price | provider's utility"
    assert numbers[key].value == pytest.approx(3.2118, abs=1e-4)
    assert numbers[key].tolerance == pytest.approx(0.12 * 3.2118, rel=1e-3)
    assert sum(" | fairness | " in name for name in numbers) == len(ran.read().audits.query("audit == 'fairness'"))
