"""The fully connected net on real images."""

import pytest
import torch
from scene import held, net_of
from torch import nn
from torch.func import functional_call, grad

from gibench.datasets import Parts
from gibench.gradients import mean_gradient
from gibench.types import Batch


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_it_has_the_layers_it_says(ihc: Parts, depth: int) -> None:
    net = net_of(f"mlp(width=32, depth={depth})", 3, 5)
    layers = [m for m in net if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(3072, 32), *[(32, 32)] * (depth - 1), (32, 5)]
    assert all(m.bias is not None for m in layers)
    assert sum(isinstance(m, nn.ReLU) for m in net) == depth
    assert net(ihc.test.x[:4]).shape == (4, 5)


@pytest.mark.parametrize("activation", ["relu", "gelu", "leaky_relu", "tanh"])
def test_its_gradients_by_layer_are_those_of_autograd(digits: Parts, activation: str) -> None:
    net = net_of(f'mlp(width=16, depth=2, activation="{activation}")', 1, 10).double()
    batch = held(digits.test, 3, 4, torch.float64)
    update = mean_gradient(net, Batch(batch.x, batch.y))
    for i in range(3):

        def loss(params: dict[str, torch.Tensor], i: int = i) -> torch.Tensor:
            return nn.functional.cross_entropy(functional_call(net, params, (batch.x[i],)), batch.y[i])

        for name, g in grad(loss)({k: p.detach() for k, p in net.named_parameters()}).items():
            assert torch.allclose(update[name][i], g, atol=1e-12)
