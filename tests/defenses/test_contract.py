"""What every defense owes: the rules of its hooks, on real images and at default settings."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from scene import flat, held, net_of, same, seen
from torch import nn

from gibench.datasets import Parts
from gibench.defenses import PLACES, Defense
from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.learned.fit import seeded
from gibench.learned.inverter import learn_inverters
from gibench.message import make_message
from gibench.registry import build, entry_class, names
from gibench.types import Batch, Images, Local, Update


def same_hook(name: str, hook: str) -> bool:
    """Whether a defense leaves this hook as it is."""
    return getattr(entry_class("defenses", name), hook) is getattr(Defense, hook)


EVERY = names("defenses")
DEFENDING = [name for name in EVERY if name != "none"]
NEUTRAL = [spec for name in EVERY if (spec := entry_class("defenses", name).neutral)]
PLAIN = net_of("lenet(width=1)", 1, 10)
COMPARABLE = [
    name
    for name in DEFENDING
    if same_hook(name, "local") and same_hook(name, "cohort") and build("defenses", name).network(PLAIN) is PLAIN
]
"""Defenses whose message about a batch can be held against that of no defense, entry by entry."""
QUICK = {"dcs": "dcs(steps=3)", "salm": "salm(passes=3)"}
"""Specs in place of default settings that take minutes."""
LEVEL = {
    "instahide": "its signs change a message about as much at any k; k hides the image, see test_instahide",
    "censor": "what it sends is orthogonal to the gradient and of its length, whatever the number of trials",
}
"""Defenses whose strength the distance of their messages does not show, and why."""
SLACK = {"latent_perturb": 0.02}  # its direction serves a classifier, too: a small step may bring a message closer
"""By what share a stronger knob may change less; otherwise float32's last digits."""


@pytest.fixture(scope="session")
def made(few_aux: Images, fitted_latent: Defense) -> Callable[[str], Defense]:
    """Fitted at default settings, each once."""
    fitted: dict[str, Defense] = {"latent_perturb": fitted_latent}

    def one(name: str) -> Defense:
        if name not in fitted:
            defense = build("defenses", QUICK.get(name, name))
            if defense.lacks():
                pytest.skip(defense.lacks())
            fitted[name] = defense.fit(few_aux, Draws(("test fit",)))
        return fitted[name]

    return one


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return net_of("lenet(width=6)", 1, 10)


def defended(net: nn.Module, defense: Defense) -> nn.Module:
    return seeded(Draws(("test defense",)), lambda: defense.network(net)).eval()


def send(
    net: nn.Module, defense: Defense, batch: Batch, members: tuple[int, ...] = (0, 1, 2), name: str = "m"
) -> Update:
    return make_message(defended(net, defense), defense, batch, Draws((name,), members), defense.local(None))


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("name", EVERY)
def test_a_message_has_the_shape_of_the_parameters(
    name: str, b: int, made: Callable[[str], Defense], net: nn.Module, digits: Parts
) -> None:
    batch = held(digits.test, 3, b)
    defense = made(name)
    shapes = {key: (3, *p.shape) for key, p in defended(net, defense).named_parameters()}
    update = send(net, defense, batch)
    assert {key: g.shape for key, g in update.items() if g is not None} == {
        key: shape for key, shape in shapes.items() if update[key] is not None
    }
    assert list(update) == list(shapes)
    assert all(g.isfinite().all() and not g.requires_grad for g in update.values() if g is not None)
    sent = defense.images(batch, Draws(("m",), range(3)))
    assert sent.x.shape == batch.x.shape
    assert sent.x.min() >= 0
    assert sent.x.max() <= 1
    if defense.relabels:
        assert sent.y.shape[:2] == batch.y.shape
    else:
        assert torch.equal(sent.y, batch.y)


@pytest.mark.parametrize("name", EVERY)
def test_hooks_never_write_into_their_input(
    name: str, made: Callable[[str], Defense], net: nn.Module, digits: Parts
) -> None:
    defense, batch, draws = made(name), held(digits.test, 3, 2), Draws(("m",), range(3))
    x, y = batch.x.clone(), batch.y.clone()
    weights = {key: p.detach().clone() for key, p in net.named_parameters()}
    defense.images(batch, draws)
    defense.gradient(net, batch, draws)
    plain = mean_gradient(net, batch)
    before = {key: g.clone() for key, g in plain.items()}
    defense.message(plain, draws, {})
    defense.received(plain, draws)
    defense.keep(plain, None, {})
    assert same(plain, before)
    assert torch.equal(batch.x, x)
    assert torch.equal(batch.y, y)
    assert all(torch.equal(p, weights[key]) for key, p in net.named_parameters())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_fresh_draws_change_the_message_if_and_only_if_it_is_stochastic(
    name: str, made: Callable[[str], Defense], net: nn.Module, digits: Parts
) -> None:
    batch, defense = held(digits.test, 3, 2), made(name)
    one, again, fresh = (send(net, defense, batch, name=stream) for stream in ("m", "m", "n"))
    assert same(one, again)
    assert same(one, fresh) is not defense.stochastic
    if defense.stochastic:  # every victim got noise of its own
        x = Batch(batch.x[:1].expand(3, -1, -1, -1, -1), batch.y[:1].expand(3, -1))
        sent = flat(send(net, defense, x))
        assert not torch.allclose(sent[0], sent[1])


@pytest.mark.parametrize("local", [None, Local(2, 0.05, 0.9)], ids=["gradient", "delta"])
@pytest.mark.parametrize("name", EVERY)
def test_a_victim_alone_sends_what_it_sends_in_company(
    name: str, local: Local | None, made: Callable[[str], Defense], net: nn.Module, digits: Parts
) -> None:
    batch, defense = held(digits.test, 3, 2), made(name)
    net = defended(net, defense)
    together = flat(make_message(net, defense, batch, Draws(("m",), range(3)), local))
    single = Batch(batch.x[1:2], batch.y[1:2])
    alone = flat(make_message(net, defense, single, Draws(("m",), (1,)), local))
    assert (alone[0] - together[1]).norm() <= 1e-4 * together[1].norm()


@pytest.mark.parametrize("spec", NEUTRAL)
def test_the_neutral_end_is_no_defense(spec: str, net: nn.Module, digits: Parts) -> None:
    batch = held(digits.test, 3, 2)
    plain, neutral = (flat(send(net, build("defenses", s), batch)) for s in ("none", spec))
    assert torch.allclose(plain, neutral, atol=4e-6 * float(plain.abs().max()))  # what a processor's rounding leaves


@pytest.mark.parametrize("name", [name for name in COMPARABLE if name not in LEVEL])
def test_a_stronger_knob_changes_more(name: str, made: Callable[[str], Defense], net: nn.Module, digits: Parts) -> None:
    batch = held(digits.test, 24, 1)
    members = tuple(range(24))
    plain = send(net, build("defenses", "none"), batch, members)
    apart = []
    for value in made(name).sweep:
        sent = send(net, replace(made(name), **{made(name).knob: value}), batch, members)
        nothing = {key: torch.zeros_like(g) for key, g in plain.items() if sent[key] is None}
        apart.append(float((flat(sent | nothing) - flat(plain)).norm(dim=1).mean()))
    assert all(after >= before * (1 - SLACK.get(name, 1e-6)) for before, after in pairwise(apart))
    assert apart[0] < apart[-1]
    assert apart[1] < apart[-1]


@pytest.mark.parametrize("name", EVERY)
def test_every_defense_names_its_knob_and_ships_its_adaptive_attack(name: str) -> None:
    defense = build("defenses", name)
    if name == "none":
        assert defense.knob == ""
        return
    assert type(defense).match is not Defense.match or defense.oblivious_suffices
    assert defense.place in PLACES
    assert isinstance(defense.settings()[defense.knob], int | float)
    assert len(defense.sweep) >= 4
    assert list(defense.sweep) in (sorted(defense.sweep), sorted(defense.sweep, reverse=True))
    for value in defense.sweep:
        replace(defense, **{defense.knob: value})


@pytest.mark.parametrize("name", EVERY)
def test_its_match_runs_in_the_adaptive_attack(
    name: str, made: Callable[[str], Defense], net: nn.Module, digits: Parts, few_aux: Images
) -> None:
    defense = made(name)
    b = 2 * (defense.cohort or 1)
    view = seen(defended(net, defense), held(digits.test, 2, b), 10, defense, aux=few_aux)
    if "defense_params" in defense.match_needs:  # what study() learns, but for the length of its training
        view = replace(view, studied=learn_inverters(few_aux.x[:64], lambda x, d: x, Draws(("s",)), epochs=1))
    attack = build("attacks", "adaptive_matching(steps=5, tv=0.01)")
    guess = attack.reconstruct(view, Draws(("a",), range(2)))
    assert guess.x.shape == (2, b, 1, 32, 32)
    assert guess.x.isfinite().all()
    assert guess.loss.isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_what_the_server_averages_is_the_mean(name: str) -> None:
    messages = {"a": torch.arange(6.0).view(3, 2), "b": None}
    received = build("defenses", name).received(messages, Draws(("server",), range(3)))
    assert received["a"].tolist() == [2.0, 3.0]
    assert received["b"] is None
