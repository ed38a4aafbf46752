"""Sums of encrypted vectors by TenSEAL, the binding of Microsoft SEAL: CKKS for reals, BFV for fixed-point numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from gibench.errors import InputError

Scheme = Literal["ckks", "bfv"]
Vector = list[bytes]
"""One client's encrypted vector: a ciphertext per chunk of slots."""

DEGREE = 8192
LARGEST = {128: 218, 192: 152}  # bits of the coefficient modulus at that degree (homomorphic encryption standard)
MODULI = {128: (60, 40, 40, 60), 192: (50, 40, 50)}
SCALE = 2.0**40  # of CKKS
UNIT = 2.0**16  # of BFV's fixed-point numbers
PLAIN = 1073692673  # BFV's plain modulus: the largest prime below 2^30 that is 1 mod 2 DEGREE, as batching asks
SLOTS = {"ckks": DEGREE // 2, "bfv": DEGREE}
LIMIT = 2.0**20  # of a CKKS sum; beyond it a double's own rounding shows


def absent() -> str:
    """Why nothing can be encrypted here; empty if it can."""
    return "" if find_spec("tenseal") else "needs TenSEAL, which is not installed: pip install 'gibench[he]'"


def refused(security: int, moduli: Sequence[int]) -> str:
    """Why SEAL, or the security level, refuses primes of so many bits; empty if both take them."""
    text = f"moduli={list(moduli)}"
    if len(moduli) < 2 or min(moduli) < 31 or max(moduli) > 60:
        return f"{text}: at least two are needed, each of 31 to 60 bits"
    if sum(moduli) > LARGEST[security]:
        return f"{text}: {sum(moduli)} bits are more than the {LARGEST[security]} that leave security {security}"
    if sum(moduli[:-1]) < 70:
        return f"{text}: {sum(moduli[:-1])} bits before the last prime are too few for a sum; at least 70 are needed"
    return ""


def fits(values: Tensor, scheme: Scheme) -> Tensor:
    """Where a sum of these n values cannot overflow, (n, *shape) -> (*shape); not where infinite or NaN."""
    most = LIMIT if scheme == "ckks" else (PLAIN - 1) // 2 / UNIT
    return (values.double().abs() <= most / len(values) - 1 / UNIT).all(0)


def plain_sum(values: Tensor, scheme: Scheme) -> Tensor:
    """What decrypting the sum of n vectors gives, (n, *shape) -> (*shape) in fp64: for BFV exactly, for CKKS up to its
    noise of about 1e-8."""
    values = values.double()
    return values.sum(0) if scheme == "ckks" else (values * UNIT).round().sum(0) / UNIT


@cache
def keys(scheme: Scheme, security: int, moduli: tuple[int, ...]) -> Keys:
    """One key pair per process and setting: clients share it."""
    return Keys(scheme, moduli or MODULI[security])


class Keys:
    """The clients' common key pair, and the public half that is all the server gets."""

    def __init__(self, scheme: Scheme, moduli: Sequence[int]) -> None:
        if problem := absent():
            raise InputError(f"homomorphic encryption {problem}")
        import tenseal

        self.scheme: Scheme = scheme
        kind = tenseal.SCHEME_TYPE.CKKS if scheme == "ckks" else tenseal.SCHEME_TYPE.BFV
        modulus = -1 if scheme == "ckks" else PLAIN
        self.secret = tenseal.context(kind, DEGREE, modulus, list(moduli), n_threads=1)
        if scheme == "ckks":
            self.secret.global_scale = SCALE
        self.public = self.secret.copy()
        self.public.make_context_public()
        self._make: Any = tenseal.ckks_vector if scheme == "ckks" else tenseal.bfv_vector
        self._read: Any = tenseal.ckks_vector_from if scheme == "ckks" else tenseal.bfv_vector_from

    def encrypt(self, values: Tensor) -> Vector:
        """Client: (m,) -> ceil(m / slots) ciphertexts, as they are sent. Values must fit."""
        values = values.detach().double().cpu()
        whole = values if self.scheme == "ckks" else (values * UNIT).round().long()
        return [self._make(self.public, part.tolist()).serialize() for part in whole.split(SLOTS[self.scheme])]

    def add(self, messages: Sequence[Vector]) -> Vector:
        """Server, without the secret key: the encrypted sum."""
        sums = []
        for chunks in zip(*messages, strict=True):
            total, *others = (self._read(self.public, chunk) for chunk in chunks)
            for other in others:
                total += other
            sums.append(total.serialize())
        return sums

    def decrypt(self, vector: Vector) -> Tensor:
        """Whoever has the secret key: (m,) in fp64."""
        parts = [self._read(self.secret, chunk).decrypt() for chunk in vector]
        whole = torch.tensor([value for part in parts for value in part], dtype=torch.float64)
        return whole if self.scheme == "ckks" else whole / UNIT
