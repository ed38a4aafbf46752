"""A VAE as prior, on digits."""

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks.inverting_gradients import InvertingGradients
from gibench.attacks.vae_prior import VaePrior
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.surrogate import PUBLIC
from gibench.learned.vae import learn_vae
from gibench.metrics.psnr import PSNR
from gibench.registry import build
from gibench.types import Batch, Guess, Images, View

V = 8


def scene(digits: Parts, defense: str) -> tuple[View, Batch]:
    batch = held(digits.test, V, 1)
    return seen(net_of("lenet", 1, 10), batch, 10, build("defenses", defense), aux=digits.aux), batch


def quality(batch: Batch, guess: Guess) -> torch.Tensor:
    return PSNR().compare(batch.x.flatten(0, 1), guess.x.flatten(0, 1))


@pytest.mark.slow
def test_after_the_first_stage_the_image_lies_in_the_decoders_range(few_aux: Images, digits: Parts) -> None:
    """The VAE is learned again from the same streams; z is then found for the answer, which only its range allows."""
    view, _ = scene(Parts(digits.client, few_aux, digits.val, digits.tune, digits.test), "none")
    attack = VaePrior(latent=8, epochs=25, latent_steps=60, steps=0, tv=0, near=0)
    guess = attack.reconstruct(view, Draws(("attack",), range(V)))
    vae = learn_vae(few_aux.x, PUBLIC, 8, 25)
    z = vae.encode(guess.x.squeeze(1))[0].requires_grad_()
    search = torch.optim.LBFGS([z], max_iter=300, line_search_fn="strong_wolfe")

    def error() -> torch.Tensor:
        search.zero_grad()
        apart = (vae.decode(z) - guess.x.squeeze(1)).square().mean()
        apart.backward()
        return apart

    search.step(error)
    assert float(error().detach()) < 1e-5
    spread = float((guess.x - guess.x.mean(0)).square().mean())
    assert spread > 1e-3, "one image would lie in any range"


@pytest.mark.slow
def test_at_ninety_percent_pruning_it_beats_matching_without_a_prior(digits: Parts) -> None:
    view, batch = scene(digits, "prune(p=0.9)")
    draws = Draws(("attack",), range(V))
    mine = quality(batch, VaePrior(epochs=40, tv=1e-2, near=0.03, steps=200, latent_steps=150).reconstruct(view, draws))
    for tv in (1e-2, 0.1, 1.0):
        other = quality(batch, InvertingGradients(steps=350, tv=tv).reconstruct(view, draws))
        assert (mine > other + 3).all(), tv
