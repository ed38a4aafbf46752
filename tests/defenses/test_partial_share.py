"""Private layers: withheld, each client's own from round to round, and searched for by an attacker who knows it."""

import pytest
import torch
from scene import flat, held, net_of, same, seen

from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.datasets import Parts
from gibench.defenses.partial_share import PartialShare
from gibench.draws import Draws
from gibench.engine.labels import RULES
from gibench.engine.objective import Objective
from gibench.errors import InputError
from gibench.gradients import mean_gradient
from gibench.message import make_message, own_weights
from gibench.registry import build
from gibench.types import Local, Memory
from gibench.utility import utility_of

DRAWS = Draws(("m",), range(3))
CONV, LAST = ["1.weight", "1.bias", "3.weight", "3.bias"], ["6.weight", "6.bias"]


@pytest.mark.parametrize(
    ("defense", "private"),
    [
        (PartialShare(layers=0), []),
        (PartialShare(), LAST),
        (PartialShare(layers=2), ["3.weight", "3.bias", *LAST]),
        (PartialShare(layers=2, side="leading"), CONV),
    ],
)
def test_private_layers_are_withheld_and_the_others_bit_equal(
    digits: Parts, defense: PartialShare, private: list[str]
) -> None:
    net, batch, memory = net_of("lenet", 1, 10), held(digits.test, 3, 2), Memory()
    first = make_message(net, defense, batch, DRAWS, None, memory)
    assert [name for name, g in first.items() if g is None] == private
    assert sorted(memory) == sorted(private)
    own = {**own_weights(net, 3), **memory}
    second = make_message(net, defense, batch, DRAWS.at("later"), None, dict(memory))
    plain = mean_gradient(net, batch, params=own if private else None)
    for name in set(plain) - set(private):
        assert torch.equal(second[name], plain[name])
        assert torch.equal(first[name], second[name]) == (not private)


def test_every_client_trains_its_own_layers_and_keeps_them(digits: Parts) -> None:
    net, batch, memory = net_of("lenet", 1, 10), held(digits.test, 3, 2), Memory()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    plain = mean_gradient(net, batch)
    make_message(net, PartialShare(lr=0.3), batch, DRAWS, None, memory)
    for name in LAST:
        assert torch.allclose(memory[name], start[name] - 0.3 * plain[name], atol=1e-6)
        assert not torch.equal(memory[name][0], memory[name][1])
    for r in range(20):  # of the private layers alone
        make_message(net, PartialShare(lr=0.3), batch, DRAWS.at(r), None, memory)
    assert all(torch.equal(p, start[name]) for name, p in net.named_parameters())
    right = {"utility": 0.0}
    for k in range(3):
        own = {name: kept[k : k + 1] for name, kept in memory.items()}
        found = utility_of(net, PartialShare(), type(digits.test)(batch.x[k], batch.y[k]), DRAWS, "", own)
        right["utility"] += found["utility"] / 3
    assert right["utility"] == 1.0


def test_local_training_leaves_its_private_part_with_the_client(digits: Parts) -> None:
    net, batch, memory, local = net_of("lenet", 1, 10), held(digits.test, 3, 2), Memory(), Local(2, 0.1, 0.5)
    whole = make_message(net, build("defenses", "none"), batch, DRAWS, local)
    sent = make_message(net, PartialShare(), batch, DRAWS, local, memory)
    weights = dict(net.named_parameters())
    for name in CONV:
        assert torch.equal(sent[name], whole[name])
    for name in LAST:
        assert torch.allclose(memory[name], weights[name].detach() + whole[name], atol=1e-7)


def test_image_i_is_classified_by_client_i(digits: Parts) -> None:
    net, images = net_of("lenet", 1, 10), digits.test
    own = {"6.weight": torch.zeros(2, 10, 768), "6.bias": torch.eye(10)[[3, 5]]}  # one always says 3, the other 5
    found = utility_of(net, PartialShare(), images, Draws(("u",)), "", own)
    says = torch.tensor([3, 5]).repeat(len(images.y))[: len(images.y)]
    assert found["utility"] == pytest.approx(float((says == images.y).double().mean()))


def test_no_rule_reads_a_label_and_the_search_stays_at_chance(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 60, 1)
    view = seen(net, batch, 10, PartialShare(), labels=False)
    for rule in RULES.values():
        with pytest.raises(InputError, match="does not share"):
            rule(net, view.update, 1, 10)
    guess = build("attacks", "adaptive_matching(steps=20, tv=0.01)").answer(view, Draws(("a",), range(60)))
    assert float((guess.labels == batch.y).double().mean()) < 0.1 + 4 * (0.09 / 60) ** 0.5
    bare = seen(net, batch, 10, labels=False)
    assert torch.equal(RULES["idlg"](net, bare.update, 1, 10), batch.y)


@pytest.mark.parametrize("side", ["trailing", "leading"])
@pytest.mark.parametrize("local", [None, Local(3, 0.1, 0.5)], ids=["gradient", "delta"])
def test_the_truth_with_the_true_private_layers_explains_the_message(
    digits: Parts, side: str, local: Local | None
) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10).double(), held(digits.test, 3, 1, torch.float64)
    defense, memory = PartialShare(layers=1, side=side, lr=0.02), Memory()
    make_message(net, defense, batch, DRAWS, None, memory)
    view = seen(net, batch, 10, defense, local=local)
    kept = {name: g.clone() for name, g in memory.items()}
    sent = make_message(net, defense, batch, DRAWS.at("later"), local, memory)
    view.update.update({name: None if g is None else g if local is None else -g for name, g in sent.items()})
    objective = Objective(view, AdaptiveMatching(tv=0.0).plan(view))
    match = objective.plan.match
    start = match.extra(DRAWS)
    scale = {name: 0.3 * float(net.get_parameter(name).detach().square().mean().sqrt()) for name in kept}
    true = {name: (kept[name] - net.get_parameter(name).detach()) / scale[name] for name in start if name in kept}
    if "way" in start:
        params = {**own_weights(net, 3), **kept}
        logits = torch.func.vmap(lambda p, x: torch.func.functional_call(net, p, (x,)))(params, batch.x)
        true["way"] = logits.softmax(-1) - torch.nn.functional.one_hot(batch.y, 10)
    assert true.keys() == start.keys()
    assert objective.distance(batch.x, batch.y, DRAWS, true).max() < 1e-9
    assert objective.distance(batch.x, batch.y, DRAWS).min() > 1e-5
    assert match.penalty(start).max() == 0 < match.penalty(true).min()


def test_the_adaptive_attack_beats_the_oblivious_one(digits: Parts) -> None:
    batch = held(digits.test, 8, 1)
    view = seen(net_of("lenet", 1, 10), batch, 10, PartialShare(), labels=False)
    error = [
        float(
            (build("attacks", f"{name}(steps=120, tv=0.01)").answer(view, Draws(("a",), range(8))).x - batch.x)
            .square()
            .mean()
        )
        for name in ("adaptive_matching", "inverting_gradients")
    ]
    assert error[0] < 0.7 * error[1]


def test_what_it_cannot_serve_is_told() -> None:
    shape, net = (1, 32, 32), net_of("lenet", 1, 10)
    assert "all 3 layers" in PartialShare(layers=3).unfit(net, shape, 4)
    assert PartialShare(layers=2).unfit(net, shape, 4) == ""
    norm = net_of('convnet(norm="batch")', 1, 10)
    assert PartialShare(layers=1).unfit(norm, shape, 4) == ""
    assert "BatchNorm" in PartialShare(layers=3).unfit(norm, shape, 4)
    assert "BatchNorm" in PartialShare(layers=1, side="leading").unfit(norm, shape, 4)
    assert PartialShare(layers=0).unfit(norm, shape, 4) == ""


def test_no_private_layer_is_no_defense(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 2)
    sent = make_message(net, PartialShare(layers=0), batch, DRAWS)
    assert same(sent, make_message(net, build("defenses", "none"), batch, DRAWS))
    assert PartialShare().upload_bytes({"a": flat(sent), "b": None}) == 4 * flat(sent).shape[1]
