"""DP-SGD: noise, sensitivity, Poisson batches and the accountant."""

import math

import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scene import flat, held, net_of, rows, seen

from gibench.accounting import epsilon
from gibench.bounds import rero
from gibench.datasets import Parts
from gibench.defenses import Exposure
from gibench.defenses.dpsgd import DPSGD
from gibench.draws import Draws
from gibench.gradients import mean_gradient
from gibench.types import Batch

ORACLE = {"rate": 0.1, "steps": 200, "delta": 1e-5}


def noise_free(batch: Batch, clip: float, members: int = 3) -> torch.Tensor:
    net, draws = net_of("lenet", batch.x.shape[2], 10), Draws(("m",), range(members))
    update = DPSGD(sigma=0, clip=clip).gradient(net, batch, draws)
    return flat(update)


@pytest.mark.parametrize(("sigma", "clip", "b"), [(1.0, 1.0, 1), (0.1, 3.0, 2), (2.0, 0.5, 4)])
def test_the_noise_has_deviation_sigma_c_over_b(digits: Parts, sigma: float, clip: float, b: int) -> None:
    batch, net = held(digits.test, 20, b), net_of("lenet", 1, 10)
    sent = DPSGD(sigma=sigma, clip=clip).gradient(net, batch, Draws(("m",), range(20)))
    noise = flat(sent) - noise_free(batch, clip, 20)
    assert noise.numel() > 1e5
    assert float(noise.std()) == pytest.approx(sigma * clip / b, rel=0.03)
    assert abs(float(noise.mean())) < 0.01 * sigma * clip / b
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.06  # victims draw for themselves
    plain = DPSGD(sigma=0, clip=clip).gradient(net, batch, Draws(("m",), range(20)))
    for name, g in sent.items():  # in every layer
        if g[0].numel() > 1000:
            assert float((g - plain[name]).std()) == pytest.approx(sigma * clip / b, rel=0.03)


@pytest.mark.parametrize("clip", [0.01, 0.5, 1e3])
def test_each_image_counts_for_at_most_the_clip(digits: Parts, clip: float) -> None:
    batch, net = held(digits.test, 3, 4), net_of("lenet", 1, 10)
    single = Batch(batch.x.flatten(0, 1).unsqueeze(1), batch.y.reshape(12, 1))
    each = flat(mean_gradient(net, single)).view(3, 4, -1)
    expected = each * (clip / each.norm(dim=2, keepdim=True)).clamp(max=1)
    assert expected.norm(dim=2).max() <= clip * (1 + 1e-5)
    assert torch.allclose(noise_free(batch, clip), expected.mean(1), atol=1e-6 * max(1, clip))
    alone = Batch(batch.x[:, :1], batch.y[:, :1])
    assert noise_free(alone, clip).norm(dim=1).max() <= clip * (1 + 1e-5)


@pytest.mark.parametrize("clip", [0.1, 1.0])
def test_adding_one_huge_image_moves_the_sum_by_at_most_the_clip(digits: Parts, clip: float) -> None:
    huge = torch.full((3, 1, 1, 32, 32), 1e4)
    batch = held(digits.test, 3, 3)
    more = Batch(torch.cat([batch.x, huge], 1), torch.cat([batch.y, torch.zeros(3, 1, dtype=torch.long)], 1))
    moved = 4 * noise_free(more, clip) - 3 * noise_free(batch, clip)
    assert moved.norm(dim=1).max() <= clip * (1 + 1e-4)
    assert moved.norm(dim=1).min() >= 0.9 * clip


def test_a_poisson_batch_is_divided_by_its_expected_size(digits: Parts) -> None:
    batch = held(digits.test, 3, 4)
    weight = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    sent = noise_free(Batch(batch.x, batch.y, weight, size=2), 0.5)
    full = noise_free(batch, 0.5)
    two = noise_free(Batch(batch.x[:, :2], batch.y[:, :2]), 0.5)
    assert torch.allclose(sent[0], full[0] * 4 / 2, atol=1e-6)
    assert torch.allclose(sent[1], two[1], atol=1e-6)
    assert sent[2].abs().max() == 0
    noise = DPSGD(sigma=1, clip=0.5).gradient(
        net_of("lenet", 1, 10), Batch(batch.x, batch.y, weight, size=2), Draws(("m",), range(3))
    )
    assert float(flat(rows(noise, 2, 3)).std()) == pytest.approx(0.25, rel=0.03)  # an empty batch still sends noise


def test_a_round_in_which_nobody_drew_an_image_still_sends_noise(digits: Parts) -> None:
    batch = held(digits.test, 2, 1)
    empty = Batch(batch.x, batch.y, torch.zeros(2, 1), size=1)
    sent = DPSGD(sigma=1, clip=1).gradient(net_of("lenet", 1, 10), empty, Draws(("m",), range(2)))
    assert float(flat(sent).std()) == pytest.approx(1, rel=0.05)


def test_every_victim_may_have_its_own_weights(digits: Parts) -> None:
    net, batch = net_of("lenet", 1, 10), held(digits.test, 2, 2)
    other = net_of("lenet", 1, 10, seed=5)
    pairs = zip(net.named_parameters(), other.parameters(), strict=True)
    params = {name: torch.stack([p.detach(), q.detach()]) for (name, p), q in pairs}
    defense, draws = DPSGD(sigma=0.1), Draws(("m",), range(2))
    mixed = flat(defense.gradient(net, batch, draws, params))
    assert torch.allclose(mixed[0], flat(defense.gradient(net, batch, draws))[0], atol=1e-5)
    assert torch.allclose(mixed[1], flat(defense.gradient(other, batch, draws))[1], atol=1e-5)


def test_the_accountant_gives_the_published_numbers() -> None:
    assert epsilon(1.5, **ORACLE, accountant="rdp") == pytest.approx(5.55, abs=0.01)
    assert epsilon(1.5, **ORACLE, accountant="prv") == pytest.approx(5.065, abs=0.01)


def test_a_second_library_composes_the_loss_to_nearly_the_same() -> None:
    event = SelfComposedDpEvent(PoissonSampledDpEvent(ORACLE["rate"], GaussianDpEvent(1.5)), ORACLE["steps"])
    other = PLDAccountant().compose(event).get_epsilon(ORACLE["delta"])
    assert other == pytest.approx(5.054, abs=0.001)
    assert epsilon(1.5, **ORACLE, accountant="prv") == pytest.approx(other, abs=0.02)


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(1.5, 0.1, 200), (0.8, 0.02, 500), (3.0, 1.0, 50), (1.0, 0.5, 10)]
)
def test_a_second_library_agrees(sigma: float, rate: float, steps: int) -> None:
    event = GaussianDpEvent(sigma)
    event = PoissonSampledDpEvent(rate, event) if rate < 1 else event
    other = RdpAccountant().compose(SelfComposedDpEvent(event, steps)).get_epsilon(1e-5)
    assert epsilon(sigma, rate, steps, 1e-5) == pytest.approx(other, rel=0.02)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
@pytest.mark.parametrize(("rate", "steps"), [(1 / 40, 400), (1.0, 1)])
def test_epsilon_is_finite_and_falls_with_the_noise(rate: float, steps: int, accountant: str) -> None:
    sigmas = [0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0]
    spent = [epsilon(sigma, rate, steps, 1e-3, accountant) for sigma in sigmas]
    assert all(math.isfinite(e) and e > 0 for e in spent)
    assert spent == sorted(spent, reverse=True)
    assert epsilon(0, rate, steps, 1e-3) == math.inf


@settings(max_examples=10, deadline=None)
@given(sigma=st.floats(0.5, 4), steps=st.integers(1, 300))
def test_more_steps_and_a_higher_rate_never_cost_less(sigma: float, steps: int) -> None:
    spent = epsilon(sigma, 0.05, steps, 1e-4)
    assert epsilon(sigma, 0.05, 2 * steps, 1e-4) >= spent
    assert epsilon(sigma, 0.1, steps, 1e-4) >= spent
    assert epsilon(sigma, 0.05, steps, 1e-6) >= spent
    rho = steps / (2 * sigma**2)
    assert spent <= rho + 2 * math.sqrt(rho * math.log(1e4)) + 1e-9


def test_accounting_of_a_client() -> None:
    found = DPSGD(sigma=1.5).accounting(Exposure(100, 100, 10, 200, 1))
    assert found["sampling_rate"] == pytest.approx(0.1)
    assert found["delta"] == pytest.approx(100**-1.1)
    assert found["accountant"] == "rdp"
    assert found["epsilon"] == pytest.approx(epsilon(1.5, 0.1, 200, 100**-1.1))
    fixed = DPSGD(sigma=1.5, delta=1e-5, accountant="prv").accounting(Exposure(100, 100, 10, 200, 1))
    assert fixed["epsilon"] == pytest.approx(5.065, abs=0.01)
    local = DPSGD(sigma=3.0, delta=1e-5).accounting(Exposure(100, 900, 10, 200, 4))
    assert local["epsilon"] == pytest.approx(epsilon(1.5, 0.1, 200, 1e-5)), "four local steps are one at half the noise"
    assert DPSGD(sigma=1).accounting(Exposure(4, 4, 10, 1, 1))["sampling_rate"] == 1
    assert DPSGD(sigma=0).accounting(Exposure(4, 4, 1, 1, 1))["epsilon"] == math.inf


def test_the_bound_of_one_message_and_of_the_training() -> None:
    found = DPSGD(sigma=1.0).accounting(Exposure(100, 100, 5, 1000, 1))
    assert found["gdp_mu"] == 1
    assert found["rero_bound"] == pytest.approx(0.0183, abs=1e-4)  # one in a thousand images, nothing sampled
    assert found["rero_bound_training"] == rero(1 / 1000, 1.0, 0.05, 1000)
    local = DPSGD(sigma=2.0).accounting(Exposure(100, 100, 5, 1000, 4))
    assert local == found, "four local steps are one at half the noise"
    weak = DPSGD(sigma=0.01).accounting(Exposure(100, 100, 5, 1000, 1))
    assert (weak["rero_bound"], weak["rero_bound_training"]) == (1, 1)
    bare = DPSGD(sigma=0).accounting(Exposure(100, 100, 5, 1000, 1))
    assert (bare["gdp_mu"], bare["rero_bound"], bare["rero_bound_training"]) == (math.inf, 1, 1)


def test_the_attacker_knows_the_clip_and_the_likelihood(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 1), 10, DPSGD())
    match = DPSGD(clip=0.3).match(view)
    assert (match.distance, match.linear) == ("l2", False)
    each = {"a": torch.tensor([[3.0, 0], [0.1, 0]]), "b": torch.tensor([[4.0], [0.0]])}
    clipped = match.example(each)
    assert torch.allclose(clipped["a"], torch.tensor([[0.18, 0], [0.1, 0]]))
    assert torch.allclose(clipped["b"], torch.tensor([[0.24], [0.0]]))
