"""The ledger finds every changed byte, and hides nothing."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gibench.errors import InputError
from gibench.systems.ledger import DIGEST, HEAD, MAIN, Arrays, Fault, Ledger


def update(seed: int) -> Arrays:
    draws = np.random.default_rng(seed)
    return {
        "0.weight": draws.normal(size=(2, 3)).astype(np.float32),
        "0.bias": draws.normal(size=2).astype(np.float32),
    }


def ledger(rounds: int = 3, clients: int = 2) -> Ledger:
    book = Ledger()
    for number in range(rounds):
        for client in range(clients):
            book = book.append(f"client {client}", number, update(10 * number + client))
        book = book.seal(number, update(1000 + number))
    return book


SOUND = ledger()
PLACES = [
    (chain, k, i) for chain, blocks in SOUND.chains.items() for k, block in enumerate(blocks) for i in range(len(block))
]


def changed(book: Ledger, chain: str, k: int, block: bytes) -> Ledger:
    blocks = book.chains[chain]
    return Ledger({**book.chains, chain: (*blocks[:k], block, *blocks[k + 1 :])})


def rehashed(block: bytes, payload: bytes) -> bytes:
    body = block[:HEAD] + payload
    return body + hashlib.sha256(body).digest()


def test_a_ledger_in_order_verifies() -> None:
    assert SOUND.verify() is None
    assert SOUND.verify(SOUND.head()) is None
    assert Ledger().verify() is None
    assert SOUND.append("client 0", 3, update(7)).verify() is None  # not sealed yet
    assert SOUND.exposure() == {"client 0": 3, "client 1": 3}


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), flip=st.integers(1, 255))
def test_any_flipped_byte_is_found_where_it_is(place: tuple[str, int, int], flip: int) -> None:
    chain, k, i = place
    block = bytearray(SOUND.chains[chain][k])
    block[i] ^= flip
    fault = changed(SOUND, chain, k, bytes(block)).verify()
    assert fault is not None
    assert (fault.chain, fault.block) == (chain, k)
    assert f"block {k} of chain '{chain}'" in str(fault)


def test_every_single_bit_counts() -> None:
    for chain, k, i in PLACES:
        block = bytearray(SOUND.chains[chain][k])
        block[i] ^= 1
        assert changed(SOUND, chain, k, bytes(block)).verify() is not None


def test_a_block_rewritten_with_its_digest_breaks_the_chain_or_the_seal() -> None:
    other = ledger(1).chains["client 1"][0][HEAD:-DIGEST]
    middle = rehashed(SOUND.chains["client 0"][1], other)
    assert changed(SOUND, "client 0", 1, middle).verify() == Fault(
        "client 0", 2, "it does not follow the block before it"
    )
    last = rehashed(SOUND.chains["client 0"][2], other)
    assert changed(SOUND, "client 0", 2, last).verify() == Fault(
        "client 0", 2, "not what block 2 of the main chain sealed"
    )


def test_blocks_that_are_missing_swapped_or_of_another_chain_are_found() -> None:
    one, two, three = SOUND.chains["client 0"]
    for blocks in [(one, two), (two, three), (one, three), (two, one, three), ()]:
        assert Ledger({**SOUND.chains, "client 0": blocks}).verify() is not None
    stolen = Ledger({**SOUND.chains, "client 0": SOUND.chains["client 1"]}).verify()
    assert stolen == Fault("client 0", 0, "it does not follow the block before it")
    without = {name: blocks for name, blocks in SOUND.chains.items() if name != "client 1"}
    assert Ledger(without).verify() == Fault("client 1", 0, "missing, but block 0 of the main chain sealed it")


def test_only_a_remembered_head_shows_that_the_end_was_cut() -> None:
    cut = ledger(2)
    assert cut.verify() is None
    assert cut.verify(SOUND.head()) == Fault(MAIN, 1, "not the head that is remembered")
    assert Ledger().verify(SOUND.head()) is not None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"no heads\n",
        b"[1]\n",
        b'{"client 0": 3}\n',
        json.dumps({"client 0": ["1", "00"]}).encode() + b"\n" + SOUND.chains["client 0"][0][HEAD:-DIGEST],
        json.dumps({"client 0": [0, "00"]}).encode() + b"\n" + SOUND.chains["client 0"][0][HEAD:-DIGEST],
    ],
)
def test_a_block_with_the_right_digest_and_no_content_is_a_fault(payload: bytes) -> None:
    fault = changed(SOUND, MAIN, 2, rehashed(SOUND.chains[MAIN][2], payload)).verify()
    assert fault is not None
    assert (fault.chain, fault.block) == (MAIN, 2)


@settings(max_examples=50, deadline=None)
@given(
    values=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=1, max_dims=4, max_side=5),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    )
)
def test_a_reader_gets_every_bit_of_an_update(values: np.ndarray) -> None:
    book = Ledger().append("client", 5, {"w": values, "b": values.T})
    ((number, seen),) = book.updates("client")
    assert number == 5
    assert seen.keys() == {"w", "b"}
    assert seen["w"].shape == values.shape
    assert seen["w"].tobytes() == values.tobytes()
    assert seen["b"].tobytes() == np.ascontiguousarray(values.T).tobytes()


def test_the_same_updates_make_the_same_ledger_and_appending_leaves_the_old_one() -> None:
    assert ledger().chains == SOUND.chains
    before = dict(SOUND.chains)
    SOUND.append("client 0", 3, update(7)).seal(3, update(8))
    assert SOUND.chains == before


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="cannot be named 'main'"):
        Ledger().append(MAIN, 0, update(0))
    with pytest.raises(InputError, match="allowed in a ledger: float32"):
        Ledger().append("client", 0, {"w": np.zeros(2)})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="allowed: client 0, client 1"):
        SOUND.updates("client 2")
