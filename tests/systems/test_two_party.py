"""Numbers on shares come out as in plain, and what one party sees tells nothing of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gibench.errors import InputError
from gibench.systems.two_party import TwoParty, Words

F = 13
STEP = 2.0**-F


def session(seed: int = 0, heard: list[Words] | None = None) -> TwoParty:
    return TwoParty(np.random.default_rng(seed), F, heard)


numbers = st.lists(st.floats(-500, 500), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(values=numbers, seed=st.integers(0, 10**6))
def test_what_is_shared_comes_back_and_relu_and_signs_are_exact(values: list[float], seed: int) -> None:
    parties, x = session(seed), np.rint(np.array(values) / STEP) * STEP
    shares = parties.share(x)
    assert parties.reveal(shares).tolist() == x.tolist()
    assert parties.reveal(parties.relu(shares)).tolist() == np.maximum(x, 0).tolist()
    negative = parties.negative(shares)
    assert (negative[0] + negative[1]).tolist() == (x < 0).astype(int).tolist()


@pytest.mark.parametrize("edge", [0.0, STEP, -STEP, 2.0**46, -(2.0**46)])
def test_signs_at_the_edges(edge: float) -> None:
    for seed in range(20):
        parties = session(seed)
        negative = parties.negative(parties.share([edge]))
        assert int((negative[0] + negative[1])[0]) == int(edge < 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_product_is_exact_up_to_fixed_point(seed: int) -> None:
    rng, parties = np.random.default_rng(seed), session(seed)
    a, b = (np.rint(rng.normal(size=shape) * 4 / STEP) * STEP for shape in ((3, 5), (5, 2)))
    raw = parties.product(parties.share(a), parties.share(b), np.matmul)
    whole = (raw[0] + raw[1]).astype(np.int64)
    assert whole.tolist() == np.rint(a @ b / STEP**2).astype(np.int64).tolist()
    assert np.abs(parties.reveal(parties.cut(raw)) - a @ b).max() <= 2 * STEP


def bits(words: Words) -> np.ndarray:
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8))


@pytest.mark.parametrize("secret", [0.0, 1.0, -250.0])
@pytest.mark.parametrize("party", [0, 1])
def test_shares_and_all_that_a_party_hears_are_uniform_whatever_the_secret(secret: float, party: int) -> None:
    """Every bit is 0 or 1 with equal chances, of a party's share and of every value that both see."""
    heard: list[Words] = []
    parties = session(1, heard)
    x = parties.share(np.full(400, secret))
    y = parties.share(np.full(400, 3.0))
    parties.product(x, y)
    parties.relu(x)
    assert len(heard) == 2 + 2 * 7 + 2 + 2  # the product, the adder, its bit as a number, and times the number
    for view in (x[party], *heard):
        word = bits(view).reshape(-1, 64)
        deviation = 0.5 / np.sqrt(word.size)
        assert abs(word.mean() - 0.5) < 5 * deviation
        assert np.abs(word.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(word))


def test_without_a_mask_the_view_would_tell() -> None:
    """The test above can fail: the secret itself in the place of a share is far from uniform."""
    plain = session().encode(np.full(400, 1.0))
    assert abs(bits(plain).mean() - 0.5) > 0.4


def test_bytes_and_rounds_are_counted() -> None:
    parties = session()
    x = parties.share(np.zeros(10))
    assert (parties.bytes, parties.rounds) == (0, 0)  # an input is sent to one party; what is counted is talk
    parties.product(x, x)
    assert (parties.bytes, parties.rounds) == (10 * 8 * 2 * 2, 1)
    parties.negative(x)
    assert parties.rounds == 1 + 7 + 1
    assert parties.bytes == 320 * (1 + 12 + 1)


@pytest.mark.parametrize("value", [2.0**60, np.nan, np.inf])
def test_a_number_that_does_not_fit_is_told(value: float) -> None:
    with pytest.raises(InputError, match="allowed"):
        session().share([value])
    with pytest.raises(InputError, match="allowed"):
        TwoParty(np.random.default_rng(0), 40)
