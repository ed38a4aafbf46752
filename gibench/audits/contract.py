"""Metaverse FL (Kang et al. 2023): fresh updates bought by contract, and a ledger in which all of them lie open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.audits import Audit, Measure, Subject
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.systems.contract import (
    EUT,
    Market,
    Menu,
    Taste,
    complete_information,
    mean_age,
    participation,
    screening,
    uniform_price,
    violations,
    worth,
)
from gibench.systems.ledger import Ledger
from gibench.types import Batch

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Contract(Audit):
    """Menus for hidden client types, and the ledger of this training's rounds; it looks at undefended clients only.

    The market does not depend on the images; what the client adds is its accuracy and its updates. The ledger holds a
    round for every model that is kept (init, early, final), each client with the first images of its own. Whoever may
    read the ledger sees every update as it was sent: the attacks' rows for `none` are what such a reader gets.
    """

    citation: ClassVar[str] = (
        "Kang, Wen, Ye, Lai, Wu, Xiong, Nie, Niyato, Zhang, Xie: Blockchain-empowered federated learning for "
        "healthcare metaverses: user-centric incentive mechanism with optimal data freshness, IEEE Trans. "
        "Cognitive Communications and Networking 2024, arXiv 2307.15975"
    )
    types: tuple[Positive, ...] = (1.0, 2.0, 3.0)  # what a unit of freshness costs a client is cost / type
    shares: tuple[Positive, ...] = ()  # of the types; empty: equal ones
    cost: Positive = 1.0
    value: Positive = 4.0
    delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    loss: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.25  # prospect theory: weight of losses
    power: Annotated[float, Field(gt=0, le=1)] = 0.88
    reference: Annotated[float, Field(allow_inf_nan=False)] = 0.0

    def __post_init__(self) -> None:
        self._market()

    def _market(self) -> Market:
        shares = self.shares or tuple(1 / len(self.types) for _ in self.types)
        return Market(self.types, shares, self.cost, self.value, self.delay)

    def unfit(self, defense: Defense, net: nn.Module) -> str:
        return (
            "" if defense.spec() == "none" else "the ledger shows what undefended clients send: none alone is examined"
        )

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        return [*self._menus(), *_ledger(subject, draws)]

    def _menus(self) -> Iterator[Measure]:
        market, taste = self._market(), Taste(self.loss, self.power, self.reference)
        menus: dict[str, Menu] = {
            "contract, expected utility": screening(market),
            "contract, prospect theory": screening(market, taste),
            "complete information": complete_information(market),
            "uniform price": uniform_price(market),
        }
        for group, menu in menus.items():
            rational, compatible = (round(by, 9) for by in violations(market, menu))  # what is left is rounding
            yield Measure(group, "provider's utility", worth(market, menu, EUT))
            yield Measure(group, "as felt", worth(market, menu, taste))
            yield Measure(group, "IR violated by", rational)
            yield Measure(group, "IC violated by", compatible)
            yield Measure(group, "clients that take part", participation(market, menu), "share")
            yield Measure(group, "freshness of the best", float(menu.freshness[-1]))
            if np.isfinite(age := mean_age(market, menu)):
                yield Measure(group, "mean age", age)


def _ledger(subject: Subject, draws: Draws) -> Iterator[Measure]:
    ledger = _rounds(subject, draws)
    intact, head = ledger.verify(ledger.head()) is None, ledger.head()
    found = [
        _tampered(ledger, chain, at).verify(head) is not None for chain in ledger.chains for at in (0.02, 0.5, 0.99)
    ]
    group = "ledger"
    yield Measure(group, "accuracy", subject.row["utility"], "share", "accuracy: what the clients train the model for")
    yield Measure(group, "intact ledger verified", float(intact), "share")
    yield Measure(
        group, "tampering detected", float(np.mean(found)), "share", "a byte of a block changed, on every chain"
    )
    yield Measure(group, "open updates per client", float(np.mean(list(ledger.exposure().values()))), "")
    yield Measure(group, "in the whole training", subject.row["rounds"])


def _rounds(subject: Subject, draws: Draws) -> Ledger:
    """Every client's update to each of the models that are kept, sealed by their mean."""
    b, n = subject.training.batch, len(subject.shards)
    index = torch.stack([shard[torch.arange(b) % len(shard)] for shard in subject.shards])
    images = subject.parts.client
    index = index.to(images.y.device)
    batch, ledger = Batch(images.x[index], images.y[index]), Ledger()
    for number, checkpoint in enumerate(subject.nets):
        sent = subject.messages(checkpoint, batch, draws.at(checkpoint).of(range(n)))
        shared = {name: g.cpu().numpy().astype(np.float32) for name, g in sent.items() if g is not None}
        for client in range(n):
            ledger = ledger.append(f"client {client}", number, {name: g[client] for name, g in shared.items()})
        ledger = ledger.seal(number, {name: g.mean(0) for name, g in shared.items()})
    return ledger


def _tampered(ledger: Ledger, chain: str, at: float) -> Ledger:
    """The same ledger with one byte changed in the middle block of a chain."""
    blocks = list(ledger.chains[chain])
    middle = len(blocks) // 2
    changed = bytearray(blocks[middle])
    changed[int(at * len(changed))] ^= 1
    blocks[middle] = bytes(changed)
    return Ledger({**ledger.chains, chain: tuple(blocks)})
