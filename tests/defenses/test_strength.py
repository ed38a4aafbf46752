"""Strength: what the leaderboard compares knobs by."""

import pytest
from pydantic.dataclasses import dataclass

from gibench.defenses import Defense
from gibench.registry import build


@dataclass(frozen=True)
class Fewer(Defense):
    """The fewer levels, the stronger."""

    knob = "levels"
    sweep = (255, 15, 3, 1)
    levels: int = 15


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("none", None),
        ("dpsgd(sigma=0.03, clip=2)", 0.03),
        ("prune(p=0.99)", 0.99),
        ("latent_perturb(rho=4)", 4.0),
        ("latent_perturb(rho=4) + dpsgd(sigma=0.1)", 0.1),
        ('latent_perturb(kind="bottleneck", beta=1e-4)', 1e-4),
    ],
)
def test_strength_is_the_value_of_the_knob(spec: str, value: float | None) -> None:
    assert build("defenses", spec).strength == value


def test_strength_grows_where_the_knob_falls() -> None:
    assert Fewer(levels=3).strength > Fewer(levels=15).strength
