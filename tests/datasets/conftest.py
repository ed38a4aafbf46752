"""No test of the datasets touches the network."""

from collections.abc import Iterator

import pytest

from gibench.datasets import files


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    def refuse(url: str, target: object) -> None:
        raise OSError("offline")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "download", refuse)
        yield
