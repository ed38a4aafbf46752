"""Pruning: how many stay, which, and unchanged."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scene import flat, held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.none import Undefended
from gibench.defenses.prune import Prune
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.engine.search import as_gradient
from gibench.gradients import mean_gradient
from gibench.message import make_message, server_sees
from gibench.types import Batch, Local, Match

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


@pytest.mark.parametrize("p", [0.5, 0.99])
def test_all_layers_together_keep_their_largest(p: float, digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet", 1, 10), held(digits.test, 4, 2))
    sent, before = flat(Prune(p=p, scope="global").message(plain, DRAWS, {})), flat(plain)
    n = before.shape[1]
    assert (sent.count_nonzero(1) == round((1 - p) * n)).all()
    for row, whole in zip(sent, before, strict=True):
        assert torch.equal(row[row != 0], whole[row != 0])
        assert row[row != 0].abs().min() >= whole[row == 0].abs().max()


def test_what_is_withheld_is_sent_later(digits: Parts) -> None:
    """Of every client: sent + owed = the sum of its gradients; without feedback the sent lags behind."""
    net, memory, totals = net_of("lenet", 1, 10).double(), {}, {}
    defense = Prune(p=0.9, feedback=True)
    for step in range(5):
        batch = held(digits.test, 12, 1, torch.float64)
        own = Batch(batch.x[[step, step + 5]], batch.y[[step, step + 5]])
        draws = Draws(("round", step), range(2))
        for kind, hooks, kept in (("true", Undefended(), {}), ("sent", defense, memory), ("lazy", Prune(p=0.9), {})):
            totals[kind] = totals.get(kind, 0) + flat(make_message(net, hooks, own, draws, memory=kept))
    owed = flat(memory)
    assert owed.abs().max() > 0
    assert torch.allclose(totals["sent"] + owed, totals["true"], atol=1e-12)
    assert (totals["lazy"] - totals["true"]).norm() > 0.1 * totals["true"].norm()


def test_several_rounds_about_one_batch_release_the_gradient_itself(digits: Parts) -> None:
    """Whatever was owed before them: what appears twice is exact, and more appears with every round."""
    net, batch = net_of("lenet", 1, 10).double(), held(digits.test, 2, 1, torch.float64)
    plain, defense = mean_gradient(net, batch), Prune(p=0.7, feedback=True)
    first = {name: g.flip(1) for name, g in plain.items()}
    memory = {name: g.clone() for name, g in first.items()}
    rounds = [server_sees(net, defense, batch, Draws(("m", r), range(2)), memory=memory) for r in range(12)]
    merged, appeared = flat(defense.merged(rounds)), sum((flat(m) != 0).long() for m in rounds)
    twice = appeared > 1
    assert torch.allclose(merged[twice], flat(plain)[twice], atol=1e-12)
    assert twice.double().mean() > 0.3 + 0.2
    assert not torch.allclose((sum(flat(m) for m in rounds) / 12)[twice], flat(plain)[twice], atol=1e-6)
    memory.clear()
    rounds = [server_sees(net, defense, batch, Draws(("m", r), range(2)), memory=memory) for r in range(4)]
    merged, appeared = flat(defense.merged(rounds)), sum((flat(m) != 0).long() for m in rounds)
    assert torch.allclose(merged[appeared > 0], flat(plain)[appeared > 0], atol=1e-12)
    assert (merged[appeared == 0] == 0).all()


@pytest.mark.parametrize("local", [None, Local(1, 0.05, 0.0)], ids=["gradient", "delta"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_simulation_at_the_true_image_is_the_message(scope: str, local: Local | None, digits: Parts) -> None:
    net, batch, defense = net_of("lenet", 1, 10), held(digits.test, 3, 1), Prune(p=0.9, scope=scope)
    view = as_gradient(seen(net, batch, 10, defense, local=local))
    objective = Objective(view, Plan(defense.match(view), batch.y))
    draws = Draws(("a",), range(3))
    assert objective.distance(batch.x, batch.y, draws).abs().max() < 1e-6
    assert objective.distance(batch.x.roll(1, -1), batch.y, draws).min() > 1e-3
    oblivious = Objective(view, Plan(Match(), batch.y)).distance(batch.x, batch.y, draws)
    assert oblivious.min() > 1e-3


def test_with_feedback_the_support_alone_is_compared(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, Prune(p=0.9, feedback=True))
    match = Prune(p=0.9, feedback=True).match(view)
    assert all(torch.equal(match.mask[name], g != 0) for name, g in view.update.items())
    assert not match.linear


def test_a_nonzero_costs_eight_bytes(digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet", 1, 10), held(digits.test, 2, 1))
    sent = Prune(p=0.9).message(plain, DRAWS, {})
    assert Prune(p=0.9).upload_bytes(sent) == 8 * int((flat(sent)[0] != 0).sum())
    assert Prune(p=0).upload_bytes(plain) == 4 * flat(plain).shape[1]
