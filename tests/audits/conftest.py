"""A few trained clients in a folder, for audits to look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gibench.audits import Subject
from gibench.cell import run_client
from gibench.draws import Draws
from gibench.examine import subject_of
from gibench.grid import Client
from gibench.registry import build
from gibench.store import Store
from gibench.suite import Training

TRAINING = Training(clients=32, epochs=2)


def client(defense: str = "none", model: str = "lenet(width=4)", **changes: object) -> Client:
    given = {"seed": 0, "training": TRAINING, "client_images": 400, "aux_images": 100} | changes
    return Client(build("datasets", "digits"), build("models", model), build("defenses", defense), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Subject]:
    """What a client of `conftest.client` left; each is trained once."""
    store = Store(tmp_path_factory.mktemp("audited"))
    known: dict[str, Subject] = {}

    def found(defense: str = "none", model: str = "lenet(width=4)") -> Subject:
        one = client(defense, model)
        if one.id not in known:
            run_client(one, store, "cpu")
            known[one.id] = subject_of(one, store, "cpu", Draws(("test inference",)))
        return known[one.id]

    return found
