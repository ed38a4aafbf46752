"""CMA-ES on functions whose minimum is known."""

import torch

from gibench.draws import Draws
from gibench.engine.evolution import evolve


def minimum(n: int, v: int, members: range, generations: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """A narrow valley, turned out of the axes, whose bottom differs between problems."""
    turn = torch.linalg.qr(Draws(("turn",)).normal(n, n)[0].double()).Q
    scale = torch.logspace(0, 3, n, dtype=torch.float64)
    bottom = torch.stack([torch.full((n,), 0.3 * (m + 1), dtype=torch.float64) for m in members])

    def evaluate(points: torch.Tensor, draws: Draws) -> torch.Tensor:
        return (((points - bottom) @ turn).square() * scale).sum(-1)

    start = torch.zeros(v, n, dtype=torch.float64)
    found, value = evolve(evaluate, start, generations, 12, Draws(("search",), members))
    return found - bottom, value


def test_a_turned_valley_is_followed_to_its_bottom() -> None:
    """A deviation alike in all directions would crawl: the condition number is 1000."""
    apart, value = minimum(8, 3, range(3), 250)
    assert apart.abs().max() < 1e-4
    assert value.max() < 1e-8


def test_a_problem_does_not_depend_on_its_neighbours() -> None:
    together, _ = minimum(6, 3, range(3), 60)
    alone, _ = minimum(6, 1, range(2, 3), 60)
    assert torch.allclose(together[2:], alone, atol=1e-9)


def test_values_that_are_not_finite_are_avoided() -> None:
    def evaluate(points: torch.Tensor, draws: Draws) -> torch.Tensor:
        value = (points - 1).square().sum(-1)
        return torch.where(points[..., 0] < 0, torch.nan, value)

    found, value = evolve(evaluate, torch.full((2, 4), 0.5), 80, 12, Draws(("search",), range(2)))
    assert torch.allclose(found, torch.ones(2, 4), atol=1e-2)
    assert value.max() < 1e-3
