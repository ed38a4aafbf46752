"""PriMIA's encrypted inference (Kaissis et al. 2021, arXiv 2012.06354): two parties compute on shares of numbers.

Published: secure inference by shared fixed-point numbers, so that neither sees image or model. This project's reading,
of textbook protocols: additive shares mod 2^64; products by triples that a dealer hands out in advance (Beaver 1991);
signs by a Kogge-Stone adder on shared bits, 64 to a word (Goldreich, Micali, Wigderson 1987), whose AND also takes
triples; fixed point is cut back by each party alone (SecureML, Mohassel, Zhang 2017). Both parties are honest but
curious and do not collude. Shares have a leading axis of 2, the parties.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gibench.errors import InputError

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]
Bilinear = Callable[[Words, Words], Words]

TOP = np.uint64(63)


class TwoParty:
    """A session: the dealer's randomness, and what the parties have sent each other so far.

    `fraction` bits after the point: a number is known to 2^-fraction. Cutting back fails, by a wrap of 2^64, with
    probability |x| 2^(2 fraction - 64) for a number. `heard`, where given, collects what both parties saw, in order.
    """

    def __init__(self, rng: np.random.Generator, fraction: int = 13, heard: list[Words] | None = None) -> None:
        if not 1 <= fraction <= 20:
            raise InputError(f"two parties: fraction is {fraction}; allowed: 1 to 20 bits")
        self.rng, self.fraction, self.heard = rng, fraction, heard
        self.bytes = self.rounds = 0

    def share(self, values: ArrayLike, scale: int = 1) -> Words:
        """Additive shares (2, *shape) of real numbers; `scale` 2: with twice the bits after the point."""
        secret = self.encode(values, scale)
        mask = self._random(secret.shape)
        return np.stack([secret - mask, mask])

    def encode(self, values: ArrayLike, scale: int = 1) -> Words:
        """Fixed point in two's complement. InputError where a number is too large for the protocols."""
        raw = np.rint(np.asarray(values, np.float64) * 2.0 ** (scale * self.fraction))
        if not (np.abs(raw) < 2.0**60).all():
            raise InputError("two parties: a number is too large or not finite; allowed: below 2^60 in fixed point")
        return raw.astype(np.int64).astype(np.uint64)

    def reveal(self, shares: Words) -> Floats:
        """The numbers; whoever is to learn them is sent the other's share."""
        self.bytes += shares[0].nbytes
        self.rounds += 1
        numbers: Floats = (shares[0] + shares[1]).astype(np.int64) / 2.0**self.fraction
        return numbers

    def product(self, x: Words, y: Words, of: Bilinear = np.multiply) -> Words:
        """Shares of a bilinear `of` (x, y), entry by entry if not told otherwise; the points of both add up."""
        a, b = self._random(x[0].shape), self._random(y[0].shape)
        (a0, a1), (b0, b1), (c0, c1) = (self._split(one) for one in (a, b, of(a, b)))
        d, e = self._exchange(x - np.stack([a0, a1]), y - np.stack([b0, b1]))
        d, e = self._opened(d[0] + d[1], e[0] + e[1])
        return np.stack([c0 + of(d, b0) + of(a0, e) + of(d, e), c1 + of(d, b1) + of(a1, e)])

    def plus(self, shares: Words, public: Words) -> Words:
        """A public number on top, which the first party adds."""
        return np.stack([shares[0] + public, np.broadcast_to(shares[1], (shares[0] + public).shape)])

    def cut(self, shares: Words) -> Words:
        """From twice the bits after the point to once; the last bit may be off by one."""
        bits = np.uint64(self.fraction)
        zero = np.uint64(0)
        return np.stack([shares[0] >> bits, zero - ((zero - shares[1]) >> bits)])

    def negative(self, shares: Words) -> Words:
        """Shares of 1 where a number is negative, else of 0: the top bit of the sum of both shares."""
        nothing = np.zeros_like(shares[0])
        first, second = np.stack([shares[0], nothing]), np.stack([nothing, shares[1]])
        plain = propagate = first ^ second
        (carry,) = self._and((first, second))
        for step in (1, 2, 4, 8, 16, 32):
            by = np.uint64(step)
            pairs = [(propagate, carry << by), *([(propagate, propagate << by)] if step < 32 else [])]
            more, *rest = self._and(*pairs)
            carry, propagate = carry ^ more, rest[0] if rest else propagate
        bit = (plain >> TOP) ^ ((carry >> (TOP - np.uint64(1))) & np.uint64(1))
        one, other = np.stack([bit[0], nothing]), np.stack([nothing, bit[1]])
        found: Words = one + other - np.uint64(2) * self.product(one, other)
        return found

    def relu(self, shares: Words) -> Words:
        """max(x, 0), exactly."""
        return shares - self.product(shares, self.negative(shares))

    def _and(self, *pairs: tuple[Words, Words]) -> list[Words]:
        """Bitwise AND of xor-shared words, all pairs in one round."""
        x, y = (np.stack([pair[k] for pair in pairs], 1) for k in (0, 1))
        a, b = self._random(x[0].shape), self._random(y[0].shape)
        (a0, a1), (b0, b1), (c0, c1) = (self._split(one, xor=True) for one in (a, b, a & b))
        d, e = self._exchange(x ^ np.stack([a0, a1]), y ^ np.stack([b0, b1]))
        d, e = self._opened(d[0] ^ d[1], e[0] ^ e[1])
        return list(np.swapaxes(np.stack([c0 ^ (d & b0) ^ (a0 & e) ^ (d & e), c1 ^ (d & b1) ^ (a1 & e)]), 0, 1))

    def _exchange(self, *shares: Words) -> tuple[Words, ...]:
        """Each party sends its share of these to the other."""
        self.bytes += sum(one.nbytes for one in shares)
        self.rounds += 1
        return shares

    def _opened(self, *values: Words) -> tuple[Words, ...]:
        if self.heard is not None:
            self.heard.extend(values)
        return values

    def _split(self, secret: Words, xor: bool = False) -> tuple[Words, Words]:
        mask = self._random(secret.shape)
        return (secret ^ mask if xor else secret - mask), mask

    def _random(self, shape: tuple[int, ...]) -> Words:
        return self.rng.integers(0, 2**64, shape, dtype=np.uint64)
