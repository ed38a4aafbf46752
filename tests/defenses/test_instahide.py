"""InstaHide: signs that change nothing but the sign, balanced and fresh; mixing that hides more with more images."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen

from gibench.datasets import Parts
from gibench.defenses.instahide import InstaHide
from gibench.draws import Draws
from gibench.engine.labels import matched_labels
from gibench.engine.objective import Objective, Plan
from gibench.learned.inverter import learn_inverters
from gibench.message import transmitted
from gibench.mixing import mixed, partners, shares
from gibench.types import Images


@pytest.fixture(scope="module")
def defense(ihc: Parts) -> InstaHide:
    return InstaHide().fit(Images(ihc.aux.x[:64], ihc.aux.y[:64]), Draws(("fit",)))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_absolute_value_is_that_of_the_mixture(k: int, defense: InstaHide, ihc: Parts) -> None:
    batch, draws, pool = held(ihc.test, 3, 2), Draws(("m",), range(3)), defense.state["x"]
    sent = replace(defense, k=k).images(batch, draws)
    weights = shares(2, k, 0.65, draws.at("shares"), batch.x)
    mix = 2 * mixed(batch.x, pool[partners(2, k, pool, draws.at("partners"))], weights) - 1
    assert torch.allclose((2 * sent.x - 1).abs(), mix.abs(), atol=1e-6)
    if k == 1:
        assert torch.allclose(mix, 2 * batch.x - 1)
    else:
        assert not torch.allclose(mix, 2 * batch.x - 1, atol=0.1)
    assert torch.equal(sent.y, batch.y)


def test_signs_are_balanced_and_fresh_for_entry_image_victim_and_round(defense: InstaHide, ihc: Parts) -> None:
    same = held(ihc.test, 4, 2)
    same = replace(same, x=same.x[:1, :1].expand_as(same.x))
    rounds = [(2 * replace(defense, k=1).images(same, Draws(("m", r), range(4))).x - 1).flatten(2) for r in range(2)]
    z = (2 * same.x[0, 0] - 1).flatten()
    flipped = torch.cat([r * z < 0 for r in rounds], 1)[..., z.abs() > 0.01].flatten(0, 1).double()  # (16, entries)
    n = flipped.shape[1]
    assert (flipped.mean(1) - 0.5).abs().max() < 4 * 0.5 / n**0.5
    agree = (flipped @ flipped.T + (1 - flipped) @ (1 - flipped).T) / n
    assert (agree[~torch.eye(16, dtype=torch.bool)] - 0.5).abs().max() < 4.5 * 0.5 / n**0.5


def test_more_images_hide_more_of_what_the_signs_cannot(defense: InstaHide, ihc: Parts) -> None:
    batch = held(ihc.test, 48, 1)
    likeness = []
    for k in defense.sweep:
        sent = (2 * replace(defense, k=k).images(batch, Draws(("m",), range(48))).x - 1).abs().flatten(1)
        pairs = torch.stack([sent, (2 * batch.x - 1).abs().flatten(1)], 1)
        likeness.append(float(torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).mean()))
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > 0.999
    assert likeness[-1] < 0.5


def test_the_attack_is_blind_to_the_signs_and_exact_at_the_encoding(defense: InstaHide, ihc: Parts) -> None:
    batch = held(ihc.test, 3, 1, torch.float64)
    view = seen(net_of("lenet", 3, 5).double(), batch, 5, defense)
    learned = learn_inverters(ihc.aux.x[:20], lambda x, d: x, Draws(("s",)), epochs=1)
    match = defense.match(replace(view, studied=learned))
    guess = batch.x.float()
    flips = Draws(("f",), range(3)).uniform(*batch.x.shape[1:]) < 0.5
    assert torch.allclose(match.post(guess), match.post(torch.where(flips, 1 - guess, guess)), atol=1e-5)
    sent = transmitted(defense, batch, Draws(("test message",), range(3)).at(0))
    objective = Objective(view, Plan(match, matched_labels(match, view)))
    assert objective(sent.x, sent.y, Draws(("a",), range(3))).max() < 1e-6
    assert objective(batch.x, batch.y, Draws(("a",), range(3))).min() > 0.01


def test_tests_see_raw_images(defense: InstaHide, ihc: Parts) -> None:
    batch = held(ihc.test, 3, 1)
    assert defense.inference(batch, Draws(("i",), range(3))) is batch
