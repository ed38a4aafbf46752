"""Labels read off the last layer, for real images."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, rows, seen
from torch import Tensor

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.labels import RULES, head, labels_of
from gibench.engine.search import as_gradient
from gibench.errors import InputError
from gibench.registry import build
from gibench.types import Batch, Local, View


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


SPREAD = [[3, 3, 3, 1], [0, 1, 2, 3], [5, 5, 9, 9]]


def labelled(digits: Parts, b: int, v: int, dtype: torch.dtype = torch.float32, model: str = "lenet") -> View:
    batch = held(digits.test, v, b, dtype)
    return seen(net_of(model, 1, 10).to(dtype), batch, 10)


def test_without_a_bias_the_longest_row_tells_whatever_the_features(digits: Parts) -> None:
    """200 pairs with tanh features of both signs, where row sums mislead; three classes and ten."""
    right = misled = 0
    for seed in range(20):
        classes = 3 if seed % 2 else 10
        x = digits.test.x[seed * 10 : seed * 10 + 10].unsqueeze(1)
        y = (Draws(("labels", seed)).uniform(10, 1)[0] * classes).long()
        net = net_of('lenet(width=4, activation="tanh")', 1, classes, seed=seed)
        view = seen(net, Batch(x, y), classes)
        update = view.update | {f"{head(net)}.bias": None}
        right += int((RULES["idlg"](net, update, 1, classes) == y).sum())
        misled += int((view.update[f"{head(net)}.weight"].sum(2).argmin(1, keepdim=True) != y).sum())
    assert right == 200
    assert misled > 20


def test_repeated_labels_are_counted_exactly_at_initialisation(digits: Parts) -> None:
    """Batches of 32 from ten classes, so that labels repeat."""
    view = labelled(digits, 32, 8)
    guess = RULES["ilrg"](view.model, view.update, 32, 10)
    assert overlap(held(digits.test, 8, 32).y, guess, 10) >= 0.97


@pytest.mark.parametrize("rule", ["yin", "sign", "impact", "ilrg"])
def test_every_rule_finds_labels_that_differ(digits: Parts, rule: str) -> None:
    y = torch.tensor([[0, 1, 2, 3], [9, 4, 6, 2], [5, 7, 1, 8]])
    x = torch.stack([torch.stack([digits.test.x[digits.test.y == c][0] for c in row.tolist()]) for row in y])
    net = net_of('lenet(activation="relu")', 1, 10)
    guess = RULES[rule](net, seen(net, Batch(x, y), 10).update, 4, 10)
    assert overlap(y, guess, 10) == 1


def test_a_rule_counts_what_it_is_made_to_count(digits: Parts) -> None:
    """impact finds repetitions, sign only the set of classes."""
    y = torch.tensor(SPREAD)
    x = torch.stack([torch.stack([digits.test.x[digits.test.y == c][i] for i, c in enumerate(r)]) for r in SPREAD])
    net = net_of('lenet(activation="relu")', 1, 10)
    update = seen(net, Batch(x, y), 10).update
    assert overlap(y, RULES["impact"](net, update, 4, 10), 10) == 1
    assert overlap(y, RULES["ilrg"](net, update, 4, 10), 10) == 1
    found = RULES["sign"](net, update, 4, 10)
    assert [set(row) for row in found.tolist()] == [set(row) for row in SPREAD]


@pytest.mark.parametrize(
    ("rule", "b", "hidden", "text"),
    [
        ("idlg", 2, "", "rule idlg works on one image per message, not 2"),
        ("yin", 11, "", "rule yin takes labels that differ"),
        ("yin", 2, "weight", "rule yin reads the last weight's gradient, which the client does not share"),
        ("impact", 2, "weight", "rule impact reads the last weight's gradient"),
        ("sign", 2, "bias", "rule sign reads the last bias's gradient"),
        ("ilrg", 2, "bias", "rule ilrg reads the last bias's gradient"),
    ],
)
def test_a_rule_that_does_not_hold_says_why(digits: Parts, rule: str, b: int, hidden: str, text: str) -> None:
    view = labelled(digits, b, 1, model="lenet(width=2)")
    update = view.update | ({f"{head(view.model)}.{hidden}": None} if hidden else {})
    with pytest.raises(InputError, match=text):
        RULES[rule](view.model, update, b, 10)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_labels_of_a_weight_change_are_counted_like_those_of_a_gradient(digits: Parts, momentum: float) -> None:
    batch = held(digits.test, 6, 8)
    view = seen(net_of("lenet", 1, 10), batch, 10, local=Local(3, 0.01, momentum))
    assert overlap(batch.y, inferred(as_gradient(view)), 10) >= 0.9


def test_pruned_labels_are_still_found(digits: Parts, ihc: Parts) -> None:
    """At 90 % one of ten bias entries stays, the true class's; of five none, and the rows decide."""
    for parts, classes in ((digits, 10), (ihc, 5)):
        batch = held(parts.test, 24, 1)
        view = seen(net_of("lenet", batch.x.shape[2], classes), batch, classes, build("defenses", "prune(p=0.9)"))
        assert (inferred(view) == batch.y).all()
