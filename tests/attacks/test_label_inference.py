"""What inferred labels alone give away, on digits."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks.label_inference import LabelInference
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.types import Local, View


def scene(digits: Parts, v: int, b: int, local: Local | None = None) -> View:
    return seen(net_of("lenet", 1, 10), held(digits.test, v, b), 10, labels=False, aux=digits.aux, local=local)


@pytest.mark.parametrize("local", [None, Local(2, 0.01, 0.0)])
def test_it_answers_with_the_mean_image_of_the_true_class(digits: Parts, local: Local | None) -> None:
    view = scene(digits, 12, 1, local)
    guess = LabelInference().answer(view, Draws(("attack",), range(12)))
    truth = held(digits.test, 12, 1).y
    assert torch.equal(guess.labels, truth)
    means = torch.stack([digits.aux.x[digits.aux.y == c].mean(0) for c in truth.flatten()])
    assert torch.allclose(guess.x.squeeze(1), means)
    assert guess.loss.isfinite().all()


def test_given_labels_are_not_read(digits: Parts) -> None:
    view = scene(digits, 4, 1)
    lied = replace(view, labels=9 - held(digits.test, 4, 1).y)
    draws = Draws(("attack",), range(4))
    assert torch.equal(LabelInference().answer(lied, draws).labels, LabelInference().answer(view, draws).labels)


def test_rules_differ_where_labels_repeat(digits: Parts) -> None:
    batch = held(digits.test, 8, 8)
    view, draws = scene(digits, 8, 8), Draws(("attack",), range(8))
    counted = LabelInference(rule="ilrg").answer(view, draws).labels.sort(1).values
    distinct = LabelInference(rule="yin").answer(view, draws).labels
    assert torch.equal(counted, batch.y.sort(1).values)
    assert all(len(set(row)) == 8 for row in distinct.tolist())


def test_a_class_without_auxiliary_images_gets_the_mean_of_all(digits: Parts) -> None:
    view = scene(digits, 12, 1)
    kept = digits.aux.y != 6
    view = replace(view, aux=replace(digits.aux, x=digits.aux.x[kept], y=digits.aux.y[kept]))
    guess = LabelInference().answer(view, Draws(("attack",), range(12)))
    six = (guess.labels == 6).squeeze(1)
    assert six.any()
    assert torch.allclose(guess.x[six], digits.aux.x[kept].mean(0).expand_as(guess.x[six]))


def test_a_rule_that_cannot_hold_is_refused_by_name(digits: Parts) -> None:
    with pytest.raises(InputError, match="label_inference: rule idlg works on one image per message, not 8"):
        LabelInference(rule="idlg").answer(scene(digits, 2, 8), Draws(("attack",), range(2)))
