"""Dropout: the share that stays, fresh masks, and that one message shows its mask."""

import pytest
import torch
from scene import flat, held, net_of, rows, seen
from torch import nn

from gibench.datasets import Parts
from gibench.defenses.dropout import Dropout, Mask
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.message import make_message
from gibench.noise import draw_noise
from gibench.types import Batch

DRAWS = Draws(("test message",), range(3)).at(0)
HEAD = "6.1.weight"


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_the_kept_share_and_size(p: float) -> None:
    drawn = Mask(500, p).draw(4, Draws(("d",), range(50)), torch.zeros(1))
    assert drawn.shape == (50, 4, 500)
    kept = drawn != 0
    assert torch.allclose(drawn[kept], torch.tensor(1 / (1 - p)))
    assert abs(float(kept.double().mean()) - (1 - p)) < 4 * (p * (1 - p) / drawn.numel()) ** 0.5
    each = kept.double().mean(2)
    assert each.std() < 2 * (p * (1 - p) / 500) ** 0.5
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0, 0], drawn[0, 1])


def test_the_message_is_the_gradient_with_masked_features(digits: Parts) -> None:
    defense, batch = Dropout(p=0.4), held(digits.test, 3, 2, torch.float64)
    plain = net_of("lenet(width=6)", 1, 10).double()
    net = defense.network(plain)
    sent = make_message(net, defense, batch, DRAWS)
    mask = draw_noise(net, 2, DRAWS.at("layers"), batch.x)["6.0"]
    for victim in range(3):
        logits = plain[6](plain[:6](batch.x[victim]) * mask[victim])
        own = torch.autograd.grad(nn.functional.cross_entropy(logits, batch.y[victim]), list(plain.parameters()))
        found = [g[0] for g in rows(sent, victim, victim + 1).values()]
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(own, found, strict=True))


def test_in_evaluation_mode_there_is_no_defense(digits: Parts) -> None:
    defense, batch = Dropout(p=0.5), held(digits.test, 3, 1)
    plain = net_of("lenet(width=6)", 1, 10)
    net = defense.network(plain)
    assert torch.equal(flat(mean_gradient(net, batch)), flat(mean_gradient(plain, batch)))
    sent = flat(make_message(net, defense, batch, DRAWS))
    assert (sent - flat(mean_gradient(plain, batch))).norm(dim=1).min() > 0.1
    whole = flat(make_message(Dropout(p=0).network(plain), Dropout(p=0), batch, DRAWS))
    assert torch.allclose(whole, flat(mean_gradient(plain, batch)), atol=1e-6)


def test_several_layers() -> None:
    net = net_of("mlp(width=20, depth=2)", 1, 10)
    changed = Dropout(layers=2).network(net)
    masks = {name: m.size for name, m in changed.named_modules() if isinstance(m, Mask)}
    assert masks == {"4.0": (20,), "6.0": (20,)}
    assert not [m for m in net.modules() if isinstance(m, Mask)]
    noise = draw_noise(changed, 1, DRAWS, torch.zeros(1))
    assert not torch.equal(noise["4.0"], noise["6.0"])


@pytest.mark.parametrize("model", ["lenet(width=6)", "mlp(depth=2, activation='silu')"])
def test_one_message_shows_its_mask_and_the_simulation_fits(digits: Parts, model: str) -> None:
    defense, batch = Dropout(p=0.5), held(digits.test, 3, 1)
    net = defense.network(net_of(model.replace("'", '"'), 1, 10))
    view = seen(net, batch, 10, defense)
    objective = Objective(view, Plan(defense.match(view), batch.y))
    assert objective.distance(batch.x, batch.y, DRAWS).abs().max() < 1e-6
    blind = 1 - torch.cosine_similarity(flat(mean_gradient(net, batch)), flat(view.update))
    assert blind.min() > 1e-3, "the defense did nothing"


def test_masks_of_several_images_are_searched_for(digits: Parts) -> None:
    defense, batch = Dropout(p=0.3), held(digits.test, 3, 2)
    net = defense.network(net_of("lenet(width=6)", 1, 10))
    view = seen(net, batch, 10, defense)
    match = defense.match(view)
    start = match.extra(Draws(("a",), range(3)))
    kept = draw_noise(net, 2, DRAWS.at("layers"), batch.x)["6.0"] != 0
    assert start["6.0"].shape == kept.shape
    assert abs(float(start["6.0"].sigmoid().mean()) - 0.7) < 0.1
    found = {"6.0": torch.where(kept, 40.0, -40.0)}
    objective = Objective(view, Plan(match, batch.y))
    assert objective.distance(batch.x, batch.y, DRAWS, found).abs().max() < 1e-6
    expected = ((~kept).float().mean((1, 2)) - 0.3).square()
    assert torch.allclose(match.penalty(found), expected, atol=1e-6)
    assert objective.distance(batch.x, batch.y, DRAWS, {}).isfinite().all()


def test_what_it_cannot_serve_is_said() -> None:
    without = nn.Sequential(nn.MaxPool2d(8), nn.Flatten())
    assert "has 0" in Dropout().unfit(Dropout().network(without), (1, 32, 32), 8)
    asked = Dropout(layers=2)
    assert "has 1" in asked.unfit(asked.network(net_of("lenet", 1, 10)), (1, 32, 32), 8)
    assert asked.unfit(net_of("mlp(depth=2)", 1, 10), (1, 32, 32), 8) == ""
    for bad in ({"p": -0.1}, {"p": 1}, {"layers": 0}):
        with pytest.raises(ValueError, match="validation error"):
            Dropout(**bad)


def test_empty_places_of_a_poisson_batch_count_for_nothing(digits: Parts) -> None:
    defense, batch = Dropout(), held(digits.test, 3, 2)
    net = defense.network(net_of("lenet(width=6)", 1, 10))
    weight = torch.tensor([1.0, 0]).expand(3, 2)
    padded = make_message(net, defense, Batch(batch.x, batch.y, weight, 1), DRAWS)
    other = Batch(torch.stack([batch.x[:, 0], 1 - batch.x[:, 1]], 1), batch.y, weight, 1)
    assert torch.allclose(flat(padded), flat(make_message(net, defense, other, DRAWS)), atol=1e-7)
