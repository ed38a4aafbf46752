"""The two parts of a cut net are the net, and what crosses the cut tells of the image."""

import pytest
import torch
from scene import net_of
from torch import nn

from gibench.datasets import Parts
from gibench.errors import InputError
from gibench.split import cuts, smashed, split, upload_bytes

NETS = [
    ("lenet", 2),
    ("lenet(convs=3)", 3),
    ("convnet(depth=3, width=16)", 3),
    ("mlp(depth=2)", 2),
    ("resnet18(width=8)", 9),
]


@pytest.mark.parametrize(("spec", "layers"), NETS)
def test_the_parts_make_the_whole_and_share_its_weights(spec: str, layers: int, digits: Parts) -> None:
    net, x = net_of(spec, 1, 10), digits.test.x[:3]
    assert len(cuts(net)) == layers
    for cut in range(1, layers + 1):
        client, server = split(net, cut)
        assert torch.equal(server(client(x)), net(x))
        assert torch.equal(smashed(net, x, cut), client(x))
        theirs = dict(net.named_parameters())
        assert all(theirs[name] is p for name, p in client.named_parameters())
        both = [id(p) for part in (client, server) for p in part.parameters()]
        assert sorted(both) == sorted(id(p) for p in net.parameters())
        assert any(p.dim() > 1 for p in client.parameters())
        assert any(p.dim() > 1 for p in server.parameters())
        assert client.training is server.training is net.training


def test_smashed_data_have_the_shapes_of_the_layers() -> None:
    x = torch.zeros(2, 3, 32, 32)
    shapes = [tuple(smashed(net_of("convnet(depth=3, width=16)", 3, 10), x, cut).shape) for cut in (1, 2, 3)]
    assert shapes == [(2, 16, 32, 32), (2, 16, 16, 16), (2, 16, 8, 8)]
    assert upload_bytes(net_of("lenet", 3, 10), (3, 32, 32), 2) == 4 * 12 * 8 * 8


def test_the_image_can_be_searched_from_smashed_data(digits: Parts) -> None:
    """White box: gradient descent on the distance of smashed data comes near the image after one convolution."""
    net, x = net_of("lenet", 1, 10).double(), digits.test.x[:1].double()
    target = smashed(net, x, 1).detach()
    guess = torch.full_like(x, 0.5).requires_grad_()
    optimiser = torch.optim.Adam([guess], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        (smashed(net, guess, 1) - target).square().sum().backward()
        optimiser.step()
    error = (guess.detach().clamp(0, 1) - x).square().mean()
    assert error < 0.1 * (x - x.mean()).square().mean()


def test_places_that_are_none_are_refused() -> None:
    for cut in (0, 3):
        with pytest.raises(InputError, match="allowed: 1 to 2"):
            split(net_of("lenet", 1, 10), cut)
    with pytest.raises(InputError, match="no sequence"):
        split(nn.Flatten(), 1)
