"""Random sharing: an exact share, fresh for every client and round, and the union that many rounds give away."""

import pytest
import torch
from scene import flat, held, net_of, same, seen

from gibench.datasets import Parts
from gibench.defenses.random_subset import RandomSubset
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.registry import build
from gibench.stack import stacked
from gibench.types import Match

DRAWS = Draws(("m",), range(6))


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_the_share_is_exact_and_what_is_sent_unchanged(share: float, digits: Parts) -> None:
    plain = mean_gradient(net_of("lenet", 1, 10), held(digits.test, 6, 1))
    sent, before = flat(RandomSubset(share=share).message(plain, DRAWS, {})), flat(plain)
    assert (before != 0).all()
    assert (sent.count_nonzero(1) == round(share * sent.shape[1])).all()
    assert torch.equal(sent[sent != 0], before[sent != 0])


def test_every_entry_of_every_client_has_the_same_chance_in_each_round() -> None:
    g = {"a": torch.ones(6, 100), "b": torch.ones(6, 5, 20)}
    masks = torch.stack([flat(RandomSubset(share=0.2).message(g, DRAWS.at(r), {})) for r in range(500)])
    frequency = masks.mean((0, 1))
    assert (frequency - 0.2).abs().max() < 5 * (0.2 * 0.8 / 3000) ** 0.5
    together = (masks[0] * masks[1]).mean(), (masks[:, 0] * masks[:, 1]).mean()  # next round, another client
    assert float(together[0]) == pytest.approx(0.04, abs=0.03)
    assert float(together[1]) == pytest.approx(0.04, abs=0.003)


def test_many_rounds_give_their_union_at_its_true_size(digits: Parts) -> None:
    net, batch, defense = net_of("lenet", 1, 10), held(digits.test, 6, 1), RandomSubset(share=0.3)
    view = seen(net, batch, 10, defense, rounds=4)
    merged, plain = flat(defense.merged([view.update, *view.rounds])), flat(mean_gradient(net, batch))
    known = merged != 0
    assert float(known.float().mean()) == pytest.approx(1 - 0.7**4, abs=0.01)
    assert torch.allclose(merged[known], plain[known], rtol=1e-5)


def test_on_the_subset_the_simulation_at_the_true_image_is_the_message(digits: Parts) -> None:
    net, batch, defense = net_of("lenet", 1, 10), held(digits.test, 6, 1), RandomSubset()
    view = seen(net, batch, 10, defense)
    known, blind = (Objective(view, Plan(m, batch.y)) for m in (defense.match(view), Match(linear=False)))
    assert known.distance(batch.x, batch.y, DRAWS).abs().max() < 1e-6
    assert blind.distance(batch.x, batch.y, DRAWS).min() > 0.1


def test_in_a_stack_it_still_says_how_its_messages_merge_and_where_to_compare(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 6, 1)
    stack = stacked([build("defenses", "noise(sigma=1, relative=true)"), RandomSubset(share=0.3)])
    view = seen(net, batch, 10, stack, rounds=3)
    messages = [view.update, *view.rounds]
    assert same(stack.merged(messages), RandomSubset(share=0.3).merged(messages))
    match, alone = stack.match(view), build("defenses", "noise(sigma=1, relative=true)").match(view)
    for name, g in view.update.items():
        assert torch.equal(match.mask[name], alone.mask[name] * (g != 0))
    assert not match.linear
