"""Inverse networks on updates: behind a search, and on features read off the last layer."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.attacks.inverse_network import InverseNetwork, _features
from gibench.datasets import Parts
from gibench.defenses.latent_perturb import LatentPerturb
from gibench.draws import Draws
from gibench.engine.labels import head
from gibench.registry import build
from gibench.types import Images


def test_the_features_are_what_enters_the_last_layer(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 6, 1)
    entered = torch.nn.functional.normalize(net[:-1](batch.x.flatten(0, 1)).detach(), dim=1)
    for defense, nearness in (("none", 1 - 1e-5), ("prune(p=0.5)", 0.8)):
        view = seen(net, batch, 10, build("defenses", defense), labels=False)
        assert (_features(view) * entered).sum(1).min() > nearness, defense
    unshared = replace(view, update=seen(net, batch, 10).update | {f"{head(net)}.bias": None})
    assert (_features(unshared) * entered).sum(1).min() > 1 - 1e-5


@pytest.mark.slow
def test_features_alone_give_away_more_than_the_mean_image_and_less_under_noise(digits: Parts) -> None:
    batch, net, errors = held(digits.test, 32, 1), net_of("lenet", 1, 10), []
    for defense in ("none", "dpsgd(sigma=0.003)", "dpsgd(sigma=0.1)"):
        view = seen(net, batch, 10, build("defenses", defense), labels=False, aux=digits.aux)
        guess = InverseNetwork(at="features", epochs=20).answer(view, Draws(("attack",), range(32)))
        errors.append(float((guess.x - batch.x).square().mean()))
    floor = float((batch.x - digits.aux.x.mean(0)).square().mean())
    assert errors[0] < 0.25 * floor
    assert errors == sorted(errors)
    assert errors[2] > 2 * errors[0]


@pytest.mark.slow
def test_it_undoes_what_a_defense_does_to_images(digits: Parts, few_aux: Images, fitted_latent: LatentPerturb) -> None:
    batch = held(digits.test, 8, 1)
    view = seen(net_of("lenet", 1, 10), batch, 10, fitted_latent, aux=few_aux)
    view = replace(view, studied=fitted_latent.study(few_aux, Draws(("study",))))
    draws = Draws(("attack",), range(8))
    guess = InverseNetwork(tv=1e-2, steps=200).reconstruct(view, draws)
    view = replace(view, defense=build("defenses", "none"))
    plain = AdaptiveMatching(tv=1e-2, steps=200).reconstruct(view, draws)
    mine, theirs = ((g.x - batch.x).square().mean() for g in (guess, plain))
    assert mine < 0.8 * theirs


def test_without_a_defense_on_images_it_is_adaptive_matching(digits: Parts, few_aux: Images) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, build("defenses", "prune(p=0.9)"), aux=few_aux)
    draws = Draws(("attack",), range(2))
    one = InverseNetwork(tv=1e-2, steps=10).reconstruct(view, draws)
    assert torch.equal(one.x, AdaptiveMatching(tv=1e-2, steps=10).reconstruct(view, draws).x)


@pytest.mark.parametrize("size", [1.0, 1e-20, 1e-30, 1e-40])
def test_features_are_read_off_however_small_the_gradient_is(digits: Parts, size: float) -> None:
    """A confident example's gradient is so small that its square vanishes in single precision."""
    net = net_of("lenet", 1, 10)
    view = seen(net, held(digits.test, 3, 1), 10)
    plain = _features(view)
    update = {name: None if g is None else g * size for name, g in view.update.items()}
    found = _features(replace(view, update=update))
    assert found.isfinite().all()
    assert (found * plain).sum(1).min() > 0.99
