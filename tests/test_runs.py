"""Whole runs of a tiny suite through the command line: resume, determinism, failures, reports."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from gibench.cli import app
from gibench.store import COSTS, TIMES, read_results

TINY = """
summary = "one client, one defense"
datasets = ["digits"]
models = ["lenet"]
defenses = ["none", "dpsgd(sigma=0.01)"]
attacks = ["prior_only", "inverting_gradients(steps=80)", "lti(epochs=2)"]
checkpoints = ["init"]
victims = 4
tune_images = 2
aux_images = 120
client_images = 64
training.clients = 16
training.epochs = 1
"""
ROW = {
    "dataset", "model", "checkpoint", "batch", "defense", "attack", "adaptive", "n", "utility", "utility_raw", "mse",
    "psnr", "psnr_low", "psnr_high", "ssim", "attacker_accuracy", "floor_psnr", "undefended_psnr", "status", "reason",
}  # fmt: skip


def gibench(folder: Path, *arguments: str, check: int = 0) -> str:
    """What it says in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "gibench", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == check, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def says(ran: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What it says where the tiny suite ran, in this process."""
    monkeypatch.chdir(ran)

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    return call


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny suite ran with two workers."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "tiny.toml").write_text(TINY)
    out = gibench(folder, "run", "suite=tiny.toml", "workers=2", "device=cpu")
    assert "8 done, 0 were there already, 0 pairs skipped, 0 failed" in out
    assert out.count("[") >= 8, "plain lines where there is no terminal"
    return folder


def stable(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Everything in the results but what a clock or the memory says."""
    results = read_results(out)
    costs = [*COSTS, *TIMES]
    rows, clients = (frame.drop(columns=[c for c in costs if c in frame]) for frame in (results.rows, results.clients))
    keys = ["cell", "victim", "image"]
    return rows.sort_values(keys).reset_index(drop=True), clients.sort_values("client").reset_index(drop=True)


def assert_same(one: Path, other: Path) -> None:
    for a, b in zip(stable(one), stable(other), strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_a_second_run_does_nothing(ran: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (ran / "runs/tiny/cells").iterdir()}
    assert "nothing to do: all 8 results are in" in gibench(ran, "run", "suite=tiny.toml")
    assert before == {path: path.stat().st_mtime_ns for path in (ran / "runs/tiny/cells").iterdir()}


def test_the_json_report_has_the_promised_keys(says: Callable[..., str]) -> None:
    report = json.loads(says("report", "--format", "json"))
    assert {"suite", "protocol", "commit", "rows"} <= report.keys()
    assert report["suite"] == "tiny"
    for row in report["rows"]:
        assert row.keys() >= ROW
    undefended = [r for r in report["rows"] if r["defense"] == "none" and r["attack"].startswith("inverting")]
    assert undefended[0]["n"] == 4
    assert undefended[0]["psnr"] == undefended[0]["undefended_psnr"] > undefended[0]["floor_psnr"]


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "html"])
def test_the_other_reports_name_every_defense(says: Callable[..., str], form: str) -> None:
    out = says("report", "suite=tiny", "--format", form)
    assert "none" in out
    assert "dpsgd(sigma=0.01)" in out.replace("\\", "")


def test_a_page_with_pictures_figures_and_sources_of_a_real_run(ran: Path, says: Callable[..., str]) -> None:
    says("report", "suite=tiny", "--format", "html", "--output", "page/report.html")
    page = (ran / "page" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 9
    assert "gibench" in page
    said = says("report", "suite=tiny", "--figures", "drawn", "--figure-format", "pdf")
    drawn = sorted(path.name.partition("-")[0] for path in (ran / "drawn").glob("*.pdf"))
    assert drawn == ["distributions", "gallery", "tradeoff"]
    assert said.count("figure: drawn") == 3
    says("report", "suite=tiny", "--bibtex", "--output", "tiny.bib")
    sources = (ran / "tiny.bib").read_text()
    assert sources.startswith("% ")
    for key in ("abadi2016deep", "alpaydin1998optical", "wu2023learning"):
        assert f"{{{key},\n" in sources


def test_rows_carry_their_origin_and_all_settings(ran: Path) -> None:
    import pyarrow.parquet as pq

    path = next((ran / "runs/tiny/cells").iterdir())
    origin = json.loads(pq.read_schema(path).metadata[b"gibench"])
    assert {"commit", "dirty", "versions", "cpu", "gpu", "seconds", "cell", "tuned"} <= origin.keys()
    client = origin["cell"]["client"]
    assert client["dataset"]["checksum"].startswith("sha256:")
    assert client["model"] == {"name": "lenet", "version": 1, "convs": 2, "width": 12, "activation": "gelu"}
    assert client["seed"] == 0


def test_show_prints_a_cell_and_draws_it(ran: Path, says: Callable[..., str]) -> None:
    cell = read_results(ran / "runs/tiny").rows.cell.iloc[0]
    out = says("show", cell[:6])
    assert cell in out
    assert "psnr" in out
    assert (ran / f"runs/tiny/pictures/{cell}.png").read_bytes().startswith(b"\x89PNG")


def test_results_open_with_one_line_elsewhere(ran: Path) -> None:
    import duckdb
    import polars

    rows = read_results(ran / "runs/tiny").rows
    files = str(ran / "runs/tiny/cells/*.parquet")
    assert len(pd.read_parquet(ran / "runs/tiny/cells")) == len(rows) == 24
    assert duckdb.sql(f"select count(*) from '{files}'").fetchall() == [(24,)]
    assert polars.read_parquet(files).height == 24


def test_one_worker_gives_the_same_rows_as_two(ran: Path) -> None:
    gibench(ran, "run", "suite=tiny.toml", "workers=1", "out=single", "device=cpu")
    assert_same(ran / "runs/tiny", ran / "single")


@pytest.mark.parametrize("moment", [0.6, pytest.param(None, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_rows(ran: Path, moment: float | None) -> None:
    """SIGKILL at one moment (at ten random ones in the slow set), resumed: nothing lost, nothing different."""
    moments = [moment] if moment is not None else [random.Random(k).random() for k in range(10)]
    for number, share in enumerate(moments):
        out = f"killed-{moment}-{number}"
        command = [sys.executable, "-m", "gibench", "run", "suite=tiny.toml", f"out={out}", "workers=2", "device=cpu"]
        run = subprocess.Popen(command, cwd=ran, stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(2 + share * 12)
        os.kill(run.pid, signal.SIGKILL)  # the parent only: its workers must notice by themselves
        run.wait()
        gibench(ran, "run", "suite=tiny.toml", f"out={out}", "workers=2", "device=cpu")
        assert_same(ran / "runs/tiny", ran / out)
        assert not list((ran / out).rglob(".part-*"))


def test_damaged_and_foreign_results_are_named(ran: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(ran / "runs/tiny", tmp_path / "hurt")
    victim = sorted((tmp_path / "hurt/cells").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:100])
    assert victim.name in gibench(tmp_path, "report", "out=hurt").replace("\n", "")
    grid = json.loads((tmp_path / "hurt/grid.json").read_text())
    (tmp_path / "hurt/grid.json").write_text(json.dumps(grid | {"protocol": 99}))
    shutil.copy(ran / "tiny.toml", tmp_path)
    assert "holds results of protocol 99" in gibench(tmp_path, "run", "suite=tiny.toml", "out=hurt", check=2)


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(ran: Path) -> None:
    command = [sys.executable, "-m", "gibench", "run", "suite=tiny.toml", "out=interrupted", "workers=2", "device=cpu"]
    run = subprocess.Popen(command, cwd=ran, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    run.stdout.readline()  # it has begun
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
