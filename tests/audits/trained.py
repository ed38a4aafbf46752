"""Small clients for audits to look at."""

from __future__ import annotations

from gibench.grid import Client
from gibench.registry import build
from gibench.suite import Training

TRAINING = Training(clients=32, epochs=2)


def client(defense: str = "none", model: str = "lenet(width=4)", **changes: object) -> Client:
    given = {"seed": 0, "training": TRAINING, "client_images": 400, "aux_images": 100} | changes
    return Client(build("datasets", "digits"), build("models", model), build("defenses", defense), **given)  # type: ignore[arg-type]
