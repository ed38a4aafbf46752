"""The optimisers on problems whose answers are known."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from gibench.draws import Draws
from gibench.engine.optimisers import Point, Search, adam, lbfgs, left, pace

D = Draws(("optimise",), range(4))


def rosenbrock(point: Point, _: Draws) -> Tensor:
    x, y = point["a"].unbind(1)
    return (1 - x).square() + 100 * (y - x.square()).square()


def test_lbfgs_finds_the_minimum_of_every_problem() -> None:
    start = torch.tensor([[-1.2, 1.0], [0.0, 0.0], [2.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    point, value = lbfgs(rosenbrock, {"a": start}, Search(200, optimizer="lbfgs", history=10), D)
    assert value.max() < 1e-20
    assert (point["a"] - 1).abs().max() < 1e-9


def test_lbfgs_solves_each_problem_for_itself() -> None:
    start = torch.tensor([[-1.2, 1.0], [0.5, 0.3], [2.0, -1.0], [-2.0, 3.0]], dtype=torch.float64)
    search = Search(12, optimizer="lbfgs", history=5)
    together, loss = lbfgs(rosenbrock, {"a": start}, search, D)
    for i in range(4):
        alone, own = lbfgs(rosenbrock, {"a": start[i : i + 1]}, search, D)
        assert torch.allclose(alone["a"][0], together["a"][i], atol=1e-12)
        assert abs(float(own - loss[i])) < 1e-12


def test_lbfgs_is_as_good_as_scipys() -> None:
    """An ill-conditioned bowl in 50 dimensions: only a right memory gets down."""
    scales = np.logspace(0, 4, 50)

    def bowl(point: Point, _: Draws) -> Tensor:
        return (torch.tensor(scales) * point["a"].square()).sum(1)

    for steps in (60, 300):
        options = {"maxcor": 20, "maxiter": steps, "ftol": 0, "gtol": 0}
        known = minimize(
            lambda a: (scales * a * a).sum(),
            np.ones(50),
            jac=lambda a: 2 * scales * a,
            method="L-BFGS-B",
            options=options,
        )
        _, value = lbfgs(bowl, {"a": torch.ones(4, 50, dtype=torch.float64)}, Search(steps, history=20), D)
        assert value.max() < 2 * known.fun


def test_lbfgs_never_climbs_and_survives_a_wall() -> None:
    def walled(point: Point, _: Draws) -> Tensor:  # not finite left of zero
        return point["a"].sum(1) - point["a"].log().sum(1)

    start = torch.tensor([[3.0], [1e-3], [50.0], [1.0]], dtype=torch.float64)
    point, value = lbfgs(walled, {"a": start}, Search(60), D)
    assert torch.allclose(point["a"], torch.ones_like(start), atol=1e-6)
    assert torch.allclose(value, torch.ones(4, dtype=torch.float64))


def test_adam_keeps_x_in_the_box_and_other_unknowns_free() -> None:
    def away(point: Point, _: Draws) -> Tensor:
        return (point["x"] - 3).square().sum(1) + (point["z"] + 5).square().sum(1)

    start = {"x": torch.full((4, 2), 0.5), "z": torch.zeros(4, 2)}
    point, value = adam(away, start, Search(400, lr=0.1, schedule="flat"), D)
    assert torch.equal(point["x"], torch.ones(4, 2))
    assert (point["z"] + 5).abs().max() < 0.1
    assert torch.allclose(value, away(point, D))


def test_adam_hands_over_the_best_point_that_it_saw() -> None:
    def narrow(point: Point, _: Draws) -> Tensor:
        return (point["x"] - 0.3).abs().sum(1)

    start = {"x": torch.full((4, 1), 0.31)}
    point, value = adam(narrow, start, Search(3, lr=1.0, schedule="flat"), D)
    assert torch.equal(point["x"], start["x"])
    assert torch.allclose(value, torch.full((4,), 0.01), atol=1e-6)


def test_continuation_steers_and_has_no_say_in_which_point_is_best() -> None:
    """A penalty that pulls to 1 moves the first steps there; what comes back is the best of the objective alone."""
    seen = []

    def at_zero(point: Point, _: Draws) -> Tensor:
        seen.append(point["x"].mean().item())
        return point["x"].square().sum(1)

    start, search = {"x": torch.full((4, 1), 0.5)}, Search(400, lr=0.05, continuation=10.0)
    point, value = adam(at_zero, start, search, D, lambda point: (1 - point["x"]).sum(1))
    assert max(seen) > 0.9
    assert value.max() < 1e-3
    assert torch.equal(value, at_zero(point, D))
    assert left(0, 400) == 1
    assert left(400, 400) == 0


def test_noise_is_each_problems_own() -> None:
    def bowl(point: Point, _: Draws) -> Tensor:
        return (point["x"] - 0.5).square().sum(1)

    search = Search(5, lr=0.1, sign=False, jitter=0.5)
    both, _ = adam(bowl, {"x": torch.zeros(4, 3)}, search, D)
    one, _ = adam(bowl, {"x": torch.zeros(1, 3)}, search, Draws(("optimise",), (2,)))
    assert torch.equal(one["x"][0], both["x"][2])
    assert not torch.equal(both["x"][0], both["x"][1])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", {0: 1.0, 50: 0.5, 100: 0.0}),
        ("step", {0: 1.0, 37: 1.0, 38: 0.1, 63: 0.01, 88: 1e-3}),
        ("exponential", {0: 1.0, 20: math.exp(-1), 100: math.exp(-5)}),
        ("flat", {0: 1.0, 99: 1.0}),
        ("warmup", {0: 0.02, 49: 0.5 * (1 + math.cos(math.pi * 0.49))}),
    ],
)
def test_the_pace_of_a_schedule(schedule: str, expected: dict[int, float]) -> None:
    for step, share in expected.items():
        assert pace(schedule, step, 100) == pytest.approx(share)
