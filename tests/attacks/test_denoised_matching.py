"""Regularisation by denoising, on real images."""

from dataclasses import replace

import pytest
import torch
from scene import held, net_of, seen

from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.attacks.denoised_matching import DenoisedMatching
from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.learned.denoiser import learn_denoiser
from gibench.registry import build
from gibench.types import Images


def test_weight_zero_is_adaptive_matching(digits: Parts, few_aux: Images) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, build("defenses", "prune(p=0.9)"), aux=few_aux)
    draws = Draws(("attack",), range(2))
    plain = AdaptiveMatching(tv=1e-2, steps=10).reconstruct(view, draws)
    off = DenoisedMatching(tv=1e-2, steps=10, epochs=1, denoise=0).reconstruct(view, draws)
    on = DenoisedMatching(tv=1e-2, steps=10, epochs=1, denoise=1).reconstruct(view, draws)
    assert torch.equal(off.x, plain.x)
    assert not torch.equal(on.x, plain.x)


def test_the_denoiser_denoises_images_that_it_did_not_see(digits: Parts, few_aux: Images) -> None:
    net = learn_denoiser(few_aux.x, Draws(("learn",)), 0.2, 20)
    x = digits.test.x[:64]
    for level in (0.05, 0.1, 0.2):
        noisy = x + level * Draws(("noise",)).normal(*x.shape)[0]
        assert (net(noisy) - x).square().mean() < 0.6 * level**2


@pytest.mark.slow
def test_it_helps_where_noise_hides_the_image(digits: Parts) -> None:
    """Against the best weight of total variation alone."""
    batch = held(digits.test, 8, 1)
    view = seen(net_of("lenet", 1, 10), batch, 10, build("defenses", "dpsgd(sigma=0.01)"), aux=digits.aux)
    draws = Draws(("attack",), range(8))
    plain = AdaptiveMatching(steps=150)
    alone = [g.x for g in plain.rehearse(view, [{"tv": tv} for tv in (0.1, 0.3, 1.0)], draws)]
    best = min(float((x - batch.x).square().mean()) for x in alone)
    mine = DenoisedMatching(tv=0.1, steps=150, denoise=3.0).reconstruct(view, draws)
    assert (mine.x - batch.x).square().mean() < 0.9 * best


def test_candidates_of_both_weights_come_back_in_their_order(digits: Parts, few_aux: Images) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, aux=few_aux)
    attack, draws = DenoisedMatching(steps=5, epochs=1), Draws(("attack",), range(2))
    candidates = [{"tv": tv, "denoise": w} for tv in (0.0, 10.0) for w in (0.0, 30.0)]
    for chosen, guess in zip(candidates, attack.rehearse(view, candidates, draws), strict=True):
        alone = replace(attack, **chosen).reconstruct(view, draws)
        assert torch.allclose(guess.x, alone.x, atol=1e-3), chosen
