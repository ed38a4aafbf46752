"""A planted head that lets one image of a batch through, on digits."""

from dataclasses import replace

import pytest
import torch
from scene import net_of, rows, same, seen
from torch import Tensor, nn

from gibench.attacks.fishing import Fishing, isolated, target_of
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.types import Batch, Guess, Images, View

QUICK = Fishing(tv=0.003, steps=200, target=3)


def one_of(images: Images, label: int, v: int, b: int, dtype: torch.dtype = torch.float32) -> Batch:
    """v batches that hold exactly one image of the class, in the last place."""
    own, others = images.x[images.y == label][:v], images.y != label
    x = torch.cat([images.x[others][: v * (b - 1)].unflatten(0, (v, b - 1)), own.unsqueeze(1)], 1)
    y = torch.cat([images.y[others][: v * (b - 1)].view(v, b - 1), torch.full((v, 1), label)], 1)
    return Batch(x.to(dtype), y)


def cast(attack: Fishing, batch: Batch, aux: Images | None = None, model: str = "lenet") -> View:
    net = attack.plant(net_of(model, 1, 10).to(batch.x), tuple(batch.x.shape[1:]), aux, Draws(("plant",)))
    return seen(net, batch, 10, labels=False, aux=aux, planted=True)


def run(attack: Fishing, view: View, v: int) -> Guess:
    return attack.answer(view, Draws(("attack",), range(v)))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    return -10 * (a - b).square().flatten(1).mean(1).log10()


@pytest.mark.parametrize("model", ["lenet", 'mlp(activation="gelu")', "convnet(width=16)"])
def test_the_gradient_of_the_only_image_of_its_class_arrives_alone(digits: Parts, model: str) -> None:
    batch = one_of(digits.test, 3, 4, 8)
    view = cast(QUICK, batch, model=model)
    alone = mean_gradient(view.model, Batch(batch.x[:, -1:], batch.y[:, -1:]))
    layer = [name for name, m in view.model.named_modules() if isinstance(m, nn.Linear)][-1]
    for name, g in isolated(view).update.items():
        if name == f"{layer}.bias":
            assert g is None
            continue
        g, truth = (g[:, 3], alone[name][:, 3]) if name == f"{layer}.weight" else (g, alone[name])
        assert (g - truth).norm() < 1e-5 * truth.norm()


def test_a_feature_cut_isolates_one_image_of_a_single_class(digits: Parts) -> None:
    attack = replace(QUICK, mode="feature")
    own = digits.test.x[digits.test.y == 3][:32].unflatten(0, (4, 8)).double()
    view = cast(attack, Batch(own, torch.full((4, 8), 3)), digits.aux)
    row = view.model[-1].weight[3].detach()
    below = view.model(own.flatten(0, 1))[:, 3].view(4, 8) < 0
    assert (row != 0).sum() == 1
    assert (below.sum(1) == 1).any()  # the expected number; which batches it holds for is chance
    for i in (below.sum(1) == 1).nonzero().flatten().tolist():
        lone = own[i, below[i]]
        truth = mean_gradient(view.model, Batch(lone[None], torch.tensor([[3]])))
        update = isolated(view).update
        for name in ("1.weight", "1.bias", "3.weight", "3.bias"):
            assert (update[name][i] - truth[name][0]).norm() < 1e-5 * truth[name].norm()


def test_the_stolen_image_is_recognisable_and_comes_first(digits: Parts) -> None:
    batch = one_of(digits.test, 3, 4, 8)
    guess = run(QUICK, cast(QUICK, batch), 4)
    assert psnr(guess.x[:, 0], batch.x[:, -1]).min() > 28
    assert (guess.x[:, 1:] == 0.5).all()
    assert (guess.labels[:, 0] == 3).all()
    assert torch.equal(guess.labels.sort(1).values, batch.y.sort(1).values)


def test_a_batch_without_the_class_yields_the_substitute(digits: Parts) -> None:
    batch = one_of(digits.test, 3, 2, 4)
    batch = Batch(batch.x[:, :3], batch.y[:, :3])
    guess = run(QUICK, cast(QUICK, batch, digits.aux), 2)
    assert torch.allclose(guess.x, digits.aux.x.mean(0).expand_as(guess.x))
    assert guess.loss.isfinite().all()


def test_the_target_needs_no_truth(digits: Parts) -> None:
    net, shape, draws = net_of("lenet", 1, 10), (4, 1, 32, 32), Draws(("plant",))
    assert target_of(Fishing().plant(net, shape, None, draws)) == 0
    few = Images(digits.aux.x[:3], torch.tensor([7, 2, 7]))
    assert target_of(Fishing().plant(net, shape, few, draws)) == 7
    assert target_of(Fishing(mode="feature", target=5).plant(net, shape, few, draws)) == 5
    assert "no class 10" in Fishing(target=10).unfit(net, 4, "gradient")
    assert not Fishing(target=9).unfit(net, 4, "gradient")


def test_the_given_net_is_left_alone(digits: Parts) -> None:
    net = net_of("lenet", 1, 10)
    before = {k: p.clone() for k, p in net.state_dict().items()}
    for mode in ("class", "feature"):
        planted = Fishing(mode=mode).plant(net, (4, 1, 32, 32), digits.aux, Draws(("plant",)))
        assert same(before, net.state_dict())
        assert torch.equal(planted[1].weight, net[1].weight)


def test_a_victim_does_not_depend_on_the_others(digits: Parts) -> None:
    attack = replace(QUICK, steps=10)
    view = cast(attack, one_of(digits.test, 3, 3, 4, torch.float64))
    alone = attack.answer(replace(view, update=rows(view.update, 1, 2)), Draws(("attack",), (1,)))
    assert (run(attack, view, 3).x[1] - alone.x[0]).abs().max() < 1e-9
