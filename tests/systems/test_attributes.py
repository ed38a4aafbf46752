"""Attribute inference by Bayes' rule: exact where nothing hides the attribute, the prior's where nothing tells it."""

import numpy as np
import pytest
from scipy.stats import norm

from gibench.errors import InputError
from gibench.systems.attributes import channel, inferred, of_hidden, of_update, randomised

RNG = np.random.default_rng


@pytest.mark.parametrize(("k", "p"), [(2, 0.2), (4, 0.3), (3, 0.0), (3, 1.0)])
def test_the_channel_is_that_of_randomised_response(k: int, p: float) -> None:
    true = np.repeat(np.arange(k), 20000)
    found = randomised(true, p, k, RNG(0))
    for a in range(k):
        shares = np.bincount(found[true == a], minlength=k) / 20000
        assert shares == pytest.approx(np.exp(channel(p, k)[a]), abs=0.02)
    assert np.exp(channel(p, k)).sum(1) == pytest.approx(np.ones(k))


@pytest.mark.parametrize("k", [2, 3, 5])
def test_at_one_minus_one_over_k_nothing_is_learned_beyond_the_prior(k: int) -> None:
    rng = RNG(1)
    prior = np.log(rng.dirichlet(np.ones(k), 300))
    seen = np.where(np.eye(k)[rng.integers(0, k, 300)], 0.0, -np.inf)
    assert inferred(prior, seen, 1 - 1 / k).tolist() == prior.argmax(1).tolist()
    assert inferred(prior, seen, 0.0).tolist() == seen.argmax(1).tolist()
    assert inferred(prior, np.zeros((300, k)), 0.1).tolist() == prior.argmax(1).tolist()


def test_a_flip_is_weighed_against_the_prior() -> None:
    """Reported 1, p = 0.3: odds 7/3 for 1; a prior of 2 to 1 against it loses, one of 3 to 1 wins."""
    seen = np.array([[-np.inf, 0.0]] * 2)
    assert inferred(np.log([[2 / 3, 1 / 3], [3 / 4, 1 / 4]]), seen, 0.3).tolist() == [1, 0]


def test_an_update_is_read_off_whatever_the_weights() -> None:
    rng = RNG(2)
    x, delta = rng.normal(size=(50, 4)), rng.normal(size=(50, 7))
    levels, truth = np.array([-0.9, 1.1]), rng.integers(0, 2, 50)
    x[:, 2] = levels[truth]
    found = of_update(delta[:, :, None] * x[:, None], delta, levels, 2)
    assert found.argmax(1).tolist() == truth.tolist()
    assert np.isneginf(found.min(1)).all()
    assert of_update(np.zeros((1, 7, 4)), np.zeros((1, 7)), levels, 2).tolist() == [[0, 0]]


def test_hidden_units_have_the_likelihood_of_a_rectified_normal() -> None:
    means, variance = np.array([[[1.0, -2.0], [0.5, 0.3]]]), np.array([[4.0, 1.0]])
    found = of_hidden([[0.7, 0.0]], means, variance)[0]
    expected = [
        norm.logpdf(0.7, 1, 2) + norm.logcdf(0, -2, 2),
        norm.logpdf(0.7, 0.5, 1) + norm.logcdf(0, 0.3, 1),
    ]
    assert found == pytest.approx(expected)


def test_noise_on_the_weights_hides_the_attribute_the_more_the_stronger_it_is() -> None:
    rng, n = RNG(3), 2000
    truth = rng.integers(0, 2, n)
    weights = rng.normal(size=(10, 3)) / 2
    records = np.array([[1.0, 0.5, -1.0], [1.0, 0.5, 1.0]])  # the last field is the attribute
    shares = []
    for sigma in (0.0, 0.5, 2.0, 50.0):
        own = weights + sigma * rng.normal(size=(n, 10, 3))
        hidden = np.maximum(np.einsum("nud,nd->nu", own, records[truth]), 0)
        means = np.broadcast_to(records @ weights.T, (n, 2, 10))
        variance = np.broadcast_to(sigma**2 * (records**2).sum(1), (n, 2))
        found = inferred(np.log(np.full((n, 2), 0.5)), of_hidden(hidden, means, variance), 0.0)
        shares.append(float((found == truth).mean()))
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.58


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="allowed"):
        randomised([0, 1], 1.5, 2, RNG(0))
