"""Labels read off the last layer, for real images."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen
from torch import Tensor

from gibench.attacks.labels import head, labels_of
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.types import Batch, View


def inferred(view: View) -> Tensor:
    return labels_of(replace(view, labels=None), view.update)


def overlap(truth: Tensor, guess: Tensor, classes: int) -> float:
    shares = [
        float(torch.minimum(t.bincount(minlength=classes), g.bincount(minlength=classes)).sum()) / len(t)
        for t, g in zip(truth, guess, strict=True)
    ]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_one_label_is_always_found(digits: Parts, classes: int, bias: bool) -> None:
    """200 pairs of a net and an image. Without a bias the row sums decide, which need features >= 0."""
    found = right = 0
    for seed in range(20):
        x = digits.test.x[seed * 10 : seed * 10 + 10].unsqueeze(1)
        y = (Draws(("labels", seed)).uniform(10, 1)[0] * classes).long()
        net = net_of("lenet(width=4)" if bias else 'lenet(width=4, activation="sigmoid")', 1, classes, seed=seed)
        view = seen(net, Batch(x, y), classes)
        if not bias:
            view = replace(view, update=view.update | {f"{head(net)}.bias": None})
        right += int((inferred(view) == y).sum())
        found += len(y)
    assert (right, found) == (200, 200)


@pytest.mark.parametrize(("model", "least"), [("lenet", 0.95), ("convnet(width=16)", 0.9)])
@pytest.mark.parametrize(("source", "classes"), [("digits", 10), ("ihc", 5)])
def test_repeated_labels_of_a_batch_are_counted(
    source: str, classes: int, model: str, least: float, request: pytest.FixtureRequest
) -> None:
    parts: Parts = request.getfixturevalue(source)
    batch = held(parts.test, 12, 8)
    assert any(len(set(y.tolist())) < 8 for y in batch.y)
    view = seen(net_of(model, batch.x.shape[2], classes), batch, classes)
    guess = inferred(view)
    assert guess.shape == batch.y.shape
    assert overlap(batch.y, guess, classes) >= least


def test_a_batch_of_one_class_is_counted(digits: Parts) -> None:
    x = digits.test.x[:16].view(2, 8, 1, 32, 32)
    y = torch.tensor([[3] * 8, [7] * 7 + [1]])
    view = seen(net_of("lenet", 1, 10), Batch(x, y), 10)
    assert overlap(y, inferred(view), 10) == 1


@pytest.mark.parametrize("b", [1, 4])
def test_a_victim_whose_bias_is_zero_disturbs_no_other(digits: Parts, b: int) -> None:
    net = net_of("lenet", 1, 10)
    view = seen(net, held(digits.test, 6, b), 10)
    before = inferred(view)
    name = f"{head(net)}.bias"
    bias = view.update[name].clone()
    bias[2] = 0
    view = replace(view, update=view.update | {name: bias})
    after = inferred(view)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(after[others], before[others])
    alone = inferred(replace(view, update=rows(view.update, 2, 3)))
    assert torch.equal(after[2:3], alone)
    for i in others:
        assert torch.equal(inferred(replace(view, update=rows(view.update, i, i + 1)))[0], before[i])


def test_given_labels_pass_through(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 3, 2), 10)
    wrong = 9 - view.labels
    assert labels_of(replace(view, labels=wrong), view.update) is wrong


def test_without_a_last_layer_some_label_is_named(digits: Parts) -> None:
    net = net_of("lenet", 1, 10)
    view = seen(net, held(digits.test, 3, 2), 10)
    hidden = view.update | {f"{head(net)}.bias": None, f"{head(net)}.weight": None}
    guess = labels_of(replace(view, labels=None), hidden)
    assert guess.shape == (3, 2)
    assert guess.min() >= 0
    assert guess.max() < 10


@pytest.mark.parametrize("b", [1, 2])
def test_a_victim_that_is_not_finite_disturbs_no_other(digits: Parts, b: int) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 3, b), 10)
    update = {k: g.clone() for k, g in view.update.items()}
    for g in update.values():
        g[1] = torch.nan
    guess = inferred(replace(view, update=update))
    assert torch.equal(guess[[0, 2]], inferred(view)[[0, 2]])
    assert guess.min() >= 0
    assert guess.max() < 10
