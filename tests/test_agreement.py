"""Closed-form agreement equals the gradient's own products, and is differentiated rightly, in fp64."""

import pytest
import torch
from scene import held, net_of
from torch import nn
from torch.nn import functional as F

from gibench import agreement as agreement_module
from gibench.agreement import agreement, can_agree
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.gradients import columns, cross_entropy, mean_gradient
from gibench.types import Batch

V = 3
MODELS = ["lenet(width=4)", "lenet(convs=3, width=8)", "convnet(width=16)", "resnet18(width=8)"]


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize(
    "model", ["lenet(width=4)", "lenet(convs=3, width=8)", "convnet(width=16)", "resnet18(width=8)"]
)
def test_it_equals_products_of_the_gradient(digits: Parts, model: str, b: int) -> None:
    net, batch = net_of(model, 1, 10).double(), held(digits.test, V, b, torch.float64)
    x = Draws(("x",), range(V)).uniform(b, 1, 32, 32).double().requires_grad_()
    iterate = Batch(x, batch.y)
    target = {k: g.flatten(1) for k, g in mean_gradient(net, batch).items()}
    dot, square = agreement(net, iterate, target, cross_entropy)
    g = mean_gradient(net, iterate, create_graph=True)
    plain_dot = sum((g[k].flatten(1) * t).sum(1) for k, t in target.items())
    plain_square = sum(g[k].flatten(1).square().sum(1) for k in target)
    assert torch.allclose(dot, plain_dot, rtol=1e-11, atol=1e-13)
    assert torch.allclose(square, plain_square, rtol=1e-11, atol=1e-13)
    weights = torch.tensor([1.0, -2.0, 3.0]).double()
    mine, theirs = (
        torch.autograd.grad((weights * a).sum() + (c / weights).sum(), x)[0]
        for a, c in ((dot, square), (plain_dot, plain_square))
    )
    assert (mine - theirs).abs().max() < 1e-10 * theirs.abs().max()


def test_large_and_small_maps_and_many_channels_take_the_three_ways(digits: Parts) -> None:
    """The nets above use all: columns at 32 pixels, groups from 16 channels on, and no G at 4 pixels with 64."""
    net, seen = net_of("resnet18(width=8)", 1, 10), set()
    real = agreement_module._Convolution.backward

    def noted(ctx: object, *given: torch.Tensor) -> object:
        seen.add("ghost" if ctx.ghost else "groups" if ctx.grouped else "columns")
        return real(ctx, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement_module._Convolution, "backward", staticmethod(noted))
        batch = held(digits.test, V, 1)
        x = batch.x.clone().requires_grad_()
        target = {k: g.flatten(1) for k, g in mean_gradient(net, batch).items()}
        dot, square = agreement(net, Batch(x, batch.y), target, cross_entropy)
        torch.autograd.grad((dot + square).sum(), x)
    assert seen == {"ghost", "groups", "columns"}


class Twice(nn.Module):
    """One convolution used two times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.conv(F.gelu(self.conv(x))).flatten(1))
        return out


def test_a_layer_that_is_used_twice_counts_once(digits: Parts) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Twice().double()
    assert can_agree(net)
    batch = held(digits.test, V, 1, torch.float64)
    g = mean_gradient(net, batch)
    dot, square = agreement(net, batch, {k: t.flatten(1) for k, t in g.items()}, cross_entropy)
    assert torch.allclose(dot, square)
    assert torch.allclose(square, sum(t.flatten(1).square().sum(1) for t in g.values()))


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(5, 2, 2), (3, 1, 0), ((3, 5), (1, 2), (1, 0))], ids=["strided", "plain", "oblong"]
)
def test_columns_are_those_of_unfold(size: int, stride: int, padding: int) -> None:
    with torch.random.fork_rng():
        layer = nn.Conv2d(2, 1, size, stride, padding=padding)
    x = Draws(("x",), range(4)).normal(2, 9, 11)
    expected = F.unfold(x, layer.kernel_size, 1, layer.padding, layer.stride)
    assert torch.equal(columns(x, layer), expected)


def test_what_has_no_closed_form_goes_the_other_way() -> None:
    with torch.device("meta"):
        assert can_agree(nn.Sequential(nn.Conv2d(4, 4, 3)))
        assert not can_agree(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))
        assert not can_agree(nn.Sequential(nn.Conv2d(4, 4, 3, dilation=2)))
        assert not can_agree(nn.Sequential(nn.Conv2d(4, 4, 3, padding="same")))
        assert not can_agree(nn.Sequential(nn.PReLU()))
