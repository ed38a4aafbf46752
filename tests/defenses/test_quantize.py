"""Quantisation: few magnitudes, the right mean, and a simulation that has a slope."""

from dataclasses import replace

import pytest
import torch
from scene import flat, held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.quantize import Quantize, soft_signs
from gibench.draws import Draws
from gibench.engine.labels import labels_of
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.types import Update, same_update


def gradient(digits: Parts, v: int) -> Update:
    return mean_gradient(net_of("lenet(width=6)", 1, 10), held(digits.test, v, 1))


@pytest.mark.parametrize("s", [1, 3, 15])
def test_qsgd_has_few_magnitudes_and_keeps_the_largest(s: int, digits: Parts) -> None:
    plain = gradient(digits, 3)
    sent = Quantize(levels=s).message(plain, Draws(("m",), range(3)), {})
    for name, g in plain.items():
        for before, after in zip(g.flatten(1), sent[name].flatten(1), strict=True):
            top = before.abs().max()
            place = after.abs() / top * s
            assert (place - place.round()).abs().max() < 1e-3
            assert len(place.round().unique()) <= s + 1
            assert after.abs().max() == pytest.approx(float(top))
            assert ((after - before).abs() <= top / s * (1 + 1e-4)).all()
            assert (after * before >= 0).all()


@pytest.mark.parametrize("s", [1, 7])
def test_qsgd_is_right_on_average(s: int, digits: Parts) -> None:
    g = gradient(digits, 1)["1.weight"].double()
    many = g.expand(4000, *g.shape[1:])
    sent = Quantize(levels=s).message({"a": many}, Draws(("m",), range(4000)), {})["a"].flatten(1)
    error, entries = sent.mean(0) - g.flatten(), g.numel()
    assert (error.abs() > 4 * sent.std(0) / 4000**0.5 + 1e-9).sum() <= 1 + entries / 1000
    assert sent.std(0).max() > 0.1 * float(g.abs().max()) / s


def test_sign_has_one_magnitude_per_layer(digits: Parts) -> None:
    plain = gradient(digits, 3)
    sent = Quantize(mode="sign").message(plain, Draws(("m",), range(3)), {})
    for name, g in plain.items():
        for before, after in zip(g.flatten(1), sent[name].flatten(1), strict=True):
            assert torch.equal(after.sign(), torch.where(before < 0, -1.0, 1.0))
            assert torch.allclose(after.abs(), before.abs().mean().expand_as(after), rtol=1e-5)


def test_what_it_costs_to_send(digits: Parts) -> None:
    plain = gradient(digits, 3)
    n, layers = flat(plain).shape[1], len(plain)
    for defense, bits in [(Quantize(levels=1), 2), (Quantize(levels=7), 4), (Quantize(levels=255), 9)]:
        assert defense.upload_bytes(plain) == n * bits / 8 + 4 * layers
    assert Quantize(mode="sign").upload_bytes(plain) == n / 8 + 4 * layers


def test_a_layer_of_zeros_stays_one() -> None:
    zero = {"a": torch.zeros(2, 5)}
    for mode in ("sign", "qsgd"):
        assert (Quantize(mode=mode).message(zero, Draws(("m",), range(2)), {})["a"] == 0).all()


def test_ever_sharper_tanh_are_the_signs_that_were_sent(digits: Parts) -> None:
    plain = gradient(digits, 3)
    sent = flat(Quantize(mode="sign").message(plain, Draws(("m",), range(3)), {}))
    apart = [
        float((flat(soft_signs(plain, Draws(("a",)), sharp)) - sent).norm() / sent.norm())
        for sharp in (1.0, 20.0, 1e3, 1e9)
    ]
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-2


@pytest.mark.parametrize("mode", ["sign", "qsgd"])
def test_the_true_image_explains_the_message_best_and_better_than_without_knowing(mode: str, digits: Parts) -> None:
    net, batch, defense = net_of("lenet", 1, 10), held(digits.test, 4, 1), Quantize(mode=mode, levels=3)
    view, draws = seen(net, batch, 10, defense), Draws(("a",), range(4))
    match = defense.match(view)
    known, blind = (Objective(view, Plan(m, batch.y)) for m in (match, replace(match, transform=same_update)))
    true, near = (known.distance(x, batch.y, draws) for x in (batch.x, batch.x.roll(4, -1)))
    assert (true < near).all()
    assert (true < blind.distance(batch.x, batch.y, draws)).all()


@pytest.mark.parametrize("mode", ["sign", "qsgd"])
def test_one_images_label_is_still_found(mode: str, digits: Parts) -> None:
    batch = held(digits.test, 32, 1)
    view = seen(net_of("lenet", 1, 10), batch, 10, Quantize(mode=mode, levels=1), labels=False)
    assert torch.equal(labels_of(view, view.update), batch.y)
