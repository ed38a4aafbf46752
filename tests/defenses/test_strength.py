"""Strength: what the leaderboard compares knobs by."""

from typing import ClassVar

import pytest
from pydantic.dataclasses import dataclass

from gibench.defenses import Defense
from gibench.defenses.strength import strength
from gibench.registry import build


@dataclass(frozen=True)
class Fewer(Defense):
    """The fewer levels, the stronger."""

    knob = "levels"
    knob_grows: ClassVar[bool] = False
    levels: int = 15


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("none", None),
        ("dpsgd(sigma=0.03, clip=2)", 0.03),
        ("prune(p=0.99)", 0.99),
        ("latent_perturb(rho=4)", 4.0),
        ('latent_perturb(kind="bottleneck", beta=1e-4)', 1e-4),
    ],
)
def test_strength_is_the_value_of_the_knob(spec: str, value: float | None) -> None:
    assert strength(build("defenses", spec)) == value


def test_strength_grows_where_the_knob_falls() -> None:
    assert strength(Fewer(levels=3)) > strength(Fewer(levels=15))
