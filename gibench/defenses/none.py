"""No defense: the plain gradient leaves the client (McMahan et al. 2017); the reference of every comparison."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from gibench.defenses import Defense


@dataclass(frozen=True)
class Undefended(Defense):
    """Identity."""

    place = "data"
    neutral = "none"
    oblivious_suffices = "there is nothing to know"
    citation: ClassVar[str] = (
        "McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-efficient learning of deep networks from "
        "decentralized data, AISTATS 2017, arXiv 1602.05629"
    )
