"""A few trained clients in a folder, for audits to look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from trained import client

from gibench.audits import Subject
from gibench.cell import run_client
from gibench.draws import Draws
from gibench.examine import subject_of
from gibench.store import Store


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Subject]:
    """What a client of `trained.client` left; each is trained once."""
    store = Store(tmp_path_factory.mktemp("audited"))
    known: dict[str, Subject] = {}

    def found(defense: str = "none", model: str = "lenet(width=4)") -> Subject:
        one = client(defense, model)
        if one.id not in known:
            run_client(one, store, "cpu")
            known[one.id] = subject_of(one, store, "cpu", Draws(("test inference",)))
        return known[one.id]

    return found
