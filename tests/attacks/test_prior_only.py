"""The floor knows nothing of the update."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.registry import build
from gibench.types import Images, View


@pytest.fixture
def view(digits: Parts) -> View:
    return seen(net_of("lenet", 1, 10), held(digits.test, 6, 2), 10, aux=digits.aux)


DRAWS = Draws(("attack",), range(6))


@pytest.mark.parametrize("mode", ["class_mean", "mean"])
@pytest.mark.parametrize("labels", [True, False])
def test_two_updates_give_the_same_bytes(view: View, mode: str, labels: bool) -> None:
    attack = build("attacks", f'prior_only(mode="{mode}")')
    view = view if labels else replace(view, labels=None)
    other = replace(view, update={k: 1 - 3 * g for k, g in view.update.items()}, model=net_of("lenet", 1, 10, seed=1))
    one, two = attack.reconstruct(view, DRAWS), attack.reconstruct(other, Draws(("another",), range(6)))
    assert torch.equal(one.x, two.x)
    assert torch.equal(one.labels, two.labels)
    assert one.x.shape == (6, 2, 1, 32, 32)
    assert one.loss.isfinite().all()
    assert one.steps == 0


def test_it_answers_the_mean_auxiliary_image_of_the_given_class(view: View, digits: Parts) -> None:
    guess = build("attacks", "prior_only").reconstruct(view, DRAWS)
    assert torch.equal(guess.labels, view.labels)
    for victim, labels in zip(guess.x, view.labels, strict=True):
        for image, label in zip(victim, labels, strict=True):
            assert torch.allclose(image, digits.aux.x[digits.aux.y == label].mean(0), atol=1e-6)


def test_without_labels_it_answers_the_mean_and_the_commonest_label(view: View, digits: Parts) -> None:
    guess = build("attacks", "prior_only").reconstruct(replace(view, labels=None), DRAWS)
    assert torch.allclose(guess.x, digits.aux.x.mean(0).expand_as(guess.x), atol=1e-6)
    assert set(guess.labels.flatten().tolist()) == {int(digits.aux.y.bincount().argmax())}
    by_mean = build("attacks", 'prior_only(mode="mean")').reconstruct(view, DRAWS)
    assert torch.equal(by_mean.x, guess.x)


def test_a_class_without_auxiliary_images_gets_the_mean_of_all(view: View, digits: Parts) -> None:
    kept = digits.aux.y != view.labels[0, 0]
    aux = Images(digits.aux.x[kept], digits.aux.y[kept])
    guess = build("attacks", "prior_only").reconstruct(replace(view, aux=aux), DRAWS)
    assert torch.allclose(guess.x[0, 0], aux.x.mean(0), atol=1e-6)
