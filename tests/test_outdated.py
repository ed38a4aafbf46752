"""Results of other settings than the suite now has are told from results that speak for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gibench.outdated import outdated
from gibench.store import Store
from gibench.suite import load_suite

QUICK = Store(Path(__file__).parents[1] / "results/quick")


def test_what_the_suite_would_run_now_is_up_to_date() -> None:
    assert outdated(load_suite("quick"), QUICK) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"victims": 31}, "has 72 jobs to run"),
        ({"training.epochs": 2}, "jobs to run, first train ihc lenet none"),
        ({"defenses": ["none", "dpsgd(sigma=0.02)"]}, "has 20 jobs to run"),
        ({"defenses": ["none"]}, "does not ask for 48 cells, first prior_only on prune(p=0.9)"),
        ({"version": 99}, "version 99 now, these results are of version 1"),
    ],
)
def test_what_it_would_not_run_as_it_lies_there_is_told(changed: dict[str, Any], says: str) -> None:
    (problem,) = outdated(load_suite("quick", changed), QUICK)
    assert says in problem
