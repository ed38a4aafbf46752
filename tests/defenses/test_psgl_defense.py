"""PSGL as a defense: what leaves the client is the altered image, in training and in use, whatever the label."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.psgl import PSGL
from gibench.draws import Draws
from gibench.learned.surrogate import with_weights
from gibench.message import make_activations, make_message
from gibench.registry import build
from gibench.split import smashed
from gibench.systems.psgl import sensitivity
from gibench.types import ACTIVATIONS, Batch, Images

DRAWS = Draws(("psgl",), range(4))


@pytest.fixture(scope="module")
def psgl(few_aux: Images) -> PSGL:
    return PSGL(strength=0.2, epochs=3).fit(few_aux, Draws(("test fit",)))


def test_the_map_is_in_what_is_sent(psgl: PSGL, digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 4, 1)
    shown = psgl.images(batch, DRAWS).x
    change = (shown - batch.x).flatten(1)
    assert change.min() >= 0
    assert (change.amax(1) > 0.1).all()
    assert change.max() <= 0.2 + 1e-6
    sent = make_activations(net, psgl, batch, DRAWS, 1)[ACTIVATIONS]
    assert torch.equal(sent.flatten(0, 1), smashed(net, shown.flatten(0, 1), 1).detach())
    assert not torch.allclose(sent.flatten(0, 1), smashed(net, batch.x.flatten(0, 1), 1), atol=0.01)
    plain = make_message(net, build("defenses", "none"), Batch(shown, batch.y), DRAWS)
    assert all(torch.equal(g, plain[name]) for name, g in make_message(net, psgl, batch, DRAWS).items())


def test_it_follows_what_the_public_classifier_relies_on(psgl: PSGL, digits: Parts) -> None:
    """Only pixels are raised that lower the classifier's own decision."""
    batch = held(digits.test, 4, 1)
    x = batch.x.flatten(0, 1)
    net = with_weights({k: t for k, t in psgl.state.items() if k != "classes"}, "lenet", 1, 32, 10)
    assert (net(digits.test.x).argmax(1) == digits.test.y).float().mean() > 0.5
    pull = sensitivity(net, x, net(x).argmax(1))
    changed = psgl.shown(batch.x).flatten(0, 1) - x > 1e-6
    assert (pull[changed] < 0).all()
    assert changed.any()


def test_labels_and_neighbours_do_not_matter_and_use_is_as_training(psgl: PSGL, digits: Parts) -> None:
    batch = held(digits.test, 4, 2)
    shown = psgl.images(batch, DRAWS).x
    assert torch.equal(shown, psgl.images(replace(batch, y=9 - batch.y), DRAWS).x)
    assert torch.equal(shown, psgl.inference(batch, DRAWS).x)
    alone = psgl.images(Batch(batch.x[1:2, :1], batch.y[1:2, :1]), DRAWS).x
    assert torch.allclose(alone[0, 0], shown[1, 0], atol=1e-5)


def test_strength_is_the_distortion_and_none_is_none(psgl: PSGL, digits: Parts) -> None:
    batch = held(digits.test, 16, 1)
    apart = [float((psgl.at(s).images(batch, DRAWS).x - batch.x).square().mean()) for s in psgl.sweep]
    assert apart[0] == 0
    assert apart == sorted(apart)
    assert len(set(apart)) == len(apart)


def test_the_adaptive_attack_makes_the_same_map_with_a_gradient(psgl: PSGL, digits: Parts) -> None:
    batch = held(digits.test, 3, 1)
    match = psgl.match(seen(net_of("lenet", 1, 10), batch, 10, psgl, cut=1))
    x = batch.x.clone().requires_grad_()
    shown = match.input_map(x, DRAWS)
    assert torch.allclose(shown, psgl.images(batch, DRAWS).x, atol=1e-6)
    (slope,) = torch.autograd.grad(shown.sum(), x)
    assert torch.equal(slope, torch.ones_like(x))
