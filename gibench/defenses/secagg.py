"""Secure aggregation (Bonawitz et al. 2017): masks that cancel in the sum let the server learn nothing but the sum."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.types import Update


@dataclass(frozen=True)
class SecureAggregation(Defense):
    """Entries become fixed-point numbers round(v 2^bits) mod 2^64; what the server decodes is within n 2^-(bits+1)
    of the sum of n messages. With one client there is nothing to hide among: it is no defense, up to the rounding.

    A view is the server's. If it colludes with all clients but one, `remaining` is what they see together.
    """

    citation: ClassVar[str] = (
        "Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth: Practical secure aggregation for "
        "privacy-preserving machine learning, CCS 2017, arXiv 1611.04482"
    )
    place = "protocol"
    knob = "clients"
    sweep = (1, 2, 5, 10, 50)
    neutral = "secagg(clients=1, bits=40)"
    oblivious_suffices = "the sum is the mean gradient of the cohort's images, which every attack inverts as one batch"
    clients: Annotated[int, Field(ge=1, le=1000)] = 10
    bits: Annotated[int, Field(ge=8, le=40)] = 16

    @property
    def cohort(self) -> int:
        return self.clients

    def received(self, messages: Update, draws: Draws) -> Update:
        """The mean that the server decodes from the clients' masked vectors. In training all clients are summed."""
        return {name: None if m is None else self._mean(m, draws.at(name)) for name, m in messages.items()}

    def masked(self, values: Tensor, draws: Draws) -> Tensor:
        """What each of n clients sends, (n, *shape) -> the same shape as int64 words."""
        # Paper: a mask per pair of clients, and shares of them for clients that drop out, which none does here. Around
        # a ring the differences of one mask per client have the same joint distribution: any that sum to zero.
        masks = draws.words(*values.shape[1:]).to(values.device)
        return (values.double() * 2.0**self.bits).round().long() + masks - masks.roll(1, 0)

    def decoded(self, total: Tensor) -> Tensor:
        """The sum of n vectors from the sum of the masked ones."""
        return total.double() / 2.0**self.bits

    def remaining(self, received: Update, known: Update) -> Update:
        """What server and n - 1 colluding clients, whose messages are `known` (n - 1, *shape), see of the last one."""
        whole = {name: None if g is None else g.double() * self.clients for name, g in received.items()}
        return {name: None if g is None else g - known[name].double().sum(0) for name, g in whole.items()}  # type: ignore[union-attr]

    def _mean(self, values: Tensor, draws: Draws) -> Tensor:
        mean = self.decoded(self.masked(values, draws).sum(0)).div(len(values)).to(values)
        fits = (values.abs() < 2.0 ** (62 - self.bits) / len(values)).all(0)  # not where infinite or NaN
        return torch.where(fits, mean, torch.nan)  # a sum that would wrap around is a failure, never privacy

    def upload_bytes(self, update: Update) -> float:
        return 2 * super().upload_bytes(update)  # words of 64 bits

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        if clients < 2:
            return "a sum hides nothing of a single client; training.clients must be at least 2"
        if self.clients > clients:
            return f"the sum is of {self.clients} clients, but only {clients} are trained (training.clients)"
        return ""
