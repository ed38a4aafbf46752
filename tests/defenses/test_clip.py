"""Clipping: the length is bounded, the direction stays."""

import pytest
import torch
from scene import flat, held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.clip import Clip
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.types import Match


@pytest.mark.parametrize("bound", [1e-3, 0.3, 1e3])
@pytest.mark.parametrize("b", [1, 4])
def test_the_whole_message_is_shortened_and_not_turned(bound: float, b: int, ihc: Parts) -> None:
    plain = mean_gradient(net_of("convnet(width=8)", 3, 5, side=ihc.test.x.shape[-1]), held(ihc.test, 4, b))
    sent = flat(Clip(bound=bound).message(plain, Draws(("m",), range(4)), {}))
    before = flat(plain)
    assert (sent.norm(dim=1) <= bound * (1 + 1e-6)).all()
    assert torch.allclose(torch.cosine_similarity(sent, before), torch.ones(4), atol=1e-6)
    assert torch.allclose(sent.norm(dim=1), before.norm(dim=1).clamp(max=bound), rtol=1e-5)


def test_the_cosine_does_not_see_it(digits: Parts) -> None:
    batch, defense = held(digits.test, 3, 1), Clip(bound=1e-3)
    view = seen(net_of("lenet", 1, 10), batch, 10, defense)
    assert float(flat(view.update).norm(dim=1).max()) == pytest.approx(1e-3)
    apart = Objective(view, Plan(Match(), batch.y)).distance(batch.x, batch.y, Draws(("a",), range(3)))
    assert apart.abs().max() < 1e-6
