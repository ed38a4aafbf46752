"""Learning to invert, on digits."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen

from gibench.attacks.lti import LearningToInvert
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.assignment import match_images
from gibench.registry import build
from gibench.types import Images, View


def scene(digits: Parts, v: int, b: int, defense: str = "none", model: str = "lenet", images: int = 539) -> View:
    batch, aux = held(digits.test, v, b), Images(digits.aux.x[:images], digits.aux.y[:images])
    return seen(net_of(model, 1, 10), batch, 10, build("defenses", defense), labels=False, aux=aux)


def error(digits: Parts, view: View, x: torch.Tensor) -> float:
    truth = held(digits.test, len(x), view.shape[0]).x
    order = match_images(truth, x)
    return float((torch.stack([g[o] for g, o in zip(x, order, strict=True)]) - truth).square().mean())


def floor(digits: Parts, v: int, b: int) -> float:
    return float((held(digits.test, v, b).x - digits.aux.x.mean(0)).square().mean())


def test_it_knows_far_more_than_the_mean_image(digits: Parts) -> None:
    view = scene(digits, 32, 1)
    guess = LearningToInvert().reconstruct(view, Draws(("attack",), range(32)))
    assert error(digits, view, guess.x) <= 0.6 * floor(digits, 32, 1)
    assert torch.equal(guess.labels, held(digits.test, 32, 1).y)
    assert guess.x.min() >= 0
    assert guess.x.max() <= 1


@pytest.mark.parametrize("defense", ["none", "dpsgd(sigma=0.01)"])
def test_it_repeats_and_does_not_depend_on_who_shares_the_chunk(digits: Parts, defense: str) -> None:
    view, attack = scene(digits, 8, 1, defense, "lenet(width=4)", 128), LearningToInvert(epochs=2)
    one = attack.reconstruct(view, Draws(("attack",), range(8)))
    again = attack.reconstruct(view, Draws(("attack",), range(8)))
    assert torch.equal(one.x, again.x)
    four = attack.reconstruct(replace(view, update=rows(view.update, 0, 4)), Draws(("attack",), range(4)))
    assert torch.allclose(one.x[:4], four.x, atol=1e-5)
    last = attack.reconstruct(replace(view, update=rows(view.update, 6, 8)), Draws(("attack",), (6, 7)))
    assert torch.allclose(one.x[6:], last.x, atol=1e-5)
    other = attack.reconstruct(view, Draws(("another",), range(8)))
    assert not torch.allclose(one.x, other.x, atol=1e-3)


def test_two_images_of_a_batch_are_told_apart(digits: Parts) -> None:
    view = scene(digits, 16, 2)
    guess = LearningToInvert().reconstruct(view, Draws(("attack",), range(16)))
    assert guess.x.shape == (16, 2, 1, 32, 32)
    assert error(digits, view, guess.x) <= 0.9 * floor(digits, 16, 2)
    assert (guess.x[:, 0] - guess.x[:, 1]).square().mean() > 0.2 * floor(digits, 16, 2)


def test_the_auxiliary_images_and_the_model_are_left_alone(digits: Parts) -> None:
    view = scene(digits, 2, 1)
    before = {k: p.clone() for k, p in view.model.state_dict().items()}
    x = digits.aux.x.clone()
    LearningToInvert(epochs=1).reconstruct(view, Draws(("attack",), range(2)))
    assert torch.equal(digits.aux.x, x)
    assert all(torch.equal(before[k], p) for k, p in view.model.state_dict().items())
