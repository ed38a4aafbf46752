"""Real images that are available offline everywhere, and one fitted latent defense."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from gibench.datasets import Parts
from gibench.defenses.latent_perturb import LatentPerturb
from gibench.draws import Draws
from gibench.machine import keep_freed_memory
from gibench.registry import build
from gibench.types import Images

keep_freed_memory()  # as workers do


@pytest.fixture(scope="session")
def digits() -> Parts:
    return build("datasets", "digits").load()


@pytest.fixture(scope="session")
def ihc() -> Parts:
    return build("datasets", "ihc").load()


@pytest.fixture(scope="session")
def few_aux(digits: Parts) -> Images:
    """Auxiliary images enough for a tiny fit."""
    return Images(digits.aux.x[:256], digits.aux.y[:256])


@pytest.fixture(scope="session")
def fitted_latent(few_aux: Images) -> LatentPerturb:
    """latent_perturb at default settings but for its length, learned on a few digits."""
    return LatentPerturb(autoencoder_epochs=10).fit(few_aux, Draws(("test fit",)))


@pytest.fixture(autouse=True)
def _global_generator_untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing in gibench draws from the global generator; tests of datasets seed it on purpose."""
    before = torch.random.get_rng_state()
    yield
    if request.path.parent.name != "datasets":
        assert torch.equal(torch.random.get_rng_state(), before), "the global torch generator was used"
