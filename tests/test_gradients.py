"""Gradients of many victims at once against plain autograd, one victim at a time, in double precision."""

import pytest
import torch
from scene import net_of
from torch import Tensor, nn

from gibench.draws import Draws
from gibench.gradients import _by_layer, _by_vmap, cross_entropy, mean_gradient
from gibench.types import Batch

NETS = {
    "lenet2": "lenet(convs=2, width=5)",
    "lenet3": 'lenet(convs=3, width=4, activation="tanh")',
    "convnet": "convnet(depth=2, width=16)",
    "resnet_group": "resnet18(width=8)",
    "resnet_batch": 'resnet18(width=8, norm="batch")',
}
CLASSES, SIDE, TOLERANCE = 4, 16, 1e-10


def made(name: str, channels: int) -> nn.Module:
    net = net_of(NETS[name], channels, CLASSES, SIDE).double()
    draws = Draws(("statistics",))
    for module in net.modules():  # running statistics and affine weights that are not 0 and 1
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.3 * draws.normal(module.num_features)[0].double()
            module.running_var = 0.5 + draws.uniform(module.num_features)[0].double()
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            module.weight.data += 0.3 * draws.normal(*module.weight.shape)[0].double()
            module.bias.data += 0.3 * draws.normal(*module.bias.shape)[0].double()
    return net


def images(channels: int, v: int, b: int) -> Batch:
    draws = Draws(("images",), range(v))
    x = draws.uniform(b, channels, SIDE, SIDE).double()
    return Batch(x, (draws.uniform(b) * CLASSES).long())


def plain(net: nn.Module, x: Tensor, y: Tensor, create_graph: bool = False) -> dict[str, Tensor]:
    """The gradient of one victim by textbook autograd."""
    loss = nn.functional.cross_entropy(net(x), y)
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, create_graph=create_graph), strict=True))


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("b", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_by_layer_and_vmap_equal_autograd_one_victim_at_a_time(name: str, channels: int, b: int) -> None:
    net, batch = made(name, channels), images(channels, 3, b)
    layer, mapped = _by_layer(net, batch, cross_entropy, False), _by_vmap(net, batch, cross_entropy, None)
    public = mean_gradient(net, batch)
    expected = [plain(net, x, y) for x, y in zip(batch.x, batch.y, strict=True)]
    assert list(layer) == list(public) == [key for key, _ in net.named_parameters()]
    for key in layer:
        truth = torch.stack([one[key] for one in expected])
        assert apart(layer[key], truth) < TOLERANCE
        assert apart(mapped[key], truth) < TOLERANCE
        assert torch.equal(public[key], layer[key])
        assert not public[key].requires_grad


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_gradient_of_a_matching_loss_equals_double_backward_one_victim_at_a_time(name: str, b: int) -> None:
    net, batch = made(name, 3), images(3, 3, b)
    targets = {k: Draws((k,), range(3)).normal(*p.shape).double() for k, p in net.named_parameters()}

    def cosine(update: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
        u, t = (torch.cat([d[k].flatten() for k in targets]) for d in (update, target))
        return 1 - u @ t / u.norm() / t.norm()

    x = batch.x.clone().requires_grad_()
    update = mean_gradient(net, Batch(x, batch.y), create_graph=True)
    loss = sum(cosine({k: g[i] for k, g in update.items()}, {k: t[i] for k, t in targets.items()}) for i in range(3))
    (together,) = torch.autograd.grad(loss, x)
    for i in range(3):
        own = batch.x[i].clone().requires_grad_()
        simulated = plain(net, own, batch.y[i], create_graph=True)
        (alone,) = torch.autograd.grad(cosine(simulated, {k: t[i] for k, t in targets.items()}), own)
        assert apart(together[i], alone) < TOLERANCE


@pytest.mark.parametrize("name", ["lenet3", "convnet"])
def test_every_victim_may_have_its_own_weights(name: str) -> None:
    net, batch = made(name, 1), images(1, 3, 2)
    params = {
        k: p.detach() + 0.1 * Draws((k, "own"), range(3)).normal(*p.shape).double() for k, p in net.named_parameters()
    }
    update = mean_gradient(net, batch, params=params)
    for i in range(3):
        net.load_state_dict({k: p[i] for k, p in params.items()}, strict=False)
        alone = plain(net, batch.x[i], batch.y[i])
        for key in update:
            assert apart(update[key][i], alone[key]) < TOLERANCE


@pytest.mark.parametrize("way", [_by_layer, _by_vmap])
def test_padding_of_a_poisson_batch_counts_for_nothing(way: object) -> None:
    net, batch = made("lenet2", 1), images(1, 3, 3)
    weight = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]).double()
    padded = Batch(batch.x, batch.y, weight)
    arguments = (False,) if way is _by_layer else (None,)
    update = way(net, padded, cross_entropy, *arguments)
    for i, filled in enumerate((2, 1)):
        alone = plain(net, batch.x[i, :filled], batch.y[i, :filled])
        assert max(apart(update[key][i], alone[key]) for key in update) < TOLERANCE
    assert all(bool((g[2] == 0).all()) for g in update.values())


def test_a_frozen_input_changes_nothing_and_hooks_are_removed() -> None:
    net, batch = made("lenet2", 1), images(1, 2, 1)
    before = batch.x.clone()
    mean_gradient(net, batch)
    with torch.no_grad():
        inside = mean_gradient(net, batch)
    assert torch.equal(batch.x, before)
    assert all(g.abs().sum() > 0 for g in inside.values())
    assert not any(module._forward_hooks for module in net.modules())


def test_batch_norm_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mixes victims"):
        mean_gradient(made("resnet_batch", 1).train(), images(1, 2, 2))
