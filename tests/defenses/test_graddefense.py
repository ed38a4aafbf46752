"""GradDefense: sensitivities, equal slices, and noise in exactly half of them."""

import math
from dataclasses import replace

import pytest
import torch
from scene import flat, held, net_of, same, seen
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.datasets import Parts
from gibench.defenses.graddefense import GradDefense
from gibench.draws import Draws
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.types import Images, Match, Memory


@pytest.fixture(scope="module")
def defense(few_aux: Images) -> GradDefense:
    return GradDefense().fit(few_aux, Draws(("f",)))


def test_the_root_set_has_five_images_per_class(defense: GradDefense, few_aux: Images) -> None:
    assert defense.state["y"].bincount().tolist() == [5] * 10
    assert all(bool((few_aux.x == x).flatten(1).all(1).any()) for x in defense.state["x"])


def test_sensitivity_is_the_slope_of_a_layers_gradient_in_the_image(few_aux: Images) -> None:
    """Against central differences in random directions: E <slope, t>^2 = |slope|^2."""
    small = GradDefense(root=1).fit(Images(few_aux.x[:40, :, ::4, ::4].double(), few_aux.y[:40]), Draws(("f",)))
    x, y = small.state["x"][:1], small.state["y"][:1]
    small = replace(small, state={"x": x, "y": y})
    net = net_of("lenet(width=2)", 1, 10, side=8).double()

    def sums(image: Tensor) -> Tensor:
        own = torch.autograd.grad(F.cross_entropy(net(image), y), list(net.parameters()))
        return torch.stack([g.sum() for g in own])

    slope = []
    for i in range(x.numel()):
        t = torch.zeros(x.numel(), dtype=torch.float64)
        t[i] = 1e-5
        slope.append((sums(x + t.view_as(x)) - sums(x - t.view_as(x))) / 2e-5)
    expected = torch.stack(slope).norm(dim=0)
    assert torch.allclose(small.sensitivity(net), expected, atol=1e-6)
    assert expected.max() > 1e-3


def test_slices_hold_equal_shares_of_the_sensitivity(defense: GradDefense, digits: Parts) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 2, 1)
    plain, sensitivity = mean_gradient(net, batch), defense.sensitivity(net)
    where = torch.cat(list(defense.cut(plain, sensitivity.expand(2, -1)).values()), 1)
    each = torch.cat([s.expand(g[0].numel()) / g[0].numel() for s, g in zip(sensitivity, plain.values(), strict=True)])
    assert torch.equal(where[0], where[0].sort().values), "slices are stretches of the flat gradient"
    shares = torch.zeros(10, dtype=torch.float64).index_add(0, where[0], each.double()) / sensitivity.sum()
    assert shares.tolist() == pytest.approx([0.1] * 10, abs=1.01 * float(each.max() / sensitivity.sum()))


def test_exactly_five_slices_get_noise_of_the_right_size(defense: GradDefense, digits: Parts) -> None:
    net, batch, draws = net_of("lenet", 1, 10), held(digits.test, 12, 2), Draws(("m",), range(12))
    plain, memory = mean_gradient(net, batch), Memory()
    sent = defense.gradient(net, batch, draws, memory=memory)
    noise = flat(sent) - flat(plain)
    where = torch.cat(list(defense.cut(plain, memory["sensitivity"]).values()), 1)
    touched = torch.stack([torch.bincount(w[n != 0], minlength=10) > 0 for w, n in zip(where, noise, strict=True)])
    assert touched.sum(1).tolist() == [5] * 12
    assert len({tuple(t.tolist()) for t in touched}) > 6, "each client draws its own slices"
    inside = touched.gather(1, where)
    assert torch.equal(flat(sent)[~inside], flat(plain)[~inside])
    assert inside.sum() > 1e4
    assert float(noise[inside].std()) == pytest.approx(0.01, rel=0.03)
    again = flat(defense.gradient(net, batch, draws.at("next"), memory=memory)) - flat(plain)
    assert not torch.equal(again != 0, noise != 0)


def test_sensitivities_are_renewed_now_and_then(defense: GradDefense, digits: Parts) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 2, 1)
    memory, measured = Memory(), []
    for step in range(4):
        with torch.no_grad():
            net[1].weight.mul_(1.5)
        replace(defense, every=2).gradient(net, batch, Draws(("m", step), range(2)), memory=memory)
        measured.append(memory["sensitivity"])
    assert torch.equal(measured[0], measured[1])
    assert torch.equal(measured[2], measured[3])
    assert not torch.equal(measured[1], measured[2])


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_attacker_finds_the_noisy_slices(few_aux: Images, digits: Parts, scale: float) -> None:
    defense = GradDefense(scale=scale).fit(few_aux, Draws(("f",)))
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 16, 1)
    view, plain = seen(net, batch, 10, defense), flat(mean_gradient(net, batch))
    mask = defense.match(view).mask
    assert mask is not None
    touched, counts = flat(view.update) != plain, flat(mask)
    assert (counts[touched] < 0.1).float().mean() > 0.95
    assert (counts[~touched] > 0.7).float().mean() > 0.9
    plain_match = Objective(view, Plan(Match(linear=False), batch.y))
    informed, draws = Objective(view, Plan(defense.match(view), batch.y)), Draws(("a",), range(16))
    assert informed.distance(batch.x, batch.y, draws).median() < 0.03
    assert plain_match.distance(batch.x, batch.y, draws).min() > 0.1, "the defense did nothing"


def test_where_noise_is_weak_all_counts(few_aux: Images, digits: Parts) -> None:
    defense = GradDefense(scale=1e-5).fit(few_aux, Draws(("f",)))
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, 1)
    mask = defense.match(seen(net, batch, 10, defense)).mask
    assert mask is not None
    assert flat(mask).min() > 0.9


def test_without_the_root_set_differences_are_absolute(digits: Parts) -> None:
    view = seen(net_of("lenet(width=6)", 1, 10), held(digits.test, 1, 1), 10)
    match = GradDefense().match(view)
    assert (match.distance, match.linear) == ("l1", False)


@pytest.mark.parametrize("noisy", [0, 20])
def test_none_or_all_may_be_noisy(few_aux: Images, digits: Parts, noisy: int) -> None:
    defense = GradDefense(noisy=noisy).fit(few_aux, Draws(("f",)))
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 2, 1)
    mask = defense.match(seen(net, batch, 10, defense)).mask
    assert mask is not None
    factors = flat(mask)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-3)
    assert factors.max() == 1 if noisy == 0 else factors.max() < 0.5


def test_several_messages_tell_what_none_of_them_does(defense: GradDefense, digits: Parts) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 4, 1)
    plain, view = flat(mean_gradient(net, batch)), seen(net, batch, 10, defense, rounds=8)
    merged = flat(defense.merged([view.update, *view.rounds]))
    assert (flat(view.update) == plain).float().mean() < 0.8
    assert (merged == plain).float().mean() > 0.9
    assert same(defense.merged([view.update]), view.update)


def test_bad_fields_are_refused() -> None:
    assert GradDefense().unfit(nn.Sequential(nn.Flatten()), (1, 32, 32), 4) == ""
    for bad in ({"scale": -1}, {"scale": math.inf}, {"slices": 0}, {"noisy": -1}, {"every": 0}):
        with pytest.raises(ValueError, match="validation error"):
            GradDefense(**bad)
