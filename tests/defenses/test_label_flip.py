"""Randomised response: the channel, that images stay, and that the attacker matches the labels trained on."""

import pytest
import torch
from pydantic import ValidationError
from scene import held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.label_flip import LabelFlip
from gibench.draws import Draws
from gibench.engine.labels import matched_labels
from gibench.engine.objective import Objective, Plan
from gibench.errors import InputError
from gibench.message import transmitted
from gibench.registry import build
from gibench.types import Batch


@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 1.0])
def test_the_channel_is_that_of_randomised_response(p: float, digits: Parts) -> None:
    n, classes = 4000, 10
    defense = LabelFlip(p=p).fit(digits.aux, Draws(("fit",)))
    y = torch.arange(classes).expand(2, n, classes).flatten(1)  # each class n times for each of two victims
    batch = Batch(torch.zeros(2, n * classes, 1, 1, 1), y)
    sent = defense.images(batch, Draws(("m",), range(2)))
    assert sent.x is batch.x
    counts = torch.zeros(classes, classes).index_put((y.flatten(), sent.y.flatten()), torch.tensor(1.0), True)
    channel = counts / (2 * n)
    expected = torch.full_like(channel, p / (classes - 1)).fill_diagonal_(1 - p)
    error = (expected * (1 - expected) / (2 * n)).sqrt()
    assert ((channel - expected).abs() <= 4 * error).all()
    if 0 < p < 1:
        assert not torch.equal(sent.y[0], sent.y[1])


@pytest.mark.parametrize("labels", [True, False])
def test_the_attacker_matches_the_labels_that_were_trained_on(labels: bool, digits: Parts) -> None:
    defense, batch = LabelFlip(p=1.0).fit(digits.aux, Draws(("fit",))), held(digits.test, 8, 1, torch.float64)
    view = seen(net_of("lenet", 1, 10).double(), batch, 10, defense, labels=labels)
    sent = transmitted(defense, batch, Draws(("test message",), range(8)).at(0))
    assert not (sent.y == batch.y).any()
    match = defense.match(view)
    matched = matched_labels(match, view)
    assert torch.equal(matched, sent.y)
    objective = Objective(view, Plan(match, matched))
    object.__setattr__(objective, "_signal", None)  # cross-entropy, which needs the right label
    assert objective(batch.x, matched, Draws(("a",), range(8))).max() < 1e-6
    assert objective(batch.x, batch.y, Draws(("a",), range(8))).min() > 0.01


def test_tests_and_mistakes(digits: Parts) -> None:
    defense, batch = LabelFlip(p=1.0).fit(digits.aux, Draws(("fit",))), held(digits.test, 3, 1)
    assert defense.inference(batch, Draws(("i",), range(3))) is batch
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValidationError):
            LabelFlip(p=wrong)
    backwards = build("defenses", "mixup + label_flip").fit(digits.aux, Draws(("fit",)))
    with pytest.raises(InputError, match="write it before"):
        backwards.images(batch, Draws(("m",), range(3)))
    forwards = build("defenses", "label_flip(p=0.5) + mixup").fit(digits.aux, Draws(("fit",)))
    assert forwards.images(batch, Draws(("m",), range(3))).y.shape == (3, 1, 10)
