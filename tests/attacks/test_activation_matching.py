"""Inversion at split layers: by a search and by a decoder, without defense, under noise and under PSGL."""

import pytest
import torch
from scene import held, net_of, seen
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.attacks.activation_matching import ActivationMatching
from gibench.attacks.adaptive_activation_matching import AdaptiveActivationMatching
from gibench.attacks.auto import BUDGETS, Budget
from gibench.attacks.inverse_network import InverseNetwork
from gibench.datasets import Parts
from gibench.defenses.psgl import PSGL
from gibench.defenses.weight_noise import WeightNoise
from gibench.draws import Draws
from gibench.learned.decoder import Decoder
from gibench.learned.fit import minimise, seeded
from gibench.metrics.ssim import SSIM
from gibench.registry import build
from gibench.types import Images

DRAWS = Draws(("attack",), range(8))
BOTH = (ActivationMatching, AdaptiveActivationMatching)


def psnr(truth: Tensor, guess: Tensor) -> float:
    return float(-10 * (truth - guess).square().flatten(1).mean(1).log10().mean())


@pytest.fixture(scope="module")
def trained(digits: Parts) -> nn.Module:
    net = net_of("lenet(width=8)", 1, 10)
    x, y = digits.client.x, digits.client.y

    def loss(chosen: Tensor, _: Draws) -> Tensor:
        return F.cross_entropy(net(x[chosen]), y[chosen])

    minimise(net.parameters(), loss, len(x), epochs=4, lr=2e-3, draws=Draws(("train",)))
    return net


@pytest.mark.parametrize("model", ["lenet", "convnet(width=8)"])
def test_the_first_layer_gives_the_image_back(model: str, digits: Parts) -> None:
    net, batch = net_of(model, 1, 10).double(), held(digits.test, 2, 2, torch.float64)
    view = seen(net, batch, 10, cut=1, labels=False)
    guess = ActivationMatching(tv=0, steps=300).answer(view, DRAWS.of(range(2)))
    assert psnr(batch.x, guess.x) > 40
    assert guess.loss.max() < 1e-3


def test_against_no_defense_knowing_it_changes_nothing(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, cut=2)
    draws = DRAWS.of(range(2))
    blind, knowing = (a(tv=1e-3, steps=20).answer(view, draws) for a in BOTH)
    assert torch.equal(blind.x, knowing.x)


def test_knowing_psgl_takes_its_map_off_again(trained: nn.Module, digits: Parts, few_aux: Images) -> None:
    psgl = PSGL(strength=0.5, epochs=3).fit(few_aux, Draws(("fit",)))
    batch = held(digits.test, 8, 1)
    view = seen(trained, batch, 10, psgl, cut=1)
    blind, knowing = (a(tv=0, steps=200).answer(view, DRAWS) for a in BOTH)
    assert psnr(psgl.images(batch, DRAWS).x, blind.x) > 35
    assert psnr(batch.x, knowing.x) > psnr(batch.x, blind.x) + 3


def test_the_decoder_is_nearly_perfect_after_one_layer_and_better_than_the_mean_after_two(
    trained: nn.Module, digits: Parts, few_aux: Images
) -> None:
    batch, found = held(digits.test, 8, 2), []
    for cut in (1, 2):
        view = seen(trained, batch, 10, labels=False, aux=few_aux, cut=cut)
        guess = InverseNetwork(at="activations", epochs=5).answer(view, DRAWS)
        found.append(psnr(batch.x, guess.x))
    assert found[0] > 28
    assert found[0] > found[1] > psnr(batch.x, digits.aux.x.mean(0).expand_as(batch.x)) + 5


def test_inversion_falls_with_the_noise(trained: nn.Module, digits: Parts, few_aux: Images) -> None:
    """Wu et al. 2020: SSIM of what comes back, over sigma."""
    batch, scores, known = held(digits.test, 64, 1), [], Images(few_aux.x[:96], few_aux.y[:96])
    for sigma in (0.0, 0.05, 0.2):
        view = seen(trained, batch, 10, WeightNoise(sigma=sigma), labels=False, aux=known, cut=1)
        guess = InverseNetwork(at="activations", epochs=1).answer(view, DRAWS.of(range(64)))
        scores.append(float(SSIM().compare(batch.x.flatten(0, 1), guess.x.flatten(0, 1)).mean()))
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    assert scores[-1] < scores[0] - 0.1


def test_more_rounds_average_the_noise_away(trained: nn.Module, digits: Parts) -> None:
    batch, found = held(digits.test, 8, 1), []
    for rounds in (1, 16):
        view = seen(trained, batch, 10, WeightNoise(sigma=0.1), cut=1, rounds=rounds)
        found.append(psnr(batch.x, AdaptiveActivationMatching(tv=1e-2, steps=100).answer(view, DRAWS).x))
    assert found[1] > found[0] + 2


@pytest.mark.parametrize("shape", [(4, 16, 16), (1024,)])
def test_least_squares_alone_undo_a_linear_layer(shape: tuple[int, ...], digits: Parts) -> None:
    """Space-to-depth and a rotation: both are linear, so that nothing is left to learn."""
    x, new = digits.aux.x[:128], digits.test.x[:8]
    turn, _ = torch.linalg.qr(Draws(("turn",)).normal(shape[0], shape[0])[0].double())

    def layer(images: Tensor) -> Tensor:
        flat = F.pixel_unshuffle(images, 2) if len(shape) == 3 else images.flatten(1)
        return torch.einsum("ij,nj...->ni...", turn.to(images), flat)

    net = seeded(Draws(("decoder",)), lambda: Decoder(shape, 1, 32))
    before = net(layer(new))
    net.solve(layer(x).unsqueeze(0), x)
    assert psnr(new, net(layer(new)).detach()) > 30 > psnr(new, before.detach())


def test_the_ensemble_takes_those_that_read_activations(
    trained: nn.Module, digits: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUDGETS, "quick", Budget(steps=20, epochs=1, images=4))
    batch = held(digits.test, 2, 1)
    aux = Images(digits.aux.x[:128], digits.aux.y[:128])
    view = seen(trained, batch, 10, WeightNoise(sigma=0.05), labels=False, aux=aux, cut=1)
    guess = build("attacks", 'auto(budget="quick")').answer(view, DRAWS.of(range(2)))
    names = {name.partition("(")[0] for name in guess.members}
    assert names == {"prior_only", "activation_matching", "adaptive_activation_matching", "inverse_network"}
    assert psnr(batch.x, guess.x) > psnr(batch.x, guess.members["prior_only"].x) + 3
