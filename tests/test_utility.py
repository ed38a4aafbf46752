"""Utility of nets whose clients compute at weights of their own."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from pydantic.dataclasses import dataclass
from scene import net_of
from torch import Tensor, nn

from gibench.datasets import Parts
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.message import own_weights
from gibench.types import Images, Memory
from gibench.utility import memory_of, utility_of


@dataclass(frozen=True)
class OwnBias(Defense):
    """Clients hold a last bias of their own, in their memory."""

    named: ClassVar[bool] = False

    def weights(self, net: nn.Module, draws: Draws, memory: Memory) -> dict[str, Tensor] | None:
        *_, last = own = own_weights(net, len(draws.members))
        return own | ({last: memory["bias"]} if memory else {})


def test_clients_are_counted_around() -> None:
    kept = memory_of({"a": torch.tensor([[10.0], [20], [30]])}, range(2, 7))
    assert kept["a"].flatten().tolist() == [30, 10, 20, 30, 10]


def test_image_i_is_classified_with_the_weights_of_client_i(digits: Parts) -> None:
    net, n = net_of("lenet(width=4)", 1, 10), 150
    test = Images(digits.test.x[:n], digits.test.y[:n])
    sure = 1e3 * torch.eye(10)[[3, 8, 5]]  # three clients, each always answers its own class
    found = utility_of(net, OwnBias(), test, Draws(("u",)), "", {"bias": sure})
    answers = torch.tensor([3, 8, 5]).repeat(n // 3)
    assert found["utility"] == pytest.approx(float((answers == test.y).double().mean()))
    plain = utility_of(net, Defense(), test, Draws(("u",)), "", {})
    same = utility_of(net, OwnBias(), test, Draws(("u",)), "", {})
    assert same == pytest.approx(plain, rel=1e-4)
