"""What every attack owes: an answer for every victim, of its own; nothing changed; bad views refused in one line."""

from dataclasses import replace

import pytest
import torch
from scene import flat, held, net_of, rows, same, seen
from torch import nn

from gibench.attacks import Attack
from gibench.attacks.auto import BUDGETS, Budget
from gibench.bn import statistics_of
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.registry import build, names
from gibench.types import Images, Local, View

EVERY = names("attacks")
MODELS = [
    "lenet(width=4)",
    'convnet(width=8, depth=1, norm="batch")',
    "mlp(width=64)",
    'lenet(width=4, activation="tanh")',
]
CHEAP = {"steps": 3, "latent_steps": 3, "refine": 2, "epochs": 1, "restarts": 1, "seeds": 2, "samples": 200} | {
    "pairs": 8,
    "budget": "quick",
}
V = 3


def cheap(name: str) -> Attack:
    attack = build("attacks", name)
    fields = attack.settings()
    open_fields = {key: values[0] for key, values in attack.open_fields().items()}
    return replace(attack, **open_fields, **{key: value for key, value in CHEAP.items() if key in fields})


def scene(attack: Attack, digits: Parts, b: int = 1, v: int = V) -> View:
    """The first model, kind of message and batch size that this attack can handle, with everything it may ask for."""
    aux = Images(digits.aux.x[:96], digits.aux.y[:96])
    for kind in ("gradient", "delta", "activations"):
        for model in MODELS:
            net = net_of(model, 1, 10)
            for size in {b, 1, 4}:
                if attack.misread(kind) or attack.unfit(net, size, kind):
                    continue
                draws = Draws(("plant",))
                shown = attack.plant(net, (size, 1, 32, 32), aux, draws)
                batch = held(digits.test, v, size)
                local = Local(2, 0.05, 0.0) if kind == "delta" else None
                view = seen(shown, batch, 10, aux=aux, local=local, cut=1 if kind == "activations" else None)
                with torch.no_grad():
                    stats = statistics_of(shown, batch.x)
                return replace(view, bn=stats, planted="active_server" in attack.required())
    raise AssertionError(f"{attack} fits none of the models of this test; add one that it fits")


@pytest.fixture(autouse=True)
def _small_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "quick", Budget(steps=3, epochs=1, images=1))


@pytest.fixture(params=EVERY)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_answers_every_victim_the_same_way_twice_and_changes_nothing(name: str, digits: Parts) -> None:
    attack = cheap(name)
    view = scene(attack, digits)
    before, update = (
        {k: p.clone() for k, p in view.model.state_dict().items()},
        {k: g.clone() for k, g in view.update.items()},
    )
    aux = view.aux.x.clone()
    guess = attack.answer(view, Draws(("attack",), range(V)))
    assert guess.x.shape == (V, *view.shape)
    assert guess.x.dtype == torch.float32
    assert not guess.x.requires_grad
    assert guess.x.min() >= 0
    assert guess.x.max() <= 1
    assert guess.labels.shape == (V, view.shape[0])
    assert guess.labels.min() >= 0
    assert guess.labels.max() < 10
    assert guess.loss.shape == (V,)
    assert guess.loss.isfinite().all()
    again = attack.answer(view, Draws(("attack",), range(V)))
    assert torch.equal(guess.x, again.x)
    assert torch.equal(guess.loss, again.loss)
    assert all(torch.equal(p, before[k]) for k, p in view.model.state_dict().items())
    assert same(view.update, update)
    assert torch.equal(view.aux.x, aux)


def test_a_victim_alone_gets_what_it_gets_in_company(name: str, digits: Parts) -> None:
    attack = cheap(name)
    view = scene(attack, digits)
    whole = attack.answer(view, Draws(("attack",), range(V)))
    alone = replace(
        view,
        update=rows(view.update, 1, 2),
        labels=view.labels[1:2],
        bn={k: (m[1:2], s[1:2]) for k, (m, s) in view.bn.items()},
    )
    single = attack.answer(alone, Draws(("attack",), (1,)))
    assert (single.x[0] - whole.x[1]).abs().mean() < 1e-3


def test_a_victim_whose_update_is_not_finite_fails_alone(name: str, digits: Parts) -> None:
    attack = cheap(name)
    view = scene(attack, digits)
    update = {k: g.clone() for k, g in view.update.items()}
    next(iter(update.values()))[1].fill_(torch.nan)
    list(update.values())[-1][2, 0] = torch.inf
    guess = attack.answer(replace(view, update=update), Draws(("attack",), range(V)))
    assert guess.loss.isfinite().tolist() == [True, False, False]
    assert guess.reasons == ("", *["the update holds NaN or infinite values"] * 2)


def broken(view: View) -> dict[str, tuple[View, str]]:
    """Views that no attack may answer, with what has to be said about them."""
    first, last = next(iter(view.update)), list(view.update)[-1]
    what = "activation" if view.kind == "activations" else "parameter"

    def with_update(**changes: object) -> View:
        return replace(view, update=view.update | changes)

    g = view.update[last]
    without = {k: u for k, u in view.update.items() if k != first}
    return {
        "missing tensor": (replace(view, update=without), f"lacks the {what} '{first}'"),
        "extra tensor": (with_update(ghost=g), f"'ghost', which is no {what}"),
        "shape": (with_update(**{last: torch.zeros(V, 3, 3, 3)}), f"'{last}' has the shape"),
        "dtype": (with_update(**{last: g.double()}), "float64"),
        "victims": (with_update(**{last: g[:2]}), "disagree on the number of victims"),
        "labels": (replace(view, labels=view.labels + 10), "labels must lie in 0..9"),
        "nothing shared": (replace(view, update=dict.fromkeys(view.update)), f"shares no {what}"),
    }


FAULTS = ["missing tensor", "extra tensor", "shape", "dtype", "victims", "labels", "nothing shared"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_view_is_refused_in_one_line(name: str, fault: str, digits: Parts) -> None:
    attack = cheap(name)
    view, said = broken(scene(attack, digits))[fault]
    if fault == "nothing shared" and attack.control:
        pytest.skip("a control looks at no update")
    with pytest.raises(InputError) as caught:
        attack.answer(view, Draws(("attack",), range(V)))
    assert str(caught.value).startswith(f"{name}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_view_lacks_is_named(name: str, digits: Parts) -> None:
    attack = cheap(name)
    view = scene(attack, digits)
    stripped = replace(view, aux=None, defense=None, bn=None, labels=None, planted=False)
    shown = {"aux_data", "defense_spec", "bn_stats", "labels", "active_server"} & attack.required()
    if not shown:
        return
    with pytest.raises(InputError) as caught:
        attack.answer(stripped, Draws(("attack",), range(V)))
    assert all(need in str(caught.value) for need in shown)


@pytest.mark.parametrize(
    ("name", "model", "batch", "kind", "said"),
    [
        ("analytic_fc", "lenet", 1, "gradient", "Conv2d"),
        ("spear", "lenet", 1, "gradient", "Conv2d"),
        ("trap_weights", "convnet", 1, "gradient", "Conv2d"),
        ("bn_matching", "lenet", 1, "gradient", "no BatchNorm"),
        ("gradinversion", "convnet", 1, "gradient", "no BatchNorm"),
        ("idlg", "lenet", 2, "gradient", "one image per message"),
        ("rgap", "lenet", 2, "gradient", "a single image"),
        ("fedavg_matching", "lenet", 1, "gradient", "no local training"),
    ],
)
def test_a_model_or_message_that_it_cannot_handle_is_refused(
    name: str, model: str, batch: int, kind: str, said: str, digits: Parts
) -> None:
    attack, net = cheap(name), net_of(model, 1, 10)
    assert said in attack.unfit(net, batch, kind)
    with torch.device("meta"):  # what the grid looks at
        assert said in attack.unfit(build("models", model).build(1, 32, 10), batch, kind)
    stats = {"any": (torch.zeros(V, 1), torch.zeros(V, 1))}
    view = replace(seen(net, held(digits.test, V, batch), 10, aux=digits.aux), bn=stats, planted=True)
    with pytest.raises(InputError, match=said):
        attack.answer(view, Draws(("attack",), range(V)))


def test_an_active_server_sends_another_model_and_keeps_its_own(name: str, digits: Parts) -> None:
    attack = cheap(name)
    if "active_server" not in attack.required():
        net = nn.ReLU()
        assert attack.plant(net, (1, 1, 32, 32), None, Draws(("plant",))) is net
        return
    net = next(n for n in (net_of(m, 1, 10) for m in MODELS) if not attack.unfit(n, 4, "gradient"))
    before = {k: p.clone() for k, p in net.state_dict().items()}
    sent = attack.plant(net, (4, 1, 32, 32), digits.aux, Draws(("plant",)))
    assert all(torch.equal(p, before[k]) for k, p in net.state_dict().items())
    assert sent is not net
    honest, planted = (flat(seen(n, held(digits.test, V, 4), 10).update) for n in (net, sent))
    assert honest.shape != planted.shape or not torch.allclose(honest, planted)
    assert sent(digits.test.x[:2]).shape == (2, 10)
