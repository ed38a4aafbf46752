"""A net on shares answers as in plain, up to fixed point and the stated error of its activations."""

import numpy as np
import pytest
import torch
from torch import nn

from gibench.datasets import Parts
from gibench.systems.encrypted_net import GRID, broken_line, encrypted, unknown_layer
from gibench.systems.two_party import TwoParty

from scene import net_of  # isort: skip


def answers(net: nn.Module, x: torch.Tensor, pieces: int = 16) -> tuple[np.ndarray, np.ndarray, float]:
    assert isinstance(net, nn.Sequential)
    found, worst = encrypted(net, x, TwoParty(np.random.default_rng(0)), pieces)
    with torch.no_grad():
        return found, net(x).double().numpy(), worst


@pytest.mark.parametrize(("spec", "error"), [('lenet(width=4, activation="relu")', 0.005), ("mlp(width=16)", 0.005)])
def test_with_a_kinked_activation_only_fixed_point_is_lost(digits: Parts, spec: str, error: float) -> None:
    found, plain, worst = answers(net_of(spec, 1, 10), digits.test.x[:3])
    assert worst < 1e-12
    assert np.abs(found - plain).max() < error
    assert np.abs(plain).max() > 20 * error


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh", "sigmoid"])
def test_a_smooth_activation_becomes_a_line_whose_error_is_stated(digits: Parts, activation: str) -> None:
    net = net_of(f'lenet(width=4, activation="{activation}")', 1, 10)
    found, plain, worst = answers(net, digits.test.x[:2])
    assert 0 < worst < 0.01
    assert np.abs(found - plain).max() < 20 * worst
    assert broken_line(net[2], 32).error < worst / 2  # type: ignore[index]


def test_the_line_goes_through_the_activation_and_on_beyond_the_grid() -> None:
    line = broken_line(nn.GELU(), 16)
    assert np.abs(line(GRID) - nn.GELU()(torch.from_numpy(GRID)).numpy()).max() == pytest.approx(line.error)
    assert np.abs(line(np.array([-30.0, 30.0])) - [0, 30]).max() < 0.05


def test_strides_and_padding_are_those_of_the_layer() -> None:
    conv = nn.utils.skip_init(nn.Conv2d, 2, 3, 3, stride=2, padding=1)
    net = nn.Sequential(conv, nn.Flatten()).double()
    x = torch.linspace(-1, 1, 2 * 2 * 7 * 7, dtype=torch.float64).view(2, 2, 7, 7)
    with torch.no_grad():
        for p, start in zip(net.parameters(), (0.0, 0.5), strict=True):
            p.copy_(torch.linspace(start, 1, p.numel()).view_as(p))
    found, plain, _ = answers(net, x)
    assert np.abs(found - plain).max() < 0.01


def test_layers_without_a_protocol_are_named() -> None:
    assert unknown_layer(net_of("lenet", 1, 10)) == ""
    assert unknown_layer(nn.Sequential(nn.Flatten(), nn.Dropout())) == "Dropout"
    assert unknown_layer(nn.Flatten()) == "Flatten"
    assert unknown_layer(nn.Sequential(nn.utils.skip_init(nn.Conv2d, 2, 2, 3, groups=2))) == "Conv2d"
