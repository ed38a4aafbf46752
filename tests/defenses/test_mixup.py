"""mixup: the weights, that images and labels are mixed by the same ones, and what its attacker searches for."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scene import held, net_of, seen
from torch import Tensor
from torch.nn import functional as F

from gibench.datasets import Parts
from gibench.defenses import Defense
from gibench.defenses.mixup import Mixup
from gibench.draws import Draws
from gibench.engine.labels import matched_labels
from gibench.engine.objective import Objective, Plan
from gibench.learned.inverter import learn_inverters
from gibench.message import transmitted
from gibench.mixing import shares, unmixed
from gibench.registry import build
from gibench.types import Images


def fitted(defense: Defense, digits: Parts, n: int) -> Defense:
    return defense.fit(Images(digits.aux.x[:n], digits.aux.y[:n]), Draws(("fit",)))


@settings(max_examples=30, deadline=None)
@given(k=st.integers(1, 8), bound=st.floats(0.2, 1.0), seed=st.integers(0, 99))
def test_shares_sum_to_one_and_none_passes_the_bound(k: int, bound: float, seed: int) -> None:
    found = shares(50, k, bound, Draws(("s", seed)), torch.empty(0))
    assert found.shape == (1, 50, k)
    assert torch.allclose(found.sum(-1), torch.ones(1, 50), atol=1e-5)
    assert found.min() >= 0
    if bound >= 0.65 or k == 1:  # tighter ones are nearly never met by chance: the most even weights are taken
        assert found.max() <= max(bound, 1 / k) + 1e-5


@pytest.mark.parametrize("k", [2, 4, 8])
def test_every_image_of_a_mixture_has_the_same_expected_share(k: int) -> None:
    found = shares(20_000, k, 1.0, Draws(("s",)), torch.empty(0, dtype=torch.float64))[0]
    variance = (k - 1) / (k**2 * (k + 1))  # of one part of a uniform point of the simplex
    assert (found.mean(0) - 1 / k).abs().max() < 4 * (variance / 20_000) ** 0.5
    assert float(found.var(0).mean()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("k", [2, 4, 6])
def test_images_and_labels_are_the_same_convex_mixture_of_k(k: int, digits: Parts) -> None:
    """An oracle that knows nothing of the draws: least squares on the client's image and the whole pool."""
    defense, batch = fitted(Mixup(k=k), digits, 24), held(digits.test, 6, 2, torch.float64)
    sent = defense.images(batch, Draws(("m",), range(6)))
    pool, labels = defense.state["x"].double().flatten(1), defense.state["y"].double()
    for x, y, mix, soft in zip(*(t.flatten(0, 1) for t in (batch.x, batch.y, sent.x, sent.y)), strict=True):
        basis = torch.cat([x.flatten()[None], pool])
        weights = torch.linalg.lstsq(basis.T, mix.flatten()[:, None], driver="gelsd").solution[:, 0]
        assert torch.allclose(weights @ basis, mix.flatten(), atol=1e-6)
        assert int((weights > 1e-6).sum()) == k
        assert float(weights.sum()) == pytest.approx(1)
        assert 0 < weights[0] <= 0.65 + 1e-6
        own = F.one_hot(y, labels.shape[1]).double()
        assert torch.allclose(weights @ torch.cat([own[None], labels]), soft, atol=1e-6)


@pytest.mark.parametrize(("k", "least"), [(1, 60), (2, 35), (4, 25)])
def test_whoever_knows_the_pool_takes_it_out_again(k: int, least: float, ihc: Parts) -> None:
    defense, batch = Mixup(k=k).fit(ihc.aux, Draws(("fit",))), held(ihc.test, 16, 1)
    sent = defense.images(batch, Draws(("m",), range(16))).x.flatten(0, 1)
    x = batch.x.flatten(0, 1)

    def psnr(guess: Tensor) -> float:
        return float((-10 * (guess - x).square().flatten(1).mean(1).clamp(min=1e-12).log10()).mean())

    found = unmixed(sent, defense.state["x"], k)
    assert psnr(found) > least
    assert k == 1 or psnr(found) > psnr(sent) + 10


def test_tests_see_raw_images_and_weights_are_fresh(digits: Parts) -> None:
    defense, batch = fitted(Mixup(), digits, 32), held(digits.test, 3, 1)
    assert defense.inference(batch, Draws(("i",), range(3))) is batch
    stacked = build("defenses", "mixup + prune(p=0.5)").fit(digits.aux, Draws(("fit",)))
    assert torch.equal(stacked.inference(batch, Draws(("i",), range(3))).x, batch.x)
    assert not torch.equal(stacked.images(batch, Draws(("i",), range(3))).x, batch.x)
    one, two = (defense.images(batch, Draws(("m", r), range(3))) for r in range(2))
    assert not torch.allclose(one.x, two.x)
    assert not torch.allclose(one.y, two.y)


@pytest.mark.parametrize("b", [1, 2])
def test_the_simulation_is_exact_at_the_mixture(b: int, digits: Parts) -> None:
    defense, batch = fitted(Mixup(), digits, 64), held(digits.test, 3, b, torch.float64)
    view = seen(net_of("lenet", 1, 10).double(), batch, 10, defense)
    sent = transmitted(defense, batch, Draws(("test message",), range(3)).at(0))
    learned = learn_inverters(digits.aux.x[:20], lambda x, d: x, Draws(("s",)), epochs=1)
    match = defense.match(replace(view, studied=learned))
    assert (matched_labels(match, view) is None) is (b > 1)  # soft labels are searched for where they matter
    objective = Objective(view, Plan(match, matched_labels(match, view)))
    draws = Draws(("a",), range(3))
    assert objective(sent.x, sent.y, draws).max() < 1e-6
    assert objective(batch.x, batch.y, draws).min() > 0.01


def test_fields_out_of_range_are_refused() -> None:
    for wrong in ({"k": 0}, {"k": 99}, {"bound": 0.0}, {"bound": float("nan")}):
        with pytest.raises(ValidationError):
            Mixup(**wrong)
