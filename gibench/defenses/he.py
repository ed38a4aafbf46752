"""Homomorphic encryption (Wibawa et al. 2022): clients share a key that the server lacks; it adds up ciphertexts."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.ciphertexts import SLOTS, Keys, Scheme, absent, fits, keys, plain_sum, refused
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.types import Update

WEIGHED = 8  # ciphertexts of a message that are made to know its size


@dataclass(frozen=True)
class HomomorphicEncryption(Defense):
    """Who attacks, `view`: the `server`, who sees ciphertexts and thus nothing; a curious `client`, who decrypts the
    sum of a cohort of `clients`, as every client does; or both in `collusion`, where it is no defense: server and any
    one client decrypt each message alone.

    What an attacker sees has been encrypted, added and decrypted by TenSEAL; BFV's numbers are exact, those of CKKS
    carry SEAL's own noise of about 1e-8, which no seed repeats. So do attackers' simulations, about 4 ms per
    ciphertext. Training with `training="exact"` takes the sum in the clear, in the same fixed point: equal to the
    library's bit by bit for BFV, up to that noise for CKKS (tests compare them); "encrypted" really encrypts.

    `moduli`: bits of the coefficient primes; none given: 60, 40, 40, 60, at security 192: 50, 40, 50.
    """

    citation: ClassVar[str] = (
        "Wibawa, Catak, Kuzlu, Sarp, Cali: Homomorphic encryption and federated learning based privacy-preserving CNN "
        "training: COVID-19 detection use-case, EICC 2022, arXiv 2204.07752; library: Benaissa et al., TenSEAL, "
        "arXiv 2104.03152"
    )
    place = "protocol"
    knob = "clients"
    sweep = (1, 2, 5, 10, 50)
    neutral = 'he(scheme="ckks", clients=1)'
    oblivious_suffices = "what is decrypted is the mean gradient of the cohort's images, inverted as one batch"
    scheme: Scheme = "bfv"
    security: Literal[128, 192] = 128
    clients: Annotated[int, Field(ge=1, le=1000)] = 10
    view: Literal["server", "client", "collusion"] = "client"
    training: Literal["exact", "encrypted"] = "exact"
    moduli: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _accepted(self) -> Self:
        if self.moduli and (problem := refused(self.security, self.moduli)):
            raise ValueError(problem)
        return self

    @property
    def cohort(self) -> int:
        return self.clients if self.view == "client" else 1

    @property
    def sealed(self) -> str:
        return "the server sees ciphertexts only, so there is no update to look at" if self.view == "server" else ""

    def lacks(self) -> str:
        return f"he {absent()}" if absent() else ""

    def received(self, messages: Update, draws: Draws) -> Update:
        """The mean that clients decrypt from the server's sum, in training of all clients."""
        if self.training == "encrypted":
            return self._through_the_library(messages)
        return {name: None if m is None else self._mean(m, plain_sum(m, self.scheme)) for name, m in messages.items()}

    def observed(self, messages: Update, draws: Draws) -> Update:
        return dict.fromkeys(messages) if self.sealed else self._through_the_library(messages)

    def upload_bytes(self, update: Update) -> float:
        """The ciphertexts' real size, which varies by about 0.1 % with their randomness; that of a long message from
        its first ones."""
        first = _joined(update, self.scheme)[0]
        chunks, slots = -(-len(first) // SLOTS[self.scheme]), SLOTS[self.scheme]
        weighed = min(chunks, WEIGHED)
        return sum(map(len, self._keys.encrypt(first[: weighed * slots]))) * chunks / weighed if chunks else 0.0

    def measure(self, messages: Update) -> dict[str, float]:
        """What encrypting the messages of n clients, (n, *shape) each, costs and changes.

        error: the largest |decrypted - plain| of the mean; bytes: of one client's ciphertexts; expansion: over its 4
        bytes per entry; seconds to encrypt one client's message, for the server to add all, and to decrypt the sum.
        """
        values = _joined(messages, self.scheme)
        own, clock = self._keys, [time.perf_counter()]
        sent = [own.encrypt(one) for one in values]
        clock.append(time.perf_counter())
        total = own.add(sent)
        clock.append(time.perf_counter())
        mean = own.decrypt(total) / len(values)
        clock.append(time.perf_counter())
        size = sum(len(chunk) for one in sent for chunk in one) / len(sent)
        return {
            "error": float((mean - values.double().mean(0)).abs().max()),
            "bytes": size,
            "expansion": size / (4 * values.shape[1]),
            "encrypt_seconds": (clock[1] - clock[0]) / len(values),
            "add_seconds": clock[2] - clock[1],
            "decrypt_seconds": clock[3] - clock[2],
        }

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        if clients < 2:
            return "a sum hides nothing of a single client; training.clients must be at least 2"
        if self.cohort > clients:
            return f"the sum is of {self.clients} clients, but only {clients} are trained (training.clients)"
        return ""

    @property
    def _keys(self) -> Keys:
        return keys(self.scheme, self.security, self.moduli)

    def _through_the_library(self, messages: Update) -> Update:
        values = _joined(messages, self.scheme)
        total = self._keys.decrypt(self._keys.add([self._keys.encrypt(one) for one in values]))
        sums = total.split([m[0].numel() for m in messages.values() if m is not None])
        each = iter(sums)
        return {
            name: None if m is None else self._mean(m, next(each).view(m.shape[1:]).to(m.device))
            for name, m in messages.items()
        }

    def _mean(self, values: Tensor, total: Tensor) -> Tensor:
        """A sum that would wrap around is a failure, never privacy."""
        return torch.where(fits(values, self.scheme), total.div(len(values)).to(values), torch.nan)


def _joined(messages: Update, scheme: Scheme) -> Tensor:
    """(n, all shared entries), with zeros where a sum would not fit."""
    shared = [m.flatten(1) for m in messages.values() if m is not None]
    values = torch.cat(shared, 1)
    return torch.where(fits(values, scheme), values, 0.0)
