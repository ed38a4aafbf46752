"""Pruning: how many stay, which, and unchanged."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scene import held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.prune import Prune
from gibench.draws import Draws
from gibench.gradients import mean_gradient

DRAWS = Draws(("m",))


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.9, 0.99, 0.9999])
def test_each_layer_keeps_its_largest_entries_bit_for_bit(p: float, digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet", 1, 10), held(digits.test, 4, 2))
    sent = Prune(p=p).message(plain, DRAWS, {})
    for name, g in plain.items():
        n = g[0].numel()
        for before, after in zip(g.flatten(1), sent[name].flatten(1), strict=True):
            kept = after != 0
            assert before.count_nonzero() == n
            assert int((~kept).sum()) == n - round((1 - p) * n)
            assert torch.equal(after[kept], before[kept])
            if kept.any() and not kept.all():
                assert before[kept].abs().min() >= before[~kept].abs().max()


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=30), p=st.floats(0, 1, exclude_max=True))
def test_ties_are_broken_by_index(values: list[int], p: float) -> None:
    g = torch.tensor(values).float().view(1, -1)
    sent = Prune(p=p).message({"a": g}, DRAWS, {})["a"]
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[: round((1 - p) * len(values))]
    assert sent[0].tolist() == [float(values[i]) if i in order else 0 for i in range(len(values))]


def test_layers_and_victims_are_pruned_each_by_itself() -> None:
    a, b = torch.tensor([[1.0, 2, 3, 4], [400, 300, 200, 100]]), torch.tensor([[0.25, 0.5], [9, 8]])
    sent = Prune(p=0.5).message({"a": a, "b": b, "c": None}, DRAWS, {})
    assert sent["a"].tolist() == [[0, 0, 3, 4], [400, 300, 0, 0]]
    assert sent["b"].tolist() == [[0, 0.5], [9, 0]]
    assert sent["c"] is None


def test_the_attacker_compares_on_the_visible_support(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, Prune(p=0.9))
    match = Prune(p=0.9).match(view)
    for name, g in view.update.items():
        assert torch.equal(match.mask[name], g != 0)
    assert match.distance == "cos"
