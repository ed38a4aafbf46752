"""Every objective on every model, in fp64: its definition, its gradient, its independence of the chunk."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen
from torch import Tensor, nn

from gibench.bn import statistics_of
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.chunks import part_of
from gibench.engine.local import local_training
from gibench.engine.objective import Objective, Plan
from gibench.engine.optimisers import Search
from gibench.engine.priors import batch_statistics, energy, total_variation, towards
from gibench.engine.search import as_gradient, invert
from gibench.registry import build
from gibench.types import Local, Match, Update, View

V = 3
MODELS = [
    "lenet(width=4)",
    "convnet(width=8, depth=2)",
    'convnet(width=8, depth=2, norm="batch")',
    "resnet18(width=8)",
    'resnet18(width=8, norm="batch")',
    "convnet(width=16, depth=2)",  # wide enough for convolutions in groups
]


def scene(digits: Parts, model: str, b: int = 2, local: Local | None = None) -> View:
    net = net_of(model, 1, 10).double()
    batch = held(digits.test, V, b, torch.float64)
    view = seen(net, batch, 10, local=local)
    stats = {name: (m.detach(), s.detach()) for name, (m, s) in statistics_of(net, batch.x).items()}
    return replace(view, bn=stats)


def last(net: nn.Module) -> str:
    return list(dict(net.named_parameters()))[-2]


def masks(view: View) -> Update:
    return {name: None if g is None else g > 0 for name, g in view.update.items()}


MATCHES: dict[str, Callable[[View], Match]] = {
    "cos": lambda view: Match(linear=False),
    "l2": lambda view: Match(distance="l2", linear=False),
    "l1": lambda view: Match(distance="l1", linear=False),
    "weighted": lambda view: Match(linear=False, weight={last(view.model): 0.25}),
    "some layers": lambda view: Match(linear=False, weight={last(view.model): 0.0}),
    "masked": lambda view: Match(distance="l2", linear=False, mask=masks(view)),
    "masked cos": lambda view: Match(linear=False, mask=masks(view)),
    "size": lambda view: Match(linear=False, size=0.1),
    "clipped": lambda view: build("defenses", "dpsgd(sigma=0, clip=0.5)").match(view),
}


def plainly(view: View, match: Match, x: Tensor, i: int) -> Tensor:
    """The distance of victim i from its definition, by a plain double backward."""
    names = [name for name, _ in view.model.named_parameters()]

    def gradient(images: Tensor, labels: Tensor) -> list[Tensor]:
        loss = nn.functional.cross_entropy(view.model(images), labels)
        return list(torch.autograd.grad(loss, list(view.model.parameters()), create_graph=True))

    if match.example is None:
        a = gradient(x[i], view.labels[i])
    else:
        each = []
        for image, label in zip(x[i], view.labels[i], strict=True):
            g = gradient(image[None], label[None])
            norm = torch.cat([t.flatten() for t in g]).norm()
            each.append([t * (0.5 / norm).clamp(max=1) for t in g])
        a = [torch.stack(parts).mean(0) for parts in zip(*each, strict=True)]
    whole = torch.cat([t.flatten() for t in a])
    w, pieces = [], []
    for name, t in zip(names, a, strict=True):
        keep = torch.ones_like(t) if match.mask is None else match.mask[name][i].to(t)
        pieces.append((t * keep, view.update[name][i] * keep))
        w.append(torch.full_like(t, (match.weight or {}).get(name, 1.0)).flatten())
    weight = torch.cat(w)
    mine, seen_ = (torch.cat([p[k].flatten() for p in pieces]) for k in (0, 1))
    if match.distance == "cos":
        norm = (weight * seen_.square()).sum().sqrt()
        apart = 1 - (weight * mine * seen_).sum() / (weight * mine.square()).sum().sqrt() / norm
    elif match.distance == "l2":
        norm = seen_.norm()
        apart = (mine - seen_).square().sum() / norm**2
    else:
        norm = seen_.abs().sum()
        apart = (mine - seen_).abs().sum() / norm
    return apart + match.size * whole.square().sum() / norm**2


@pytest.mark.parametrize("kind", MATCHES)
@pytest.mark.parametrize("model", MODELS)
def test_value_and_gradient_equal_a_plain_double_backward(digits: Parts, model: str, kind: str) -> None:
    view = scene(digits, model)
    match = MATCHES[kind](view)
    x = Draws(("iterate",), range(V)).uniform(*view.shape).double().requires_grad_()
    value = Objective(view, Plan(match, view.labels))(x, view.labels, Draws(("w",), range(V)))
    (slope,) = torch.autograd.grad(value.sum(), x)
    expected = torch.stack([plainly(view, match, x, i) for i in range(V)])
    (plain,) = torch.autograd.grad(expected.sum(), x)
    assert (value - expected).abs().max() < 1e-10
    assert (slope - plain).abs().max() < 1e-10 * plain.abs().max()


@pytest.mark.parametrize("kind", MATCHES)
@pytest.mark.parametrize("model", [*MODELS[:3], MODELS[-1]])
def test_a_victim_in_a_chunk_is_a_victim_alone(digits: Parts, model: str, kind: str) -> None:
    view, draws = scene(digits, model), Draws(("attack",), range(V))

    def plan(own: View) -> Plan:
        return Plan(MATCHES[kind](own), own.labels)

    search = Search(steps=4, lr=0.05, tv=1 / 128)
    whole = invert(view, plan, replace(search, chunk=V), draws)
    single = [invert(part_of(view, slice(i, i + 1)), plan, search, draws.part(slice(i, i + 1))) for i in range(V)]
    assert (whole.x - torch.cat([g.x for g in single])).abs().max() < 1e-9
    assert (whole.loss - torch.cat([g.loss for g in single])).abs().max() < 1e-10
    assert torch.allclose(invert(view, plan, search, draws).x, whole.x, atol=1e-9)  # the chunk chosen by memory


def test_randomness_of_a_defense_is_averaged_and_fresh_at_every_draw(digits: Parts) -> None:
    view, draws = scene(digits, MODELS[0]), Draws(("w",), range(V))

    def noisy(x: Tensor, stream: Draws) -> Tensor:
        return x + 0.1 * stream.normal(*x.shape[1:], like=x)

    x = Draws(("iterate",), range(V)).uniform(*view.shape).double()
    single = Objective(view, Plan(Match(linear=False, input_map=noisy), view.labels))
    three = Objective(view, Plan(Match(linear=False, input_map=noisy, draws=3), view.labels))
    each = torch.stack([single.distance(x, view.labels, draws.at(k)) for k in range(3)])
    assert each.std(0).min() > 0
    shifted = torch.stack([three._apart(three.simulated(x, view.labels, draws.at(k))) for k in range(3)]).mean(0)
    assert torch.allclose(three.distance(x, view.labels, draws), shifted, atol=1e-12)


def test_local_training_is_simulated_exactly(digits: Parts) -> None:
    local = Local(epochs=3, lr=0.1, momentum=0.5)
    view = as_gradient(scene(digits, MODELS[0], local=local))
    truth = held(digits.test, V, 2, torch.float64)
    for steps, zero in ((3, True), (2, False)):
        plan = Plan(Match("l2", linear=False), truth.y, simulate=local_training(replace(local, epochs=steps)))
        value = Objective(view, plan)(truth.x, truth.y, Draws(("w",), range(V)))
        assert bool((value < 1e-12).all()) is zero


def test_one_local_step_is_the_gradient(digits: Parts) -> None:
    local = Local(epochs=1, lr=0.1, momentum=0.5)
    view = as_gradient(scene(digits, MODELS[0], local=local))
    x, draws = Draws(("iterate",), range(V)).uniform(*view.shape).double(), Draws(("w",), range(V))
    through = Objective(view, Plan(Match(linear=False), view.labels, simulate=local_training(local)))
    plain = Objective(view, Plan(Match(linear=False), view.labels))
    assert (through(x, view.labels, draws) - plain(x, view.labels, draws)).abs().max() < 1e-10


@pytest.mark.parametrize("model", [MODELS[2], MODELS[4]])
def test_batch_statistics_are_zero_at_the_true_batch_alone(digits: Parts, model: str) -> None:
    view, truth = scene(digits, model, b=4), held(digits.test, V, 4, torch.float64).x
    prior = batch_statistics(view.model, view.bn)
    assert prior(truth).abs().max() < 1e-9
    assert prior(truth.flip(1)).abs().max() < 1e-9  # the order of the batch does not matter
    assert prior(truth.roll(1, 0)).min() > 1e-3
    twice = batch_statistics(view.model, view.bn, first=2.0)
    assert (twice(truth.roll(1, 0)) > prior(truth.roll(1, 0))).all()


def test_statistics_are_those_of_batch_normalisation_itself(digits: Parts) -> None:
    net = net_of(MODELS[2], 1, 10).double()
    batch = held(digits.test, 1, 8, torch.float64)
    mean, variance = next(iter(statistics_of(net, batch.x).values()))
    layer = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    layer.train()
    net(batch.x[0])
    pixels = 8 * 32 * 32
    assert torch.allclose(layer.running_mean, 0.1 * mean[0])
    assert torch.allclose(layer.running_var, 0.9 + 0.1 * variance[0] * pixels / (pixels - 1))


def test_the_other_priors_by_definition() -> None:
    x = Draws(("x",), range(2)).uniform(2, 1, 4, 4).double().requires_grad_()
    assert torch.allclose(energy(x), x.square().mean((1, 2, 3, 4)))
    pull = towards(lambda images: images * 0.5)(x)
    assert torch.allclose(pull, (0.5 * x).square().mean((1, 2, 3, 4)))
    (slope,) = torch.autograd.grad(pull.sum(), x)
    assert torch.allclose(slope, 2 * 0.5 * x / x[0].numel())  # the projection is held fixed
    flat = torch.ones(1, 1, 3, 4, 4)
    assert total_variation(flat).item() == 0
