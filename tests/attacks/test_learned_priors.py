"""What all attacks with a learned prior keep to, each at its smallest settings, on digits."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen

from gibench.attacks import Attack
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.registry import build
from gibench.types import Images, Local, View

SMALL = [
    "vae_prior(epochs=1, latent_steps=3, steps=3, tv=1e-3, near=0.1)",
    'gan_prior(epochs=1, steps=3, refine=3, variant="gias")',
    'gan_prior(epochs=1, steps=3, refine=3, variant="gifd")',
    'gan_prior(epochs=1, steps=3, variant="ggl")',
    "rog(pairs=16, steps=3, epochs=1)",
    "inverse_network(steps=3, epochs=1, tv=1e-3)",
    'inverse_network(at="features", epochs=10)',
    "denoised_matching(steps=3, epochs=1, tv=1e-3, denoise=0.3)",
]


def scene(digits: Parts, v: int, defense: str = "none", b: int = 1, local: Local | None = None) -> View:
    aux = Images(digits.aux.x[:64], digits.aux.y[:64])
    net = net_of("lenet(width=4)", 1, 10)
    return seen(net, held(digits.test, v, b), 10, build("defenses", defense), labels=False, aux=aux, local=local)


def of(spec: str) -> Attack:
    return build("attacks", spec)


@pytest.mark.parametrize("spec", SMALL)
@pytest.mark.parametrize("defense", ["none", "dpsgd(sigma=0.01)"])
def test_it_repeats_and_does_not_depend_on_who_shares_the_chunk(digits: Parts, spec: str, defense: str) -> None:
    view, attack = scene(digits, 4, defense), of(spec)
    whole = attack.answer(view, Draws(("attack",), range(4)))
    assert torch.equal(whole.x, attack.answer(view, Draws(("attack",), range(4))).x)
    last = attack.answer(replace(view, update=rows(view.update, 2, 4)), Draws(("attack",), (2, 3)))
    assert torch.allclose(whole.x[2:], last.x, atol=2e-3)
    assert whole.x.min() >= 0
    assert whole.x.max() <= 1
    assert whole.loss.isfinite().all()
    assert whole.x.std(0).max() > 1e-3, "every victim got the same answer"


@pytest.mark.parametrize("spec", [s for s in SMALL if "ggl" not in s and "features" not in s])
@pytest.mark.parametrize("local", [None, Local(2, 0.01, 0.0)])
def test_a_batch_of_two_and_a_weight_change_are_taken(digits: Parts, spec: str, local: Local | None) -> None:
    view = scene(digits, 2, "prune(p=0.5)", 2, local)
    guess = of(spec).answer(view, Draws(("attack",), range(2)))
    assert guess.x.shape == (2, 2, 1, 32, 32)
    assert guess.loss.isfinite().all()


@pytest.mark.parametrize("spec", [s for s in SMALL if "ggl" in s or "features" in s])
def test_one_that_takes_single_images_says_so(spec: str) -> None:
    assert "2" in of(spec).unfit(net_of("lenet", 1, 10), 2, "gradient")
    assert of(spec).unfit(net_of("lenet", 1, 10), 1, "gradient") == ""


@pytest.mark.parametrize("spec", SMALL)
def test_model_and_auxiliary_images_are_left_alone(digits: Parts, spec: str) -> None:
    view = scene(digits, 2)
    weights = {k: p.clone() for k, p in view.model.state_dict().items()}
    x = digits.aux.x.clone()
    of(spec).answer(view, Draws(("attack",), range(2)))
    assert torch.equal(digits.aux.x, x)
    assert all(torch.equal(weights[k], p) for k, p in view.model.state_dict().items())
    assert all(p.grad is None for p in view.model.parameters())


def test_every_candidate_is_rehearsed_as_if_it_were_alone(digits: Parts) -> None:
    view, draws = scene(digits, 2), Draws(("attack",), range(2))
    attack = of("vae_prior(epochs=1, latent_steps=5, steps=5)")
    candidates = [{"tv": 1e-3, "near": 0.0}, {"tv": 10.0, "near": 1.0}]
    guesses = attack.rehearse(view, candidates, draws)
    for chosen, guess in zip(candidates, guesses, strict=True):
        alone = replace(attack, **chosen).reconstruct(view, draws)
        assert torch.allclose(guess.x, alone.x, atol=1e-3)
    assert not torch.allclose(guesses[0].x, guesses[1].x, atol=1e-2)
