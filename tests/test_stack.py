"""`a + b`: hooks in the order written, nothing mixed up between the parts, and bad combinations told in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from pydantic.dataclasses import dataclass
from scene import flat, held, net_of, same, seen
from test_cli import call

from gibench.datasets import Parts
from gibench.defenses import Defense, Exposure
from gibench.defenses.dpsgd import DPSGD
from gibench.defenses.latent_perturb import LatentPerturb
from gibench.defenses.partial_share import PartialShare
from gibench.defenses.prune import Prune
from gibench.defenses.secagg import SecureAggregation
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.gradients import mean_gradient
from gibench.learned.inverter import learn_inverters
from gibench.message import make_message, server_sees, transmitted
from gibench.registry import build, expand
from gibench.stack import Stack, stacked
from gibench.types import Batch, Images, Match, Memory, Update, View

DRAWS = Draws(("m",), range(3))
BOTTLENECK = 'latent_perturb(kind="bottleneck", beta=0.0001)'
THREE = f"{BOTTLENECK} + dpsgd(sigma=0.01) + prune(p=0.5)"


@dataclass(frozen=True)
class Feeding(Defense):
    """Adds what it kept of earlier messages, and keeps this one."""

    place = "gradient"
    citation: ClassVar[str] = "test"
    knob = "share"
    neutral = "feeding(share=0)"
    share: float = 0.5

    @classmethod
    def entry_name(cls) -> str:
        return "feeding"

    def message(self, update: Update, draws: Draws, memory: Memory) -> Update:
        sent = {k: g + self.share * memory[f"left {k}"] if memory else g for k, g in update.items() if g is not None}
        memory |= {f"left {k}": g for k, g in sent.items()}
        return dict(sent)


@dataclass(frozen=True)
class Brighter(Defense):
    place = "data"
    citation: ClassVar[str] = "test"
    by: float = 0.1

    def images(self, batch: Batch, draws: Draws) -> Batch:
        return replace(batch, x=(batch.x * (1 - self.by) + self.by * self.by))

    def match(self, view: View) -> Match:
        return Match(post=lambda x: x * 2 if self.by < 0.2 else x + 0.25, distance="l1" if self.by < 0.2 else "cos")


@pytest.fixture(scope="module")
def tiny_aux(few_aux: Images) -> Images:
    return Images(few_aux.x[:32], few_aux.y[:32])


@pytest.fixture(scope="module")
def three(tiny_aux: Images) -> Stack:
    short = THREE.replace("0.0001", "0.0001, autoencoder_epochs=1, epochs=1")
    return build("defenses", short).fit(tiny_aux, Draws(("test fit",)))


def test_hooks_run_in_the_order_written(three: Stack, digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 2)
    latent, dpsgd, prune = three.parts
    assert [type(part) for part in three.parts] == [LatentPerturb, DPSGD, Prune]
    sent = latent.images(batch, DRAWS.at("images", 0))
    noisy = dpsgd.gradient(net, sent, DRAWS.at("gradient", 1))
    pruned = prune.message(noisy, DRAWS.at("message", 2), {})
    assert same(make_message(net, three, batch, DRAWS), pruned)
    assert torch.equal(transmitted(three, batch, DRAWS).x, sent.x)
    assert not torch.equal(sent.x, batch.x)
    for g in pruned.values():
        assert abs(float((g == 0).double().mean()) - 0.5) < 0.06
    pair = build("defenses", "dpsgd(sigma=0.01) + prune(p=0.5)")
    assert flat(make_message(net, pair, batch, DRAWS)).count_nonzero() > 0


@pytest.mark.parametrize(
    ("neutral", "other"),
    [
        ("none", "prune(p=0.9)"),
        ("none", BOTTLENECK),
        ("prune(p=0)", "prune(p=0.9)"),
        ("prune(p=0)", "partial_share(layers=1)"),
        ("none", "dpsgd(sigma=0.3)"),
    ],
)
def test_with_a_neutral_part_the_other_sends_what_it_sends_alone(
    neutral: str, other: str, digits: Parts, tiny_aux: Images
) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 2)
    if "latent" in other:
        other = other.replace("0.0001", "0.0001, autoencoder_epochs=1, epochs=1")
    alone = build("defenses", other).fit(tiny_aux, Draws(("fit", 1)))
    both = build("defenses", f"{neutral} + {other}").fit(tiny_aux, Draws(("fit",)))
    assert both.parts[1].state.keys() == alone.state.keys()
    assert all(torch.equal(both.parts[1].state[k], t) for k, t in alone.state.items())

    class Second:
        """The part alone, on the streams that it has in the stack."""

        cohort = None
        weights = staticmethod(lambda net, draws, memory: alone.weights(net, draws.at(1), memory))
        images = staticmethod(lambda batch, draws: alone.images(batch, draws.at(1)))
        gradient = staticmethod(
            lambda net, b, draws, params, memory: alone.gradient(net, b, draws.at(1), params, memory)
        )
        keep = staticmethod(alone.keep)
        frozen = staticmethod(alone.frozen)
        message = staticmethod(lambda update, draws, memory: alone.message(update, draws.at(1), memory))

    kept: tuple[Memory, Memory] = ({}, {})
    for r in range(2):
        one = make_message(net, both, batch, DRAWS.at(r), None, kept[0])
        other_one = make_message(net, Second(), batch, DRAWS.at(r), None, kept[1])
        assert same(one, other_one)
    assert {name.removeprefix("1/") for name in kept[0]} == set(kept[1])


def test_state_and_memory_of_the_parts_do_not_mix(tiny_aux: Images, digits: Parts) -> None:
    short = "latent_perturb(rho={}, latent=4, autoencoder_epochs=1, epochs=1)"
    pair = build("defenses", f"{short.format(0.5)} + {short.format(2)}").fit(tiny_aux, Draws(("fit",)))
    first, second = pair.parts
    assert {name.split("/")[0] for name in pair.state} == {"0", "1"}
    assert first.state.keys() == second.state.keys()
    assert any(not torch.equal(t, second.state[k]) for k, t in first.state.items())
    net, batch, memory = net_of("lenet", 1, 10), held(digits.test, 3, 1), Memory()
    stack = stacked([Feeding(share=0.5), Feeding(share=0.25), Prune(p=0.9), PartialShare(layers=1)])
    sent = [make_message(net, stack, batch, DRAWS.at(r), None, memory) for r in range(2)]
    assert {name.split("/")[0] for name in memory} == {"0", "1", "3"}
    assert sent[0]["6.weight"] is None
    assert sorted(name for name in memory if name[0] == "3") == ["3/6.bias", "3/6.weight"]
    own, kept = Memory(), ({}, {})
    for r in range(2):  # by hand: what each of the two keeps
        params = PartialShare(layers=1).weights(net, DRAWS, own)
        g = mean_gradient(net, batch, params=params)
        PartialShare(layers=1).keep(g, None, own)
        first = {k: t + (0.5 * kept[0][k] if r else 0) for k, t in g.items()}
        second = {k: t + (0.25 * kept[1][k] if r else 0) for k, t in first.items()}
        kept = (first, second)
    for i in range(2):
        assert all(torch.allclose(memory[f"{i}/left {k}"], t, atol=1e-6) for k, t in kept[i].items())
    assert all(torch.allclose(memory[f"3/{k}"], t, atol=1e-6) for k, t in own.items())
    assert not torch.allclose(memory["0/left 1.weight"], memory["1/left 1.weight"], atol=1e-6)


def test_matches_compose(three: Stack, digits: Parts, few_aux: Images) -> None:
    net = net_of("lenet", 1, 10)
    view = seen(net, held(digits.test, 2, 1), 10, three, aux=few_aux)
    learned = learn_inverters(few_aux.x[:64], lambda x, d: x, Draws(("s",)), epochs=1)
    view = replace(view, studied={f"0/{name}": t for name, t in learned.items()})
    match = three.match(view)
    latent, dpsgd, prune = (
        part.match(replace(view, defense=part, studied=learned if i == 0 else {})) for i, part in enumerate(three.parts)
    )
    assert match.distance == dpsgd.distance == "l2"
    assert not match.linear
    some, draws = mean_gradient(net, held(digits.test, 2, 1)), Draws(("t",), range(2))
    assert same(match.transform(some, draws), prune.transform(some, draws))
    x = digits.test.x[:2].unsqueeze(1)
    assert torch.equal(match.post(x), latent.post(x))
    assert not torch.equal(match.post(x), x)
    each = mean_gradient(net, held(digits.test, 3, 1))
    assert same(match.example(each), dpsgd.example(each))
    guess = build("attacks", "adaptive_matching(steps=3, tv=0.01)").answer(view, Draws(("a",), range(2)))
    assert guess.x.isfinite().all()


def test_what_is_undone_after_an_inversion_is_undone_last_part_first(digits: Parts) -> None:
    stack = stacked([Brighter(by=0.1), Brighter(by=0.5)])
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, stack)
    x = digits.test.x[:2].unsqueeze(1)
    assert torch.equal(stack.match(view).post(x), (x + 0.25) * 2)
    assert stack.match(view).distance == "l1"


def test_every_part_learns_on_images_as_the_parts_before_it_show_them(few_aux: Images) -> None:
    got: list[Images] = []

    @dataclass(frozen=True)
    class Learning(Brighter):
        def fit(self, aux: Images, draws: Draws) -> Defense:
            got.append(aux)
            return self

        def study(self, aux: Images, draws: Draws) -> dict[str, torch.Tensor]:
            got.append(aux)
            return {"x": aux.x.mean()}

    stack = stacked([Brighter(by=0.1), Learning(by=0.3)])
    studied = stack.study(few_aux, Draws(("s",)))
    stack.fit(few_aux, Draws(("f",)))
    for aux in got:
        assert torch.allclose(aux.x, few_aux.x * 0.9 + 0.01)
    assert set(studied) == {"1/x"}


def test_every_part_learns_from_whom_it_asks(few_aux: Images, digits: Parts) -> None:
    got: list[Images] = []

    @dataclass(frozen=True)
    class Learning(Brighter):
        learns_from: Literal["aux", "client"] = "aux"

        def fit(self, images: Images, draws: Draws) -> Defense:
            got.append(images)
            return self

    few = Images(digits.client.x[:8], digits.client.y[:8])
    stack = stacked([Learning(by=0.1), Learning(by=0.1, learns_from="client"), Learning(by=0.1)])
    stack.learn({"aux": few_aux, "client": few}, Draws(("f",)))
    shown = few.x * 0.9 + 0.01
    assert torch.equal(got[0].x, few_aux.x)
    assert torch.allclose(got[1].x, shown)
    assert torch.allclose(got[2].x, (few_aux.x * 0.9 + 0.01) * 0.9 + 0.01)


@pytest.mark.parametrize(
    "spec",
    [
        f"{BOTTLENECK} + dpsgd(sigma=0.01)",
        THREE,
        "dpsgd(sigma=0.01) + prune(p=0.5) + secagg(clients=5)",
        "local_steps(epochs=3) + partial_share(layers=1) + secagg(clients=2)",
    ],
)
def test_specs_round_trip(spec: str) -> None:
    stack = build("defenses", spec)
    assert stack.spec() == spec
    assert build("defenses", stack.spec()).identity() == stack.identity()
    assert stack.identity()["parts"] == [part.identity() for part in stack.parts]
    assert stack.place == stack.parts[-1].place
    assert stack.knob == next((part.knob for part in reversed(stack.parts) if part.knob), "")
    assert stack.citation.count(";") >= len(stack.parts) - 1


def test_sweeps_in_a_stack_are_products_and_the_order_is_part_of_the_identity() -> None:
    grid = expand("defenses", "dpsgd(sigma=[0.1, 1.0]) + prune(p=[0.5, 0.9])")
    assert [stack.spec() for stack in grid] == [
        f"dpsgd(sigma={sigma}) + prune(p={p})" for sigma in (0.1, 1.0) for p in (0.5, 0.9)
    ]
    assert len({str(stack.identity()) for stack in grid}) == 4
    turned = build("defenses", "prune(p=0.5) + dpsgd(sigma=0.1)")
    assert turned.identity() != grid[0].identity()


def test_what_a_stack_is_follows_from_its_parts() -> None:
    stack = build("defenses", f"{BOTTLENECK} + dpsgd(sigma=0.01) + secagg(clients=4)")
    assert (stack.stochastic, stack.sampling, stack.cohort, stack.relabels) == (True, "poisson", 4, False)
    assert stack.match_needs == {"aux_data", "defense_params"}
    assert stack.neutral == ""
    assert build("defenses", "prune(p=0.5) + secagg").neutral == "prune(p=0) + secagg(clients=1, bits=40)"
    assert build("defenses", "none + secagg").oblivious_suffices
    assert not build("defenses", "prune(p=0.5) + secagg").oblivious_suffices
    assert "only 3 are trained" in stack.unfit(net_of("lenet", 1, 10), (1, 32, 32), 3)
    assert build("defenses", "local_steps(epochs=3) + secagg(clients=2)").local(None).epochs == 3


def test_bytes_and_received_are_the_last_parts_that_care(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 2, 4)
    stack = stacked([Prune(p=0.5), SecureAggregation(clients=2)])
    view = server_sees(net, stack, batch, Draws(("m",), range(2)))
    single = Prune(p=0.5).message(mean_gradient(net, held(digits.test, 4, 2)), DRAWS, {})
    assert all(torch.allclose(g, single[k].unflatten(0, (2, 2)).mean(1), atol=2**-16) for k, g in view.items())
    assert stack.upload_bytes(single) == 8 * flat(single).shape[1]


def test_a_guarantee_survives_what_processes_noisy_messages_but_no_mixing_of_images() -> None:
    exposure = Exposure(20, 60, 4, 5, 1)
    alone = build("defenses", "dpsgd").accounting(exposure)
    for spec in ("dpsgd + prune(p=0.5)", "prune(p=0.5) + dpsgd", f"{BOTTLENECK} + dpsgd", "dpsgd + secagg(clients=2)"):
        assert build("defenses", spec).accounting(exposure) == alone, spec

    class Mixing(Brighter):
        mixes: ClassVar[bool] = True

    assert stacked([Mixing(), DPSGD()]).accounting(exposure) == {}


def test_an_image_moves_the_message_by_no_more_than_the_clip_allows(three: Stack, digits: Parts) -> None:
    """Whatever the data defense before it makes of the image, with the same noise."""
    stack = replace(three, given=(three.given[0], DPSGD(sigma=0.0, clip=0.1)))
    net, batch = net_of("lenet", 1, 10), held(digits.test, 3, 4)
    without = Batch(batch.x, batch.y, torch.tensor([1.0, 1, 1, 0]).expand(3, 4), 4)
    whole = Batch(batch.x, batch.y, torch.ones(3, 4), 4)
    moved = flat(make_message(net, stack, whole, DRAWS)) - flat(make_message(net, stack, without, DRAWS))
    assert (moved.norm(dim=1) * 4 <= 0.1 + 1e-5).all()
    assert (moved.norm(dim=1) > 0).all()


BAD = [
    (
        "dpsgd + latent_perturb",
        ["'latent_perturb' acts on the data", "cannot come after 'dpsgd'", "data, model, gradient"],
    ),
    ("secagg + prune", ["'prune' acts on the gradient", "cannot come after 'secagg'"]),
    ("dpsgd + dpsgd(sigma=0.1)", ["'dpsgd' and 'dpsgd' both compute the gradient"]),
    ("local_steps + local_steps(epochs=2)", ["both set the local training"]),
    ("secagg + secagg(clients=2)", ["both decide what the server receives"]),
    ("partial_share + partial_share(layers=2)", ["both choose the weights"]),
    ("dpsgd + ", ["a defense is missing beside a +"]),
    (" + prune", ["a defense is missing beside a +"]),
    ("prune + + dpsgd", ["a defense is missing beside a +"]),
    ("prune + dpsdg", ["unknown defense 'dpsdg'", "did you mean 'dpsgd'"]),
    ("dpsgd + prune(p=2)", ["p:", "less than 1"]),
    ("dpsgd + prune(p=[])", ["sweep over 'p' is empty"]),
]


@pytest.mark.parametrize(("spec", "words"), BAD)
def test_a_bad_stack_is_one_line_and_code_2(
    spec: str, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        expand("defenses", spec)
    code, out, err = call(capsys, "run", "suite=quick", f'defenses=["{spec}"]')
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    for word in words:
        assert word in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('attacks=["prior_only + lti"]', ["attacks cannot be added up with +", "only defenses"]),
        ('models=["lenet + mlp"]', ["models cannot be added up"]),
        ('defenses=["secagg(clients=65)"]', ["the sum is of 65 clients, but only"]),
        ('defenses=["prune(p=0.5) + partial_share(layers=9)"]', ["would be private: nothing is shared"]),
    ],
)
def test_what_cannot_be_added_up_or_served_is_one_line_and_code_2(
    setting: str, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "run", "suite=smoke", setting)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    for word in words:
        assert word in err
    assert not list(tmp_path.iterdir())
