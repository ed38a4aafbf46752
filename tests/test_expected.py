"""The suites that have expectations: a fresh run of smoke, and the committed results as they lie there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gibench.cli import app
from gibench.suite_files import expectations_beside, suite_files

ROOT = Path(__file__).parents[1]
EXPECTED = [name for name, path in suite_files().items() if expectations_beside(path).exists()]
COMMITTED = [name for name in EXPECTED if (ROOT / "results" / name).is_dir()]


def gibench(folder: Path, *arguments: str, code: int = 0) -> str:
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gibench", *arguments]
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_smoke_runs_afresh_to_what_is_expected(tmp_path: Path) -> None:
    gibench(tmp_path, "run", "suite=smoke", "workers=1", "device=cpu", "out=fresh")
    assert "as expected" in gibench(tmp_path, "check", "suite=smoke", "out=fresh")


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_results_are_what_was_accepted(name: str) -> None:
    done = CliRunner().invoke(app, ["check", f"suite={name}", f"out={ROOT / 'results' / name}"])
    assert done.exit_code == 0, done.output
    assert "\nas expected" in done.output
    assert "moved" not in done.output


def test_there_is_something_to_check() -> None:
    assert "smoke" in EXPECTED
    assert COMMITTED


def test_a_suite_of_ones_own_is_accepted_once_and_guarded_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gibench(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, done.output
        return done.output

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(f'name = "quick"\n{(ROOT / "suites/quick.toml").read_text()}')
    where = ("check", "suite=mine.toml", f"out={ROOT / 'results' / 'quick'}")
    assert "accepted: 40 numbers of 64 cells in mine.expected.toml" in gibench(*where, "--accept", "--yes")
    expected = tmp_path / "mine.expected.toml"
    accepted = expected.read_text()
    assert "as expected" in gibench(*where)
    expected.write_text(
        accepted.replace("value = 33.", "value = 77.")
        .replace("high = 34.", "high = 78.")
        .replace("low = 33.", "low = 76.")
    )
    assert "NOT as expected" in gibench(*where, code=1)
    again = gibench(*where, "--accept", "--yes")
    assert "moved" in again
    assert expected.read_text() == accepted, "tolerances and numbers are those of the results again"


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_on_a_terminal_it_asks_before_it_writes(tmp_path: Path, answer: str, code: int) -> None:
    pty = pytest.importorskip("pty", reason="there are pseudo-terminals on POSIX alone")
    (tmp_path / "mine.toml").write_text(f'name = "quick"\n{(ROOT / "suites/quick.toml").read_text()}')
    command = [sys.executable, "-m", "gibench", "check", "suite=mine.toml", f"out={ROOT / 'results' / 'quick'}"]
    terminal, theirs = pty.openpty()
    with subprocess.Popen([*command, "--accept"], cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE, text=True) as run:
        os.write(terminal, f"{answer}\n".encode())
        assert run.stdout is not None
        said = run.stdout.read()
    os.close(terminal)
    os.close(theirs)
    assert run.returncode == code
    assert "write 40 numbers to mine.expected.toml? [y/N]" in said
    assert (tmp_path / "mine.expected.toml").exists() == (answer == "y")
