"""CENSOR: orthogonal, as long as the gradient, and the best of its trials."""

import math

import pytest
import torch
from scene import flat, held, net_of, same, seen
from torch.func import functional_call

from gibench.datasets import Parts
from gibench.defenses.censor import Censor
from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.message import own_weights
from gibench.types import Batch, Update


def losses(net: torch.nn.Module, batch: Batch, update: Update, step: float) -> list[float]:
    """Cross-entropy of each client's images after its own step, in double precision, client by client."""
    found = []
    for victim in range(len(batch.y)):
        moved = {k: p.detach().double() - step * update[k][victim].double() for k, p in net.named_parameters()}
        logits = functional_call(net, moved, (batch.x[victim].double(),))
        found.append(float(torch.nn.functional.cross_entropy(logits, batch.y[victim])))
    return found


@pytest.mark.parametrize("model", ["lenet", "convnet(width=8)"])
def test_each_layer_is_orthogonal_and_of_equal_length(digits: Parts, model: str) -> None:
    net, batch = net_of(model, 1, 10), held(digits.test, 5, 2)
    plain, sent = mean_gradient(net, batch), Censor(trials=2).gradient(net, batch, Draws(("m",), range(5)))
    for name, g in plain.items():
        a, b = g.flatten(1).double(), sent[name].flatten(1).double()
        assert torch.cosine_similarity(a, b).abs().max() < 1e-6, name
        assert torch.allclose(a.norm(dim=1), b.norm(dim=1), rtol=1e-5), name
        assert b.norm(dim=1).min() > 0


@pytest.mark.parametrize("size", [1e-3, 10.0, 100.0])
def test_it_is_orthogonal_at_any_length_of_the_gradient(digits: Parts, size: float) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, 1)
    with torch.no_grad():
        net[6].weight.mul_(size)
    plain, sent = mean_gradient(net, batch), Censor(trials=1).gradient(net, batch, Draws(("m",), range(3)))
    for name in ("1.weight", "3.weight"):
        assert torch.cosine_similarity(plain[name].flatten(1), sent[name].flatten(1)).abs().max() < 1e-6


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own weights"])
def test_the_best_of_the_trials_is_sent(digits: Parts, own: bool) -> None:
    net, batch, draws = net_of("lenet(width=6)", 1, 10), held(digits.test, 6, 2), Draws(("m",), range(6))
    params = own_weights(net, 6) if own else None
    several = [Censor(trials=n, step=0.1).gradient(net, batch, draws, params) for n in range(1, 7)]
    found = torch.tensor([losses(net, batch, update, 0.1) for update in several])  # (trials, clients)
    assert torch.equal(found, found.cummin(0).values)
    assert (found[-1] < found[0]).sum() >= 3
    for victim in range(6):  # what is sent changes exactly when the loss falls
        for before, after, drop in zip(several, several[1:], found.diff(dim=0)[:, victim], strict=False):
            moved = any(not torch.equal(before[k][victim], after[k][victim]) for k in before)
            assert moved == (float(drop) < 0)


def test_directions_are_fresh(digits: Parts) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, 1)
    one, two = (Censor().gradient(net, batch, Draws((m,), range(3))) for m in ("m", "n"))
    assert torch.cosine_similarity(flat(one), flat(two)).abs().max() < 0.2
    assert same(one, Censor().gradient(net, batch, Draws(("m",), range(3))))


def test_the_simulation_at_the_true_images_fits_the_message(digits: Parts) -> None:
    """The message has the gradient's length and nothing along it, layer by layer: there the distance is zero."""
    net, batch, defense = net_of("lenet(width=6)", 1, 10), held(digits.test, 3, 1), Censor(trials=1)
    view = seen(net, batch, 10, defense)
    match = defense.match(view)
    draws = Draws(("a",), range(3))

    def apart(x: torch.Tensor) -> torch.Tensor:
        simulated = match.transform(mean_gradient(net, Batch(x, batch.y)), draws)
        return (flat(simulated) - flat(view.update)).norm(dim=1) / flat(view.update).norm(dim=1)

    assert match.distance == "l2"
    assert apart(batch.x).max() < 1e-5
    assert apart(1 - batch.x).min() > 1e-3


def test_bad_fields_are_refused() -> None:
    for bad in ({"trials": 0}, {"step": 0}, {"step": math.inf}):
        with pytest.raises(ValueError, match="validation error"):
            Censor(**bad)
