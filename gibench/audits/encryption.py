"""Homomorphic encryption (Wibawa et al. 2022): what encrypted messages cost, and what they change in the sum."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.audits import Audit, Measure, Subject
from gibench.ciphertexts import absent
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.message import make_message
from gibench.registry import build
from gibench.types import Batch

SCHEMES: tuple[tuple[Literal["bfv", "ckks"], int], ...] = (("bfv", 128), ("bfv", 192), ("ckks", 128), ("ckks", 192))


@dataclass(frozen=True)
class Encryption(Audit):
    """Messages of `clients` clients about their first image, encrypted, added and decrypted by TenSEAL under both
    schemes at both security levels. The error of the mean is given as the power of ten that it stays below: that of
    CKKS is fresh noise, which no seed repeats."""

    citation: ClassVar[str] = (
        "Wibawa, Catak, Kuzlu, Sarp, Cali: Homomorphic encryption and federated learning based privacy-preserving CNN "
        "training: COVID-19 detection use-case, EICC 2022, arXiv 2204.07752"
    )
    clients: Annotated[int, Field(ge=1, le=100)] = 5

    def unfit(self, defense: Defense, net: nn.Module) -> str:
        if absent():
            return f"encryption {absent()}"
        return "" if defense.entry_name() == "none" else "asks for plain messages, so that it looks at none alone"

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        first = torch.stack([shard[0] for shard in subject.shards[: self.clients]]).to(subject.parts.client.y.device)
        batch = Batch(subject.parts.client.x[first].unsqueeze(1), subject.parts.client.y[first].unsqueeze(1))
        own = draws.at("messages").of(range(len(first)))
        messages = make_message(subject.nets["final"], Defense(), batch, own)
        found = []
        for scheme, security in SCHEMES:
            he = build("defenses", f'he(scheme="{scheme}", security={security})')
            cost = he.measure(messages)  # type: ignore[attr-defined]
            rows = [
                ("error below", 10.0 ** math.ceil(math.log10(max(cost["error"], 1e-30))), ""),
                ("per client", cost["bytes"] / 2**20, "MiB"),
                ("times plain", cost["expansion"], ""),
                ("encrypt", cost["encrypt_seconds"], "s"),
                ("add", cost["add_seconds"], "s"),
                ("decrypt", cost["decrypt_seconds"], "s"),
            ]
            found += [Measure(f"{scheme} {security}", *row) for row in rows]
        return found
