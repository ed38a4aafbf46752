"""The suites that have expectations: a fresh run of smoke, and the committed results as they lie there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gibench.suite_files import expectations_beside, suite_files

ROOT = Path(__file__).parents[1]
EXPECTED = [name for name, path in suite_files().items() if expectations_beside(path).exists()]
COMMITTED = [name for name in EXPECTED if (ROOT / "results" / name).is_dir()]


def gibench(folder: Path, *arguments: str) -> str:
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gibench", *arguments]
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_smoke_runs_afresh_to_what_is_expected(tmp_path: Path) -> None:
    gibench(tmp_path, "run", "suite=smoke", "workers=1", "device=cpu", "out=fresh")
    assert "as expected" in gibench(tmp_path, "check", "suite=smoke", "out=fresh")


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_results_are_what_was_accepted(tmp_path: Path, name: str) -> None:
    out = gibench(tmp_path, "check", f"suite={name}", f"out={ROOT / 'results' / name}")
    assert "as expected" in out
    assert "moved" not in out


def test_there_is_something_to_check() -> None:
    assert "smoke" in EXPECTED
    assert COMMITTED
