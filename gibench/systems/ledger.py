"""Metaverse FL's ledger (Kang et al. 2023, arXiv 2307.15975): a main chain and one chain of updates per client.

Published (abstract): main chain and subchains. This project's reading: append-only sha256 chains; each client's blocks
carry its updates, each block of the main chain the heads of all clients' chains and what was aggregated.

A block is the digest of the one before it (32 bytes), the round (4), the payload, and the sha256 (32) of all that.
Whoever changes a byte is found out; whoever may read reads every update as it was sent. Integrity is not
confidentiality: to a reader of the ledger no update is defended by the ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gibench.errors import InputError

Arrays = dict[str, NDArray[np.float32]]
"""An update or a model, float32 by parameter name; a parameter that is not shared is not in it."""

MAIN = "main"
DIGEST, HEAD = 32, 36  # bytes of a digest, and before the payload


@dataclass(frozen=True)
class Fault:
    """The first block that is not what it was, and how it shows."""

    chain: str
    block: int
    reason: str

    def __str__(self) -> str:
        return f"block {self.block} of chain '{self.chain}': {self.reason}"


@dataclass(frozen=True)
class Ledger:
    """Blocks by chain, oldest first. Appending makes a new ledger and leaves this one as it is."""

    chains: Mapping[str, tuple[bytes, ...]] = field(default_factory=lambda: {MAIN: ()})

    def append(self, client: str, number: int, update: Mapping[str, NDArray[np.float32]]) -> Ledger:
        """`client` publishes its update of round `number`."""
        if client == MAIN:
            raise InputError(f"a client cannot be named '{MAIN}', which is the chain of the server; allowed: any other")
        return self._with(client, number, _packed(update))

    def seal(self, number: int, aggregate: Mapping[str, NDArray[np.float32]]) -> Ledger:
        """The main chain takes note of where every client's chain stands, and of what was made of the updates."""
        heads = {name: [len(blocks), blocks[-1][-DIGEST:].hex()] for name, blocks in self._clients().items()}
        return self._with(MAIN, number, json.dumps(heads, sort_keys=True).encode() + b"\n" + _packed(aggregate))

    def verify(self, head: bytes | None = None) -> Fault | None:
        """Recomputes every digest and compares what the main chain sealed; the first fault, or None.

        Clients' chains come first, in name order, then the main chain. `head`: the main chain's last digest as the
        reader remembers it; without it a ledger rewritten as a whole, or cut at its end, is one that is in order.
        """
        faults = (_broken(name, self.chains[name]) for name in (*sorted(self._clients()), MAIN))
        if fault := next((fault for fault in faults if fault), None):
            return fault
        for block, sealed in enumerate(self.chains[MAIN]):
            for name, (length, digest) in json.loads(sealed[HEAD:-DIGEST].split(b"\n")[0]).items():
                blocks = self.chains.get(name, ())
                if len(blocks) < length:
                    return Fault(name, len(blocks), f"missing, but block {block} of the main chain sealed it")
                if blocks[length - 1][-DIGEST:].hex() != digest:
                    return Fault(name, length - 1, f"not what block {block} of the main chain sealed")
        last = len(self.chains[MAIN]) - 1
        if head is not None and self.head() != head:
            return Fault(MAIN, max(last, 0), "not the head that is remembered")
        return None

    def head(self) -> bytes:
        """The digest that stands for the whole ledger: remember it elsewhere."""
        return _head(MAIN, self.chains[MAIN])

    def updates(self, client: str) -> list[tuple[int, Arrays]]:
        """What every reader sees of a client: rounds and updates, bit by bit as they were sent. Verifies nothing."""
        if client not in self._clients():
            raise InputError(f"no client '{client}' in the ledger; allowed: {', '.join(sorted(self._clients()))}")
        return [(int.from_bytes(block[DIGEST:HEAD], "big"), load(block[HEAD:-DIGEST])) for block in self.chains[client]]

    def exposure(self) -> dict[str, int]:
        """How many updates of each client lie open."""
        return {name: len(blocks) for name, blocks in self._clients().items()}

    def _clients(self) -> dict[str, tuple[bytes, ...]]:
        return {name: blocks for name, blocks in self.chains.items() if name != MAIN}

    def _with(self, chain: str, number: int, payload: bytes) -> Ledger:
        blocks = self.chains.get(chain, ())
        body = _head(chain, blocks) + number.to_bytes(4, "big") + payload
        block = body + hashlib.sha256(body).digest()
        return replace(self, chains={**self.chains, chain: (*blocks, block)})


def _head(chain: str, blocks: tuple[bytes, ...]) -> bytes:
    """The last digest; of an empty chain, that of its name."""
    return blocks[-1][-DIGEST:] if blocks else hashlib.sha256(chain.encode()).digest()


def _broken(chain: str, blocks: tuple[bytes, ...]) -> Fault | None:
    for k, block in enumerate(blocks):
        if len(block) < HEAD + DIGEST or hashlib.sha256(block[:-DIGEST]).digest() != block[-DIGEST:]:
            return Fault(chain, k, "its digest is not that of its content")
        if block[:DIGEST] != _head(chain, blocks[:k]):
            return Fault(chain, k, "it does not follow the block before it")
        if reason := _unreadable(chain, block[HEAD:-DIGEST]):
            return Fault(chain, k, reason)
    return None


def _unreadable(chain: str, payload: bytes) -> str:
    """Why a payload that carries the right digest is none, or nothing: a ledger is untrusted."""
    heads, _, tensors = payload.partition(b"\n") if chain == MAIN else (b"{}", b"", payload)
    try:
        load(tensors)
        for length, digest in json.loads(heads).values():
            if not isinstance(length, int) or not isinstance(digest, str) or length < 1:
                return "its heads are not lengths and digests"
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        return f"its content cannot be read ({type(error).__name__})"
    return ""


def _packed(update: Mapping[str, NDArray[np.float32]]) -> bytes:
    for name, values in update.items():
        if values.dtype != np.float32:
            raise InputError(f"'{name}' is {values.dtype}; allowed in a ledger: float32")
    return save({name: np.ascontiguousarray(values) for name, values in update.items()})
