"""DCS: what is sent is the paper's sum, never against the true gradient; proxies are far away with a like gradient."""

from dataclasses import dataclass, replace

import pytest
import torch
from pydantic import ValidationError
from scene import flat, held, net_of, seen
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.datasets import Parts
from gibench.defenses.dcs import DCS
from gibench.draws import Draws
from gibench.engine.labels import matched_labels
from gibench.engine.objective import Objective, Plan
from gibench.gradients import mean_gradient
from gibench.types import Batch

DRAWS = Draws(("m",), range(4))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return net_of("lenet(width=6)", 1, 10).double()


def labels_of_proxies(defense: DCS, proxies: Batch, batch: Batch) -> Tensor:
    """The proxies' own classes, out of the mixed labels."""
    own = F.one_hot(batch.y, 10) * (1 - defense.lam_y)
    return (proxies.y - own).argmax(-1)


@pytest.mark.parametrize("lam_y", [0.0, 0.7, 1.0])
def test_what_is_sent_is_the_papers_sum(lam_y: float, net: nn.Module, digits: Parts) -> None:
    batch = held(digits.test, 4, 2, torch.float64)
    defense = DCS(steps=3, lam_y=lam_y).fit(digits.aux, Draws(("fit",)))
    proxies = defense.proxies(net, batch, DRAWS)
    theirs = labels_of_proxies(DCS(lam_y=lam_y), proxies, batch) if lam_y else batch.y
    sent, x = flat(defense.gradient(net, batch, DRAWS)), batch.x.clone()
    for v in range(4):
        at_p, at_x = net(proxies.x[v]), net(batch.x[v])
        loss = lam_y * F.cross_entropy(at_p, theirs[v]) + (1 - lam_y) * F.cross_entropy(at_p, batch.y[v])
        loss = (loss + F.cross_entropy(at_x, batch.y[v])) / (2 if lam_y in (0, 1) else 3)
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
        assert torch.allclose(sent[v], expected, atol=1e-9)
    assert torch.equal(batch.x, x)


@dataclass(frozen=True)
class Contrary(DCS):
    """Proxies whose gradient is minus five times the image's."""

    def proxies(self, net: nn.Module, batch: Batch, draws: Draws) -> Batch:
        own = F.one_hot(batch.y, 10).to(batch.x)
        return replace(batch, y=-5 * own)


def test_what_is_sent_never_points_against_the_true_gradient(net: nn.Module, digits: Parts) -> None:
    batch = held(digits.test, 4, 1, torch.float64)
    own = flat(mean_gradient(net, batch))
    for size in (1.0, 1e-4):  # a gradient as small as that of a confident example
        small = replace(batch, weight=None)
        net_small = net_of("lenet(width=6)", 1, 10).double()
        with torch.no_grad():
            list(net_small.parameters())[-1].mul_(size)
        sent, true = flat(Contrary().gradient(net_small, small, DRAWS)), flat(mean_gradient(net_small, small))
        plain = (true + flat(mean_gradient(net_small, Contrary().proxies(net_small, small, DRAWS)))) / 3
        assert ((plain * true).sum(1) < 0).all()
        assert ((sent * true).sum(1) >= -1e-9 * true.square().sum(1)).all()
    agreeing = flat(DCS(steps=3).fit(digits.aux, Draws(("f",))).gradient(net, batch, DRAWS))
    assert ((agreeing * own).sum(1) >= 0).all()


def test_the_search_conceals(net: nn.Module, digits: Parts) -> None:
    """Against its start: the gradient comes nearer, the image goes farther; with its weight, so does the output."""
    batch = held(digits.test, 4, 2, torch.float64)
    start, found, close = (
        DCS(steps=steps, lam_z=lam_z).fit(digits.aux, Draws(("fit",))).proxies(net, batch, DRAWS)
        for steps, lam_z in ((0, 0.01), (60, 0.01), (60, 10.0))
    )
    labels = labels_of_proxies(DCS(), start, batch)

    def alike(p: Batch) -> Tensor:
        a = flat(mean_gradient(net, Batch(p.x.flatten(0, 1)[:, None], labels.flatten()[:, None])))
        b = flat(mean_gradient(net, Batch(batch.x.flatten(0, 1)[:, None], batch.y.flatten()[:, None])))
        return torch.cosine_similarity(a, b)

    def away(p: Batch) -> Tensor:
        return (p.x - batch.x).flatten(2).norm(dim=2)

    def moved(p: Batch) -> Tensor:
        with torch.no_grad():
            return (net(p.x.flatten(0, 1)) - net(batch.x.flatten(0, 1))).norm(dim=1)

    assert float((alike(found) - alike(start)).mean()) > 0.1
    assert (away(found) > away(start)).all()
    assert float(moved(close).mean()) < 0.5 * float(moved(start).mean())
    assert torch.equal(start.y, found.y)


def test_the_simulation_is_exact_at_images_and_proxies(digits: Parts) -> None:
    net, batch = net_of("lenet(width=6)", 1, 10).double(), held(digits.test, 4, 2, torch.float64)
    defense = DCS(steps=3).fit(digits.aux, Draws(("fit",)))
    view = seen(net, batch, 10, defense)
    match = defense.match(view)
    proxies = defense.proxies(net, batch, Draws(("test message",), range(4)).at(0).at("gradient"))
    labels = F.one_hot(labels_of_proxies(defense, proxies, batch), 10).double() * 100
    objective = Objective(view, Plan(match, matched_labels(match, view)))
    draws = Draws(("a",), range(4))
    assert objective(batch.x, batch.y, draws, {"proxy": proxies.x, "proxy_labels": labels}).max() < 1e-6
    assert objective(batch.x, batch.y, draws).min() > 1e-3  # as if there were no proxies
    start = match.extra(draws)
    assert start["proxy"].shape == batch.x.shape


def test_fields_out_of_range_are_refused() -> None:
    for wrong in ({"lam_y": 1.5}, {"lam_x": -1.0}, {"steps": -1}, {"lam_z": float("inf")}):
        with pytest.raises(ValidationError):
            DCS(**wrong)
