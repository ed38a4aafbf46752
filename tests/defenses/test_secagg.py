"""Secure aggregation: an exact sum of masked vectors, of which each alone says nothing."""

from dataclasses import replace

import pytest
import torch
from scene import flat, held, net_of, seen
from scipy import stats

from gibench.attacks.adaptive_matching import AdaptiveMatching
from gibench.attacks.auto import _rehearsal
from gibench.datasets import Parts
from gibench.defenses.secagg import SecureAggregation
from gibench.draws import Draws
from gibench.engine.objective import Objective
from gibench.gradients import mean_gradient
from gibench.message import make_message, server_sees
from gibench.registry import build
from gibench.types import Images, Local

CLIENTS = Draws(("c",), range(5))


def messages(digits: Parts, n: int = 5) -> dict[str, torch.Tensor]:
    return mean_gradient(net_of("lenet", 1, 10), held(digits.test, n, 1))


def words(values: torch.Tensor) -> list[int]:
    """The fixed-point numbers mod 2^64, by Python's integers."""
    return [round(v * 2**16) % 2**64 for v in values.flatten().tolist()]


def test_the_sum_of_masked_vectors_is_exact_modulo_2_to_the_64(digits: Parts) -> None:
    plain = torch.cat([messages(digits)["1.weight"].flatten(1), torch.full((5, 1), -1e9)], 1).double()
    masked = SecureAggregation(clients=5).masked(plain, CLIENTS)
    assert masked.dtype == torch.int64
    total = [sum(column) % 2**64 for column in zip(*([w % 2**64 for w in row.tolist()] for row in masked), strict=True)]
    assert total == [sum(column) % 2**64 for column in zip(*(words(row) for row in plain), strict=True)]
    assert [w % 2**64 for w in masked.sum(0).tolist()] == total


def test_one_masked_vector_is_uniform_and_so_are_all_but_one_together(digits: Parts) -> None:
    plain = messages(digits)["6.weight"]
    masked = SecureAggregation(clients=5).masked(plain, CLIENTS)
    uniform = [*masked, masked[:4].sum(0), masked[1] + masked[3], masked[0] - masked[1]]
    for values in uniform:
        counts = torch.tensor(list(values.numpy().tobytes())).bincount(minlength=256)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    bare = (plain[0].double() * 2**16).round().long()
    assert stats.chisquare(torch.tensor(list(bare.numpy().tobytes())).bincount(minlength=256).numpy()).pvalue < 1e-9
    assert not torch.equal(masked, SecureAggregation(clients=5).masked(plain, CLIENTS.at("next round")))


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_what_is_decoded_is_the_sum_up_to_half_a_unit_per_client(digits: Parts, bits: int) -> None:
    plain, defense = messages(digits), SecureAggregation(clients=5, bits=bits)
    worst = 0.0
    for values in plain.values():
        total = defense.decoded(defense.masked(values, CLIENTS).sum(0))
        error = float((total - values.double().sum(0)).abs().max())
        assert error <= 5 * 2.0 ** -(bits + 1)
        worst = max(worst, error)
    assert worst > 2.0 ** -(bits + 3), "it really is fixed-point"
    received = defense.received(plain | {"withheld": None}, CLIENTS)
    assert received["withheld"] is None
    assert all(torch.allclose(received[k], g.mean(0), atol=2.0**-bits) for k, g in plain.items())


def test_alone_in_its_cohort_a_client_sends_what_it_would_without(digits: Parts) -> None:
    net, batch, draws = net_of("lenet", 1, 10), held(digits.test, 3, 2), Draws(("m",), range(3))
    plain = flat(server_sees(net, build("defenses", "none"), batch, draws))
    apart = (flat(server_sees(net, SecureAggregation(clients=1), batch, draws)) - plain).abs().max()
    assert 0 < apart <= 2.0**-17 + 1e-7
    assert torch.allclose(flat(server_sees(net, build("defenses", SecureAggregation.neutral), batch, draws)), plain)


def test_the_server_sees_the_mean_over_a_cohort_that_shares_the_victims_images(digits: Parts) -> None:
    net, defense = net_of("lenet", 1, 10), SecureAggregation(clients=3)
    view = seen(net, held(digits.test, 2, 6), 10, defense)
    assert view.shape[0] == 6
    single = mean_gradient(net, held(digits.test, 6, 2))
    for name, g in view.update.items():
        assert torch.allclose(g, single[name].unflatten(0, (2, 3)).mean(1), atol=2.0**-16)
    alone = server_sees(net, defense, held(digits.test, 1, 6), Draws(("test message", 0), (0,)))
    assert torch.allclose(alone["1.bias"][0], view.update["1.bias"][0], atol=2.0**-16)


def test_attackers_rehearse_with_cohorts(digits: Parts) -> None:
    """Learned attacks and the ensemble play the game on sums of as many clients as the view's message is of."""
    net, defense = net_of("lenet(width=4)", 1, 10), SecureAggregation(clients=2, bits=8)  # coarse enough to be told
    view = seen(
        net, held(digits.test, 2, 4), 10, defense, labels=False, aux=Images(digits.aux.x[:40], digits.aux.y[:40])
    )
    truth = held(digits.aux, 3, 4)
    made = _rehearsal(view, truth, Draws(("r",), range(3))).update
    for name, g in mean_gradient(net, held(digits.aux, 6, 2)).items():
        summed = (g.double() * 2**8).round().unflatten(0, (3, 2)).sum(1) / 2**9
        assert torch.allclose(made[name].double(), summed, atol=1e-6)
    guess = build("attacks", "lti(epochs=1)").answer(view, Draws(("a",), range(2)))
    assert guess.x.shape == (2, 4, 1, 32, 32)
    floor = build("attacks", "prior_only").answer(view, Draws(("a",), range(2)))
    assert floor.x.shape == guess.x.shape
    assert floor.labels.shape == (2, 4)


def test_server_and_all_other_clients_together_see_the_last_ones_message(digits: Parts) -> None:
    """The view is the server's; what it is worth against collusion is nothing, and the entry says so."""
    plain, defense = messages(digits), SecureAggregation(clients=5)
    left = defense.remaining(defense.received(plain, CLIENTS), {name: g[:4] for name, g in plain.items()})
    for name, g in plain.items():
        assert (left[name] - g[4]).abs().max() < 5 * 2.0**-17 + 1e-6


def test_what_does_not_fit_is_a_failure_and_never_privacy() -> None:
    values = torch.tensor([[1.0, torch.inf, torch.nan, 1e15, 2.0], [1.0, 1.0, 1.0, 1.0, -1.0]])
    got = SecureAggregation(clients=2).received({"a": values}, Draws(("c",), (0, 1)))["a"]
    assert got.isnan().tolist() == [False, True, True, True, False]
    assert got[[0, 4]].tolist() == [1.0, 0.5]


def test_bytes_and_what_it_cannot_serve(digits: Parts) -> None:
    net = net_of("lenet", 1, 10)
    update = make_message(net, SecureAggregation(), held(digits.test, 2, 1), Draws(("m",), range(2)))
    assert SecureAggregation().upload_bytes(update) == 8 * sum(p.numel() for p in net.parameters())
    shape = (1, 32, 32)
    assert "training.clients" in SecureAggregation(clients=1).unfit(net, shape, 1)
    assert "only 4 are trained" in SecureAggregation(clients=5).unfit(net, shape, 4)
    assert SecureAggregation(clients=5).unfit(net, shape, 5) == ""


def test_the_truth_explains_a_cohorts_weight_change(digits: Parts) -> None:
    """The simulation trains each client of the cohort on its own share of the images."""
    net = net_of("lenet(width=6)", 1, 10).double()
    batch, local = held(digits.test, 2, 4, torch.float64), Local(3, 0.1, 0.5)
    view = seen(net, batch, 10, SecureAggregation(clients=2, bits=40), local=local)
    uphill = {name: -g for name, g in view.update.items()}
    truth = Draws(("t",), range(2))
    view = replace(view, update=uphill)
    apart = [
        Objective(own, AdaptiveMatching(tv=0.0).plan(own)).distance(batch.x, batch.y, truth)
        for own in (view, replace(view, clients=1))
    ]
    assert apart[0].max() < 1e-9
    assert apart[1].min() > 1e-6
