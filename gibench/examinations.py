"""What a suite's audits examine: every trained client under every audit that it names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from gibench.audits import Audit
from gibench.grid import Chosen, Client, as_written, digest, entries, trained
from gibench.suite import Suite


@dataclass(frozen=True)
class Examination:
    """One audit of one trained client."""

    client: Client
    audit: Audit

    @cached_property
    def id(self) -> str:
        return digest(self.identity())

    @property
    def entry(self) -> Audit:
        """Whose work this is."""
        return self.audit

    @property
    def clients(self) -> list[Client]:
        """The clients that must have been trained."""
        return [self.client]

    @property
    def skip(self) -> str:
        """Why this client is not examined; empty if it is."""
        return self.client.defense.lacks() or self.audit.unfit(self.client.defense, self.client.skeleton)

    def identity(self) -> dict[str, Any]:
        return {"client": self.client.id, "audit": self.audit.identity()}

    def describe(self) -> dict[str, Any]:
        """The columns that name this examination in results."""
        return {"examination": self.id, **self.client.describe(), "audit": self.audit.spec()}


def examinations(suite: Suite, chosen: Chosen = as_written) -> list[Examination]:
    """Every examination in the order in which it should run. Raises InputError for the first that cannot be built."""
    found: dict[str, Examination] = {}
    for block in suite.blocks():
        audits = cast(list[Audit], entries("audits", block.audits or []))
        for client, _ in trained(block, chosen) if audits else ():
            for audit in audits:
                found.setdefault((one := Examination(client, audit)).id, one)
    return list(found.values())
