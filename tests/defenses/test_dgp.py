"""Dual pruning: exact counts at both ends, and nothing is lost."""

import pytest
import torch
from scene import flat, held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.dgp import DualPrune
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.message import server_sees
from gibench.types import Match

DRAWS = Draws(("m",), range(3))


@pytest.mark.parametrize(("k1", "k2", "strength"), [(0.05, 0.5, 1), (0.2, 0.4, 0.5), (0.5, 0.5, 1), (0.1, 0, 1)])
def test_both_ends_are_withheld(k1: float, k2: float, strength: float, digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet", 1, 10), held(digits.test, 3, 2))
    sent = DualPrune(k1=k1, k2=k2, strength=strength).message(plain, DRAWS, {})
    for name, g in plain.items():
        n = g[0].numel()
        top, low = round(strength * k1 * n), round(strength * k2 * n)
        for before, after in zip(g.flatten(1), sent[name].flatten(1), strict=True):
            order, kept = before.abs().sort().values, after[after != 0]
            assert len(kept) == n - top - low
            assert torch.equal(kept, before[after != 0])
            if len(kept):
                assert kept.abs().min() >= order[low]
                assert kept.abs().max() <= order[n - top - 1]


def test_sent_and_owed_make_the_sum_of_gradients(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10).double(), held(digits.test, 3, 1, torch.float64)
    memory, sent, plain = {}, 0, flat(mean_gradient(net, batch))
    for r in range(5):
        sent = sent + flat(server_sees(net, DualPrune(), batch, DRAWS.at(r), memory=memory))
    assert torch.allclose(sent + flat(memory), 5 * plain, atol=1e-12)
    assert (sent - 5 * plain).norm() > 0.1 * plain.norm()


def test_several_rounds_release_the_gradient_itself(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10).double(), held(digits.test, 3, 1, torch.float64)
    memory, plain = {}, flat(mean_gradient(net, batch))
    rounds = [server_sees(net, DualPrune(), batch, DRAWS.at(r), memory=memory) for r in range(3)]
    merged, appeared = flat(DualPrune().merged(rounds)), torch.stack([flat(m) != 0 for m in rounds])
    assert torch.allclose(merged[appeared.any(0)], plain[appeared.any(0)], atol=1e-12)
    assert appeared.any(0).sum() > appeared[0].sum()


def test_on_the_support_the_simulation_at_the_true_image_is_the_message(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 1)
    view = seen(net, batch, 10, DualPrune())
    known, blind = (Objective(view, Plan(m, batch.y)) for m in (DualPrune().match(view), Match(linear=False)))
    assert known.distance(batch.x, batch.y, DRAWS).abs().max() < 1e-6
    assert blind.distance(batch.x, batch.y, DRAWS).min() > 0.1
