"""The simplifications of PSGL hold: one backward pass, one SVD, nothing hidden by packing, each image on its own."""

import pytest
import torch
from scene import net_of
from torch import Tensor

from gibench.datasets import Parts
from gibench.errors import InputError
from gibench.split import smashed
from gibench.systems.psgl import (
    WEIGHTS,
    Fusion,
    altered,
    attack_map,
    fused,
    packed,
    sensitivity,
    streams,
    svt,
    to_depth,
    unpacked,
)

NETS = ["lenet", "convnet(width=16)"]


def iterated(x: Tensor, threshold: float, mu: float, steps: int = 200) -> Tensor:
    """The iterations: alternating directions for threshold |L|_* + |L - x|^2 / 2 with penalty mu, one image (r, w)."""
    low = torch.zeros_like(x)
    dual = torch.zeros_like(x)
    for _ in range(steps):
        smooth = (x + mu * (low - dual)) / (1 + mu)
        u, s, vh = torch.linalg.svd(smooth + dual, full_matrices=False)
        low = u @ torch.diag((s - threshold / mu).clamp(min=0)) @ vh
        dual = dual + smooth - low
    return low


@pytest.mark.parametrize("spec", NETS)
def test_beta_is_minus_alpha(spec: str, digits: Parts) -> None:
    net, x, y = net_of(spec, 1, 10), digits.test.x[:8], digits.test.y[:8]
    alpha, beta = sensitivity(net, x, y), sensitivity(net, x, y, others=True)
    assert (alpha + beta).abs().max() < 1e-6
    assert alpha.abs().max() > 1e-3
    wide = net_of(spec, 1, 10).double()
    alpha, beta = sensitivity(wide, x.double(), y), sensitivity(wide, x.double(), y, others=True)
    assert (alpha + beta).abs().max() < 1e-14
    published = torch.where((alpha < 0) & (beta > 0), -alpha * beta, 0)
    top = published.flatten(1).amax(1).view(-1, 1, 1, 1)
    assert torch.allclose(attack_map(wide, x.double(), y, 0.3), 0.3 * published / top, atol=1e-12)


@pytest.mark.parametrize("spec", NETS)
def test_the_map_has_its_strength_and_lowers_the_true_class(spec: str, digits: Parts) -> None:
    net, x, y = net_of(spec, 1, 10).double(), digits.test.x[:16].double(), digits.test.y[:16]
    the_map = attack_map(net, x, y, 0.1)
    assert the_map.flatten(1).amax(1).tolist() == pytest.approx([0.1] * 16)
    assert the_map.min() == 0
    assert (the_map > 0).equal(sensitivity(net, x, y) < 0)

    def own(images: Tensor) -> Tensor:
        return net(images).softmax(1)[torch.arange(16), y]

    assert (own(x + 0.01 * the_map) < own(x)).all()
    assert not attack_map(net, x, y, 0).any()
    sent = altered(x, attack_map(net, x, y, 5))
    assert (sent.min(), sent.max()) == (0, 1)
    assert torch.equal(altered(x, 0 * the_map), x)


def test_every_image_has_a_map_of_its_own(digits: Parts) -> None:
    net, x, y = net_of("convnet(width=16)", 1, 10).double(), digits.test.x[:6].double(), digits.test.y[:6]
    together, alone = (
        attack_map(net, x, y, 0.2),
        torch.cat([attack_map(net, x[i : i + 1], y[i : i + 1], 0.2) for i in range(6)]),
    )
    assert torch.allclose(together, alone, atol=1e-12)
    assert torch.allclose(svt(x, 0.5), torch.cat([svt(x[i : i + 1], 0.5) for i in range(6)]), atol=1e-12)
    assert x.grad is None
    with pytest.raises(InputError, match="evaluation mode"):
        attack_map(net_of('convnet(norm="batch")', 1, 10).train(), x, y, 0.2)


def test_a_certain_net_has_no_map(digits: Parts) -> None:
    net = net_of("lenet", 1, 10)
    with torch.no_grad():
        net[-1].bias[3] = 1e4
    the_map = attack_map(net, digits.test.x[:2], torch.tensor([3, 3]), 0.1)
    assert the_map.isfinite().all()
    assert not the_map.any()


@pytest.mark.parametrize("mu", [0.55, 1.0, 2.0])
@pytest.mark.parametrize("threshold", [0.1, 1.0])
def test_two_hundred_iterations_are_one_svd(threshold: float, mu: float, ihc: Parts) -> None:
    x = ihc.test.x[:2].double()
    once = svt(x, threshold)
    for image, one in zip(x, once, strict=True):
        rows = image.flatten(0, 1)
        assert (iterated(rows, threshold, mu) - one.flatten(0, 1)).abs().max() < 1e-5
    assert (once - x).abs().max() > 1e-3


def test_the_rest_has_small_singular_values_and_svt_is_the_best(digits: Parts) -> None:
    x, threshold = digits.test.x[:4].double(), 0.5
    u, s, vh = torch.linalg.svd(x.flatten(1, 2), full_matrices=False)
    rest = (u * s.clamp(max=threshold).unsqueeze(1)) @ vh
    assert torch.allclose((x - svt(x, threshold)).flatten(1, 2), rest, atol=1e-12)
    assert torch.allclose(svt(x, 0), x, atol=1e-12)
    assert svt(x, 1e6).abs().max() < 1e-9

    def loss(low: Tensor) -> Tensor:
        rows = low.flatten(1, 2)
        return threshold * torch.linalg.svdvals(rows).sum(1) + (low - x).square().flatten(1).sum(1) / 2

    best, draws = svt(x, threshold), torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1):
        other = best + size * torch.randn(x.shape, generator=draws, dtype=x.dtype)
        assert (loss(best) < loss(other)).all()


def test_packing_hides_nothing(ihc: Parts) -> None:
    x = ihc.test.x[:3]
    the_map = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    sent = packed(x, the_map)
    assert sent.shape == (3, 13, x.shape[2] // 2, x.shape[3] // 2)
    assert torch.equal(unpacked(sent), x)
    assert torch.equal(sent[:, 0], x[:, 0, ::2, ::2])
    assert sent[0, -1, 0, 0] == pytest.approx(float(the_map[0, :, :2, :2].mean()))
    with pytest.raises(InputError, match="even sides"):
        to_depth(x[:, :, 1:])


def test_streams_add_up_and_are_fused_by_their_weights(ihc: Parts) -> None:
    x = ihc.test.x[:2]
    sent = packed(x, torch.zeros_like(x))
    came, recovered, rest = streams(sent, 0.3)
    assert torch.equal(came, sent)
    assert torch.allclose(recovered + rest, to_depth(x), atol=1e-6)
    assert torch.allclose(recovered, to_depth(svt(x, 0.3)))
    ones = [torch.full((2, 3), float(k)) for k in (1, 10, 100)]
    assert fused(ones)[0, 0] == pytest.approx(0.5 + 3 + 20)
    assert sum(WEIGHTS) == pytest.approx(1)
    for weights in [(0.5, 0.5), (0.5, 0.5, 0.5), (1.5, -0.3, -0.2)]:
        with pytest.raises(InputError, match="one each"):
            fused(ones, weights)


def test_fusion_is_a_convolution_of_each_stream(ihc: Parts) -> None:
    x = ihc.test.x[:2]
    parts = streams(packed(x, torch.zeros_like(x)), 0.3)
    with torch.random.fork_rng(devices=[]):
        fusion = Fusion(3, 5)
    assert fusion(parts).shape == (2, 5, x.shape[2] // 2, x.shape[3] // 2)
    with torch.no_grad():
        for conv, part, weight in zip(fusion.convs, parts, WEIGHTS, strict=True):
            without = [torch.zeros_like(p) if p is part else p for p in parts]
            change = fusion(parts) - fusion(without)
            assert torch.allclose(change, weight * (conv(part) - conv(0 * part)), atol=1e-5)
    assert all(p.grad is not None for p in _trained(fusion, parts))


def _trained(fusion: Fusion, parts: tuple[Tensor, ...]) -> list[Tensor]:
    fusion(parts).sum().backward()
    return list(fusion.parameters())


def test_who_inverts_smashed_data_finds_the_altered_image(digits: Parts) -> None:
    """The map is part of the message: what an attack can find is x^, which is `strength` away from x."""
    net, x, y = net_of("lenet", 1, 10).double(), digits.test.x[:1].double(), digits.test.y[:1]
    sent = altered(x, attack_map(net, x, y, 0.8))
    target = smashed(net, sent, 1).detach()
    guess = torch.full_like(x, 0.5).requires_grad_()
    optimiser = torch.optim.Adam([guess], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        (smashed(net, guess, 1) - target).square().sum().backward()
        optimiser.step()
    found = guess.detach().clamp(0, 1)
    assert (found - sent).square().mean() < 0.5 * (found - x).square().mean()
